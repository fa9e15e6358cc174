"""The fused edge block of one ClofNet layer with products in each precision that float32 and bfloat16 can have.

``python -m benchmarks.bench_precision`` prints a table and writes JSON. What multiplies depends on the processor: see
``clof-ext info``.
"""

import argparse
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.bench_frame_message import Batch
from clof_ext import _backends, ops, prepare_graph
from clof_ext.bench import machine, record
from clof_ext.bench.timing import interleave, milliseconds

RESULTS = Path(__file__).parent / "results"
FORMAT = 1
DEVICE = torch.device("cpu")
# dtype of features and weights, torch.set_float32_matmul_precision
VARIANTS = [
    *((torch.float32, precision) for precision in ("highest", "high", "medium")),
    (torch.bfloat16, "highest"),
]


@dataclass(frozen=True)
class Layer:
    """The edge block of ClofNet's layers: three Linears to messages, two to coefficients."""

    batch: Batch
    dtype: torch.dtype
    precision: str

    def leaves(self) -> list[Tensor]:
        """h, pos, edge features, weights and biases, the same numbers for every dtype."""
        generator = torch.Generator().manual_seed(0)
        hidden, edges = self.batch.hidden, self.batch.edges().shape[1]

        def random(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        leaves = [random(self.batch.num_nodes, hidden), random(self.batch.num_nodes, 3), random(edges, hidden // 2)]
        for n_in in (2 * hidden + 1 + hidden // 2, hidden, hidden, hidden):
            leaves += [random(hidden, n_in) / n_in**0.5, 0.1 * random(hidden)]
        leaves.append(random(3, hidden) / hidden**0.5)
        geometry = torch.float64 if self.dtype == torch.float64 else torch.float32
        return [leaf.to(geometry if k == 1 else self.dtype).requires_grad_() for k, leaf in enumerate(leaves)]

    def calls(self) -> tuple[Callable[[], list[Tensor]], Callable[[], list[Tensor]]]:
        """The forward pass, and both passes with all gradients."""
        leaves, plan = self.leaves(), prepare_graph(self.batch.edges(), self.batch.num_nodes)
        h, pos, edge_attr, *weights = leaves

        def run() -> tuple[Tensor, Tensor]:
            torch.set_float32_matmul_precision(self.precision)
            return ops.frame_message(h, pos, plan, edge_attr, edge_mlp=weights[:6], coord_mlp=weights[6:])

        def step() -> list[Tensor]:
            outputs = run()
            return [*(out.detach() for out in outputs), *torch.autograd.grad([out.sum() for out in outputs], leaves)]

        return torch.no_grad()(lambda: list(run())), step


def largest_error(found: list[Tensor], exact: list[Tensor]) -> float:
    """In units of the largest value of each array."""
    return max(float((one - two).abs().max() / two.abs().max()) for one, two in zip(found, exact, strict=True))


def measure(batch: Batch, seconds: float) -> list[dict]:
    """Times of both passes and the error of every variant, timed in turn in one run."""
    layers = [Layer(batch, *variant) for variant in VARIANTS]
    calls = [layer.calls() for layer in layers]
    exact = Layer(batch, torch.float64, "highest").calls()[1]()
    errors = [largest_error(step(), exact) for _, step in calls]
    rows = []
    for number, name in enumerate(("forward", "forward + backward")):
        timed = {str(k): both[number] for k, both in enumerate(calls)}
        for layer, error, time in zip(
            layers, errors, interleave(timed, seconds=seconds, repeats=5, device=DEVICE).values()
        ):
            rows.append(
                {
                    "hidden": batch.hidden,
                    "dtype": str(layer.dtype).removeprefix("torch."),
                    "precision": layer.precision,
                    "pass": name,
                    **milliseconds(time),
                    "largest_error": error,
                }
            )
    return rows


def table(rows: list[dict]) -> str:
    lines = [f"{'hidden':>6} {'dtype':<9} {'precision':<9} {'pass':<19}{'ms':>8}{'quartiles':>16}{'error':>9}"]
    for row in rows:
        spread = f"{row['lower_ms']:.1f}-{row['upper_ms']:.1f}"
        lines.append(
            f"{row['hidden']:>6} {row['dtype']:<9} {row['precision']:<9} {row['pass']:<19}"
            f"{row['median_ms']:>8.1f}{spread:>16}{row['largest_error']:>9.0e}"
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_precision", description=__doc__)
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 128], help="hidden features")
    parser.add_argument("--systems", type=int, default=128, help="fully connected systems of 20 particles")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of PyTorch")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--output", type=Path, default=RESULTS)
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    batches = [Batch(options.systems, 20, hidden) for hidden in options.hidden]
    rows = [row for batch in batches for row in measure(batch, options.seconds)]
    unit = _backends.binary().bfloat16_unit()
    print(f"{batches[0].edges().shape[1]} edges, {options.threads} threads; bfloat16 is multiplied by: {unit}")
    print(table(rows))
    document = {
        "format": FORMAT,
        "benchmark": "precision",
        "command": shlex.join(["python", "-m", "benchmarks.bench_precision", *arguments]),
        **machine.describe(),
        "settings": {"edges": batches[0].edges().shape[1], "threads": options.threads, "bfloat16_unit": unit},
        "measurements": rows,
    }
    path = options.output / f"precision_{machine.slug(DEVICE)}.json"
    record.write(path, document)
    print(f"wrote {path}")


if __name__ == "__main__":
    main(sys.argv[1:])
