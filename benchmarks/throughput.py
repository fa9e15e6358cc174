"""Throughput of the published ClofNet and EGNN: in eager PyTorch, under torch.compile, and with clof_ext's layers.

Run ``python -m benchmarks.throughput``; ``--help`` lists what can be chosen.
"""

import argparse
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import torch

from clof_ext.bench import compare, machine, record
from clof_ext.bench.agreement import TOLERANCE, DisagreementError
from clof_ext.bench.run import clock, empty_compile_cache
from clof_ext.training import ExplainedError

from . import report
from .measure import measure_case
from .workload import CASES, DEVICES, DTYPES, Settings

RESULTS = Path(__file__).parent / "results"
# A run that shows within seconds that everything works. Its times mean nothing.
QUICK = Settings(hidden=16, n_layers=2, n_systems=4, seconds=0.02, repeats=3)
# Settings that the command line can name.
SETTABLE = ("hidden", "n_systems", "dtype", "device")
QUICK_CASES = ("clofnet-5", "egnn-5")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the files.

    Returns:
        The exit code: 1 if clof_ext computes something else, or is worse than in the run that it is compared with;
        2 if the two cannot be compared.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    try:
        return _run(arguments, _parse(arguments))
    except ExplainedError as error:
        print(error, file=sys.stderr)
        return 2


def _run(arguments: Sequence[str], options: argparse.Namespace) -> int:
    settings = _settings(options)
    say = clock()
    document = _head(arguments, settings)
    # Before this run's file may take its place.
    old = compare.read_old(options.compare, document)
    started = time.perf_counter()
    try:
        with empty_compile_cache():
            document["cases"] = [measure_case(name, settings, say) for name in _cases(options)]
    except DisagreementError as error:
        print(f"FAILED: {error}", file=sys.stderr)
        return 1
    document["seconds"] = round(time.perf_counter() - started, 1)
    print(report.table(document))
    for path in report.write(document, options.output, _stem(options)):
        say(f"wrote {path}")
    return 0 if old is None else compare.report(old, document)


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.throughput", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes and few repeats, to see that all works")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="network and particles per system (default: all)")
    parser.add_argument("--hidden", type=int, help=f"hidden size (default: {Settings.hidden})")
    parser.add_argument(
        "--systems", type=int, dest="n_systems", help=f"systems in a batch (default: {Settings.n_systems})"
    )
    parser.add_argument("--dtype", choices=DTYPES, help=f"of weights and inputs (default: {Settings.dtype})")
    parser.add_argument("--device", choices=DEVICES, help=f"default: {Settings.device}")
    compare.add_option(parser)
    parser.add_argument(
        "--output", type=Path, default=RESULTS, help="folder of the JSON, CSV and PNG (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    if options.hidden is not None and options.hidden < 2:
        parser.error(f"--hidden must be at least 2; got {options.hidden}.")
    if options.n_systems is not None and options.n_systems < 1:
        parser.error(f"--systems must be at least 1; got {options.n_systems}.")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("--device cuda: this PyTorch finds no CUDA device.")
    return options


def _chosen(options: argparse.Namespace) -> dict:
    """The settings that the command line names."""
    return {name: value for name in SETTABLE if (value := getattr(options, name)) is not None}


def _settings(options: argparse.Namespace) -> Settings:
    return replace(QUICK if options.quick else Settings(), **_chosen(options))


def _cases(options: argparse.Namespace) -> tuple[str, ...]:
    return tuple(options.cases or (QUICK_CASES if options.quick else CASES))


def _stem(options: argparse.Namespace) -> str:
    """A file name that tells machines and choices apart, so that no run overwrites results of another kind."""
    device = torch.device(_settings(options).device)
    chosen = [f"{name}-{value}" for name, value in _chosen(options).items() if name != "device"]
    quick = ["quick"] if options.quick else []
    return "_".join(["throughput", machine.slug(device), *quick, *chosen, *(options.cases or ())])


def _head(arguments: Sequence[str], settings: Settings) -> dict:
    return {
        "format": record.FORMAT,
        "benchmark": "throughput",
        "command": shlex.join(["python", "-m", "benchmarks.throughput", *arguments]),
        **machine.describe(),
        "settings": asdict(settings),
        "tolerance": TOLERANCE[DTYPES[settings.dtype]],
    }


if __name__ == "__main__":
    sys.exit(main())
