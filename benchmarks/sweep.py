"""Time, memory and error of one layer over sizes: in eager PyTorch, under torch.compile, and with clof_ext.

Run ``python -m benchmarks.sweep``; ``--help`` lists what can be chosen. One quantity is varied at a time around the
layer of the published tasks (128 systems of 20 particles, 64 features), and some corners are measured.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from clof_ext.bench import machine
from clof_ext.bench.agreement import DisagreementError
from clof_ext.bench.one_layer import Size, about
from clof_ext.bench.run import clock, empty_compile_cache, threads

from . import report, sweep_report
from .gemm import gemm_rates
from .sweep_measure import Limits, Sweep

RESULTS = Path(__file__).parent / "results"
PARTICLES = 128 * 20
CLOFNET = Size("clofnet", PARTICLES, neighbours=19, hidden=64, edge_dim=32)
EGNN = replace(CLOFNET, network="egnn", edge_dim=2)


@dataclass(frozen=True)
class Axis:
    """Sizes that differ from a centre in one quantity."""

    centre: Size
    name: str
    values: tuple[int, ...]

    def sizes(self) -> list[Size]:
        return [self._at(value) for value in self.values]

    def _at(self, value: int) -> Size:
        size = replace(self.centre, **{self.name: value})
        return replace(size, nodes=about(size.nodes, size.neighbours))


AXES = (
    Axis(CLOFNET, "nodes", (20, 100, 500, PARTICLES, 20_000, 100_000)),
    Axis(CLOFNET, "neighbours", (4, 19, 50, 100, 200)),
    Axis(EGNN, "nodes", (20, 500, PARTICLES, 20_000, 100_000)),
    Axis(EGNN, "neighbours", (4, 19, 100)),
    Axis(CLOFNET, "hidden", (16, 32, 64, 128, 256)),
    Axis(CLOFNET, "edge_dim", (0, 8, 32, 128)),
    Axis(EGNN, "hidden", (16, 64, 256)),
    Axis(EGNN, "edge_dim", (0, 2, 128)),
)
CORNERS = (
    replace(CLOFNET, graph="random"),
    replace(EGNN, graph="random"),
    replace(CLOFNET, nodes=20_000, graph="random"),
    replace(CLOFNET, nodes=5, neighbours=4),
    replace(EGNN, nodes=5, neighbours=4),
    replace(CLOFNET, nodes=640, neighbours=4),
    replace(CLOFNET, nodes=100_000, neighbours=4),
    replace(CLOFNET, nodes=5, neighbours=4, hidden=16, edge_dim=0),
    replace(CLOFNET, nodes=5, neighbours=4, hidden=256, edge_dim=128),
    replace(CLOFNET, nodes=100_000, neighbours=4, hidden=16, edge_dim=0),
    replace(CLOFNET, nodes=about(640, 200), neighbours=200, hidden=256, edge_dim=128),
    replace(CLOFNET, nodes=about(100_000, 50), neighbours=50),
    replace(CLOFNET, nodes=about(100_000, 200), neighbours=200),
    replace(CLOFNET, nodes=100_000, neighbours=19, hidden=256, edge_dim=128),
)
# Layers whose second derivatives are timed: a quarter of a batch, because they run unfused.
TWICE = (replace(CLOFNET, nodes=640), replace(EGNN, nodes=640))
# Features of all messages, E x H, from which on a size waits until the others are measured.
LARGE = 20e6
# A run that shows within a minute that everything works. Its times mean little.
QUICK_AXES = (Axis(replace(CLOFNET, nodes=40, hidden=16, edge_dim=8), "nodes", (20, 100)),)
QUICK_CORNERS = (replace(EGNN, nodes=5, neighbours=4, hidden=16), replace(CLOFNET, nodes=20_000))
QUICK_TWICE = QUICK_CORNERS[:1]
LIMITS = Limits(seconds=0.4, repeats=3, shortest_call=2.5, memory=machine.memory_bytes() // 2, minutes=9.0)
QUICK_LIMITS = replace(LIMITS, seconds=0.02, shortest_call=0.01)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with the threads that were asked for; see ``_run``."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parse(arguments)
    limits = replace(QUICK_LIMITS if options.quick else LIMITS, busy=options.busy)
    with threads(1 if limits.busy else torch.get_num_threads()):
        return _run(arguments, options, limits)


def _run(arguments: Sequence[str], options: argparse.Namespace, limits: Limits) -> int:
    """Measure, print the table and write the files; the exit code is 1 if clof_ext computes something else."""
    axes, corners, twice = (QUICK_AXES, QUICK_CORNERS, QUICK_TWICE) if options.quick else (AXES, CORNERS, TWICE)
    document = _head(arguments, axes, limits)
    started = time.perf_counter()
    rates = [_gemm(limits)]
    sweep = Sweep(limits, max(rates[0].values()), clock())
    try:
        with empty_compile_cache():
            document["second_derivatives"] = [sweep.measure_second_derivatives(size) for size in twice]
            document["cases"] = [sweep.measure(size) for size in ordered(axes, corners)]
    except DisagreementError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    rates.append(_gemm(limits))
    document["gemm"] = {"before": rates[0], "after": rates[1], "largest": max(max(rate.values()) for rate in rates)}
    document["seconds"] = round(time.perf_counter() - started, 1)
    print(sweep_report.text(document))
    stem = "_".join(["sweep", machine.slug(torch.device("cpu")), *(["quick"] if options.quick else [])])
    for path in sweep_report.write(document, options.output, stem):
        print(f"wrote {path}", file=sys.stderr)
    return 0


def ordered(axes: Sequence[Axis], corners: Sequence[Size]) -> list[Size]:
    """All sizes once: large ones last, which a run without time leaves out; before that layer by layer in the order in
    which they are named, because each layer is compiled once; of one layer the smallest graph first."""
    sizes = dict.fromkeys([*(size for axis in axes for size in axis.sizes()), *corners])
    layers = list(dict.fromkeys(size.layer for size in sizes))
    return sorted(sizes, key=lambda size: (size.edges * size.hidden > LARGE, layers.index(size.layer), size.edges))


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sweep", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="few tiny sizes, to see that all works")
    parser.add_argument("--busy", action="store_true", help="on a busy machine: processor time of one thread")
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="folder of the JSON and PNG (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _gemm(limits: Limits) -> dict[str, float]:
    effort = {"seconds": limits.seconds, "repeats": limits.repeats, "clock": limits.clock}
    return gemm_rates(**effort, device=torch.device("cpu"))


def _head(arguments: Sequence[str], axes: Sequence[Axis], limits: Limits) -> dict:
    return {
        "format": report.FORMAT,
        "benchmark": "sweep",
        "command": shlex.join(["python", "-m", "benchmarks.sweep", *arguments]),
        **machine.describe(),
        "settings": {"dtype": "float32", "device": "cpu", **asdict(limits)},
        "axes": [{"name": axis.name, "sizes": [asdict(size) for size in axis.sizes()]} for axis in axes],
    }


if __name__ == "__main__":
    sys.exit(main())
