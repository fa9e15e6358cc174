"""Published networks, eager and with clof_ext's layers, in each precision of products: on any device.

``python -m benchmarks.bench_network`` prints a line for each measurement and writes JSON. ``throughput`` compares equal
numbers; here are the faster products too: TF32 on GPUs, bfloat16 and three bfloat16 products on processors with AMX.
Ratios are to eager PyTorch with float32 tensors: at precision ``high`` (TF32) on GPUs, ``highest`` on CPUs.

A GPU's times are three: of one call from its start to the end of its work, of a call among many that follow each other,
as a training loop makes them, and of the replay of the call captured as a CUDA graph.
"""

import argparse
import itertools
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from clof_ext.bench import machine, record
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.run import matmul_precision
from clof_ext.bench.timing import Call, interleave, interleave_batches, milliseconds
from clof_ext.bench.variants import COMPILE, EAGER, FUSED, compiled, eager, fused

from .bench_edge_block import MS, captured, error
from .workload import CASES, DEVICES, PASSES, Settings, Workload, forward_backward

RESULTS = Path(__file__).parent / "results"
FORMAT = 1
REPEATS = 5
# What rows of GPUs have beside the time of one call, and what a table calls it.
GPU_TIMES = {"in_a_row_ms": "in a row", "graphed_ms": "as a CUDA graph"}


@dataclass(frozen=True)
class Program:
    """A network and the products that it is computed with."""

    make: Callable[[nn.Module], nn.Module]
    precision: str
    bfloat16: bool = False

    def prepared(self, network: nn.Module, device: torch.device) -> Callable[[Callable], object]:
        """A function that runs a call of the network at the program's precision."""
        made = self.make(network)

        def run(call: Callable) -> object:
            with matmul_precision(self.precision), torch.autocast(device.type, torch.bfloat16, enabled=self.bfloat16):
                return call(made)

        return run


def programs(device: torch.device, with_compile: bool) -> dict[str, Program]:
    """Programs by name; the first is what ratios are to."""
    base = "high" if device.type == "cuda" else "highest"
    found = {
        EAGER: Program(eager, base),
        "clof_ext highest": Program(fused, "highest"),
        "clof_ext high": Program(fused, "high"),
        "clof_ext bfloat16": Program(fused, "high", bfloat16=True),
    }
    if device.type == "cuda":
        found["eager highest"] = Program(eager, "highest")
    return {**found, COMPILE: Program(compiled, base)} if with_compile else found


def measure(case: str, settings: Settings, with_compile: bool) -> Iterator[dict]:
    """Figures of every program in both passes, timed in turn."""
    workload = Workload(CASES[case], settings)
    network = workload.make_predictor()
    runs = {
        name: program.prepared(network, workload.device)
        for name, program in programs(workload.device, with_compile).items()
    }
    for name, run_pass in PASSES.items():
        results = partial(RESULTS[name], workload)
        with matmul_precision("highest"):
            exact = results(network)
        errors = {key: error([run(results)], [exact]) for key, run in runs.items()}
        calls = {key: partial(run, partial(run_pass, workload)) for key, run in runs.items()}
        for call in calls.values():
            call()
        peaks = {key: peak_bytes(call, workload.device) for key, call in calls.items()}
        times = interleave(calls, seconds=settings.seconds, repeats=REPEATS, device=workload.device)
        more = gpu_times(calls, workload.device, settings.seconds) if workload.device.type == "cuda" else {}
        for key, time in times.items():
            yield {
                **{"case": case, "hidden": settings.hidden, "systems": settings.n_systems, "edges": workload.num_edges},
                **{"pass": name, "program": key, **milliseconds(time)},
                **{"ratio_to_eager": times[EAGER].median / time.median, "peak_bytes": peaks[key]},
                "error": errors[key],
                **more.get(key, {}),
            }


def gpu_times(calls: dict[str, Call], device: torch.device, seconds: float) -> dict[str, dict]:
    """Milliseconds of each call among many in a row, and as a CUDA graph; of torch.compile's without a graph."""
    in_a_row = interleave_batches(calls, seconds=seconds, repeats=REPEATS)
    found = {key: {"in_a_row_ms": MS * time.median} for key, time in in_a_row.items()}
    for key in calls:
        if key != COMPILE:
            # One at a time: a graph keeps the memory of its call.
            graph = interleave_batches({key: captured(calls[key], device)}, seconds=seconds, repeats=REPEATS)
            found[key]["graphed_ms"] = MS * graph[key].median
    return found


