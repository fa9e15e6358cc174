"""Time, memory and error of one layer over sizes: in eager PyTorch, under torch.compile, and with clof_ext.

Run ``python -m benchmarks.sweep``; ``--help`` lists what can be chosen. One quantity is varied at a time around the
layer of the published tasks (128 systems of 20 particles, 64 features), and some corners are measured. A run ends after
some minutes; ``--resume`` goes on with the file that it wrote.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import torch

from clof_ext.bench import machine, record
from clof_ext.bench.agreement import DisagreementError
from clof_ext.bench.one_layer import Size, about
from clof_ext.bench.run import clock, empty_compile_cache, threads

from . import sweep_report
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
# Features of all messages, E x H, from which on a size waits until the others are measured, and nothing is compiled.
LARGE = 30e6
# More than a layer's sizes need.
RECOMPILATIONS = 100
# A run that shows within a minute that everything works. Its times mean little.
QUICK_AXES = (Axis(replace(CLOFNET, nodes=40, hidden=16, edge_dim=8), "nodes", (20, 100)),)
QUICK_CORNERS = (replace(EGNN, nodes=5, neighbours=4, hidden=16), replace(CLOFNET, nodes=20_000))
QUICK_TWICE = QUICK_CORNERS[:1]
LIMITS = Limits(
    seconds=0.4, repeats=3, longest_call=4.0, memory=machine.available_bytes() * 3 // 4, compiled=LARGE, minutes=9.0
)
QUICK_LIMITS = replace(LIMITS, seconds=0.02, longest_call=0.01)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with the threads that were asked for; see ``_run``."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parse(arguments)
    limits = replace(QUICK_LIMITS if options.quick else LIMITS, busy=options.busy, minutes=options.minutes)
    with threads(1 if limits.busy else torch.get_num_threads()):
        return _run(arguments, options, limits)


def _run(arguments: Sequence[str], options: argparse.Namespace, limits: Limits) -> int:
    """Measure, print the table and write the files; the exit code is 1 if clof_ext computes something else."""
    axes, corners, twice = (QUICK_AXES, QUICK_CORNERS, QUICK_TWICE) if options.quick else (AXES, CORNERS, TWICE)
    stem = "_".join(["sweep", machine.slug(torch.device("cpu")), *(["quick"] if options.quick else [])])
    path = options.output / f"{stem}.json"
    document = _head(arguments, axes, limits)
    if options.resume:
        try:
            document = resumed(record.read(path), document)
        except (OSError, ValueError) as error:
            print(f"--resume is not possible: {error}", file=sys.stderr)
            return 2
    try:
        # Sizes, and gradients that are there or not, make other programs; at its limit torch.compile would run eagerly.
        with empty_compile_cache(), torch._dynamo.config.patch(recompile_limit=RECOMPILATIONS):
            _measure(document, ordered(axes, corners), twice, limits, path)
    except DisagreementError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    print(sweep_report.text(document))
    for written in sweep_report.write(document, path):
        print(f"wrote {written}", file=sys.stderr)
    return 0


def _measure(document: dict, sizes: Sequence[Size], twice: Sequence[Size], limits: Limits, path: Path) -> None:
    """Measure what the document lacks; the file holds each size as soon as it is measured."""
    started, run = time.perf_counter(), document["runs"][-1]
    run["gemm"] = {"before": _gemm(limits)}
    sweep = Sweep(limits, max(run["gemm"]["before"].values()), clock())
    seconds = {_size_of(case): case for case in document["second_derivatives"]}
    seconds |= {
        size: sweep.measure_second_derivatives(size)
        for size in twice
        if size not in seconds or not _is_good(seconds[size])
    }
    document["second_derivatives"] = list(seconds.values())
    known = {_size_of(case): case for case in document["cases"]}
    # What others disturbed comes after what was never measured.
    for size in sorted(sizes, key=lambda size: size in known and bool(known[size]["measurements"])):
        if size not in known or not _is_good(known[size]):
            case = sweep.measure(size)
            # A disturbed measurement is better than none, and of two reasons for none the later one.
            if case["measurements"] or size not in known or not known[size]["measurements"]:
                known[size] = case
            document["cases"] = [known[one] for one in sizes if one in known]
            _finish(document, run, started)
            record.write(path, document)
    run["gemm"]["after"] = _gemm(limits)
    _finish(document, run, started)


def _finish(document: dict, run: dict, started: float) -> None:
    run["seconds"] = round(time.perf_counter() - started, 1)
    rates = [rate for run in document["runs"] for rates in run["gemm"].values() for rate in rates.values()]
    document["gemm"] = {"largest": max(rates)}


def _is_good(case: dict) -> bool:
    """Whether it was measured, while other programs left the machine alone."""
    rows = case["measurements"]
    return bool(rows) and not sweep_report.disturbed(case)


def _size_of(case: dict) -> Size:
    return Size(**{field.name: case[field.name] for field in fields(Size) if field.name in case})


def resumed(old: dict, head: dict) -> dict:
    """An earlier run's document, to go on with.

    Raises:
        ValueError: it was made on another machine, with other versions, or with other efforts.
    """
    for name, ignored in {"machine": {"load"}, "versions": set(), "settings": {"minutes", "memory"}}.items():
        was, now = ({key: value for key, value in one[name].items() if key not in ignored} for one in (old, head))
        if was != now:
            raise ValueError(f"{name} must be as in the earlier run, {was}; got {now}.")
    return old | {"runs": old["runs"] + head["runs"]}


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
        "--resume",
        action="store_true",
        help="go on with the file of an earlier run: what it lacks, and what others disturbed",
    )
    parser.add_argument(
        "--minutes", type=float, default=LIMITS.minutes, help="after which no size is begun (default: %(default)s)"
    )
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="folder of the JSON and PNG (default: %(default)s)"
    )
    return parser.parse_args(arguments)


def _gemm(limits: Limits) -> dict[str, float]:
    effort = {"seconds": limits.seconds, "repeats": limits.repeats, "clock": limits.clock}
    return gemm_rates(**effort, device=torch.device("cpu"))


def _head(arguments: Sequence[str], axes: Sequence[Axis], limits: Limits) -> dict:
    about, command = machine.describe(), shlex.join(["python", "-m", "benchmarks.sweep", *arguments])
    run = {"command": command, "load": about["machine"]["load"], "commit": about["commit"], "date": about["date"]}
    return {
        "format": record.FORMAT,
        "benchmark": "sweep",
        "command": command,
        **about,
        "runs": [run],
        "settings": {"dtype": "float32", "device": "cpu", **asdict(limits)},
        "axes": [{"name": axis.name, "sizes": [asdict(size) for size in axis.sizes()]} for axis in axes],
        "second_derivatives": [],
        "cases": [],
    }


if __name__ == "__main__":
    sys.exit(main())
