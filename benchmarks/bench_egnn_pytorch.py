"""Layers of the installed package egnn-pytorch, plain and replaced, on the CPU.

``python -m benchmarks.bench_egnn_pytorch`` prints a table of times and of the memory that a call adds, and writes JSON.
"""

import argparse
import copy
import json
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

import clof_ext
from clof_ext.bench import machine
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.run import clock, threads
from clof_ext.bench.timing import interleave
from clof_ext.training import replace_file

RESULTS = Path(__file__).parent / "results"
FORMAT = 1
CPU = torch.device("cpu")
SECONDS, REPEATS = 0.4, 7
MS, MIB = 1e3, 2**20
PASSES = ("forward", "training")
HEADERS = ("layer", "features", "batch", "pass", "ms", "replaced", "times faster", "peak MiB", "replaced")
SPARSE_NEIGHBOURS = 19


@dataclass(frozen=True)
class Size:
    """A layer and its batch: ``graphs`` systems of ``nodes`` nodes. ``neighbours`` of 0 are all."""

    layer: str
    features: int
    graphs: int
    nodes: int
    neighbours: int = 0
    masked: bool = False

    def make(self) -> tuple[nn.Module, dict[str, Tensor]]:
        """The layer with the package's initial weights, and arguments of a call."""
        import egnn_pytorch

        torch.manual_seed(0)
        if self.layer == "EGNN_Sparse":
            receiver = torch.arange(self.nodes).repeat_interleave(SPARSE_NEIGHBOURS)
            edges = torch.stack((torch.randint(0, self.nodes, receiver.shape), receiver))
            x = torch.randn(self.nodes, 3 + self.features)
            return egnn_pytorch.EGNN_Sparse(self.features), {"x": x, "edge_index": edges}
        layer = egnn_pytorch.EGNN(self.features, num_nearest_neighbors=self.neighbours)
        shape = self.graphs, self.nodes
        inputs = {"feats": torch.randn(*shape, self.features), "coors": torch.randn(*shape, 3)}
        if self.masked:
            # From two fifths of the places on are taken, evenly.
            filled = torch.linspace(0.4, 1, self.graphs) * self.nodes
            inputs["mask"] = torch.arange(self.nodes) < filled.ceil()[:, None]
        return layer, inputs

    def __str__(self) -> str:
        words = [f"{self.graphs} x {self.nodes}"]
        words += [f"{self.neighbours} nearest"] * (self.neighbours > 0) + ["masked"] * self.masked
        return ", ".join(words)


SIZES = [
    *(Size("EGNN", features, *batch) for features in (64, 32) for batch in ((32, 20), (1, 20), (4, 100), (1, 100))),
    Size("EGNN", 64, 32, 20, masked=True),
    Size("EGNN", 64, 4, 100, neighbours=8),
    *(Size("EGNN_Sparse", features, 1, 640) for features in (64, 32)),
]


def forward(layer: nn.Module, inputs: dict[str, Tensor]) -> None:
    with torch.no_grad():
        layer(**inputs)


def training(layer: nn.Module, inputs: dict[str, Tensor]) -> None:
    """Both passes, with the gradients of weights and floating inputs."""
    inputs = {
        name: value.detach().requires_grad_() if value.is_floating_point() else value for name, value in inputs.items()
    }
    returned = layer(**inputs)
    total = sum(out.sum() for out in (returned if isinstance(returned, tuple) else (returned,)))
    wanted = [*layer.parameters(), *(value for value in inputs.values() if value.requires_grad)]
    torch.autograd.grad(total, wanted, allow_unused=True)


def measure(size: Size, seconds: float, timer: Callable[[], float]) -> list[dict]:
    """A row for each pass."""
    layer, inputs = size.make()
    fused = copy.deepcopy(layer)
    clof_ext.replace_layers(fused, verify=inputs)
    rows = []
    for name, call in zip(PASSES, (forward, training), strict=True):
        calls = {"package": partial(call, layer, inputs), "replaced": partial(call, fused, inputs)}
        timings = interleave(calls, seconds=seconds, repeats=REPEATS, device=CPU, clock=timer)
        times = {who: MS * timing.median for who, timing in timings.items()}
        peaks = {who: peak_bytes(run, CPU) / MIB for who, run in calls.items()}
        rows.append({**asdict(size), "batch": str(size), "pass": name, "ms": times, "peak_mib": peaks})
    return rows


def table(rows: list[dict]) -> list[str]:
    """Lines of Markdown."""
    lines = [HEADERS, ("---",) * len(HEADERS)]
    for row in rows:
        ms, peak = row["ms"], row["peak_mib"]
        numbers = ms["package"], ms["replaced"], ms["package"] / ms["replaced"], peak["package"], peak["replaced"]
        words = (row["layer"], str(row["features"]), row["batch"], row["pass"])
        lines.append((*words, *(f"{number:.3g}" for number in numbers)))
    return ["| " + " | ".join(line) + " |" for line in lines]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the JSON."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.bench_egnn_pytorch", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--busy", action="store_true", help="on a busy machine: processor time of one thread")
    parser.add_argument("--seconds", type=float, default=SECONDS, help="per program and pass (default: %(default)s)")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON (default: %(default)s)")
    options = parser.parse_args(arguments)
    timer, say, rows = time.process_time if options.busy else time.perf_counter, clock(), []
    with threads(1 if options.busy else torch.get_num_threads()):
        head = machine.describe()
        for size in SIZES:
            say(f"{size.layer} of {size.features} features, {size}")
            rows += measure(size, options.seconds, timer)
    head["versions"]["egnn-pytorch"] = machine.distribution("egnn-pytorch")
    command = shlex.join([*parser.prog.split(), *arguments])
    document = {"format": FORMAT, "command": command, "busy": options.busy, **head, "measurements": rows}
    path = options.output / f"egnn_pytorch_{machine.slug(CPU)}.json"
    replace_file(path, lambda target: target.write_text(json.dumps(document, indent=1) + "\n"))
    print("\n".join(table(rows)))


if __name__ == "__main__":
    main()