def displacement(workload: Workload, predictor: nn.Module) -> Tensor:
    """What the network adds to positions."""
    with torch.no_grad():
        return workload.predict(predictor, workload.inputs) - workload.inputs["x"]


def weight_gradients(workload: Workload, predictor: nn.Module) -> Tensor:
    """Those of a training step, side by side."""
    forward_backward(workload, predictor)
    return torch.cat([value.grad.flatten() for value in predictor.parameters() if value.grad is not None])


# What the error of a pass is that of.
RESULTS = {"forward": displacement, "forward+backward": weight_gradients}


def line(row: dict) -> str:
    return (
        f"{row['case']:<11}H={row['hidden']:<4} E={row['edges']:<8} {row['pass']:<17}{row['program']:<19}"
        f"{row['median_ms']:>9.3f} ms{row['ratio_to_eager']:>7.2f} x{row['peak_bytes'] / 1e6:>10.1f} MB"
        f"  error {row['error']:.0e}"
        + "".join(f"  {name} {row[key]:.3f} ms" for key, name in GPU_TIMES.items() if key in row)
    )


def table(document: dict) -> Iterator[str]:
    """The rows of a document, for a page."""
    rows = document["rows"]
    eager = {_size(row): row for row in rows if row["program"] == EAGER}
    more = {key: name for key, name in GPU_TIMES.items() if any(key in row for row in rows)}
    heads = ["network", "H", "edges", "pass", "program", "ms", "x eager"]
    heads += [head for name in more.values() for head in (f"ms {name}", "x eager")]
    heads += ["peak MB", "of eager's", "error"]
    yield f"| {' | '.join(heads)} |"
    yield f"| {' | '.join(['---'] * len(heads))} |"
    for row in rows:
        base = eager[_size(row)]
        compared = row["program"].startswith(FUSED) and row["peak_bytes"] > 0
        of_eager = f"1/{base['peak_bytes'] / row['peak_bytes']:.0f}" if compared else ""
        cells = [row["case"], f"{row['hidden']}", f"{row['edges']:,}", row["pass"], row["program"]]
        for key in ("median_ms", *more):
            both = key in row and key in base
            cells += [f"{row[key]:.3g}" if key in row else "", f"**{base[key] / row[key]:.1f}**" if both else ""]
        cells += [f"{row['peak_bytes'] / 1e6:.3g}", of_eager, f"{row['error']:.0e}"]
        yield f"| {' | '.join(cells)} |"


def _size(row: dict) -> tuple:
    """What rows of one comparison have in common."""
    return tuple(row[key] for key in ("case", "hidden", "edges", "pass"))


def main(arguments: Sequence[str] | None = None) -> None:
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_network", description=__doc__.splitlines()[0])
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["clofnet-20"], help="network and particles")
    parser.add_argument("--hidden", type=int, nargs="+", default=[Settings.hidden])
    parser.add_argument("--systems", type=int, nargs="+", default=[Settings.n_systems], help="systems in a batch")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON")
    options = parser.parse_args(arguments)
    device = torch.device(options.device)
    path = options.output / f"network_{machine.slug(device)}.json"
    document = {
        "format": FORMAT,
        "benchmark": "network",
        "command": shlex.join(["python", "-m", "benchmarks.bench_network", *arguments]),
        **machine.describe(),
        "settings": asdict(Settings(device=options.device, seconds=options.seconds)),
        "rows": [],
    }
    for case, hidden, systems in itertools.product(options.cases, options.hidden, options.systems):
        settings = Settings(hidden=hidden, n_systems=systems, device=options.device, seconds=options.seconds)
        for row in measure(case, settings, options.compile):
            document["rows"].append(row)
            print(line(row), flush=True)
        # Each time: a machine may go, and the next case fail, with what was measured.
        record.write(path, document)
    print(f"wrote {path}")


if __name__ == "__main__":
    main()
