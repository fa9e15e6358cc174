"""One layer of EGNN and of ClofNet as other libraries run it, beside clof_ext, on the CPU.

Run ``python -m benchmarks.peers``; ``--help`` lists what can be chosen.
"""

import argparse
import contextlib
import os
import shlex
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch

from clof_ext.bench import machine, record
from clof_ext.bench.one_layer import Size
from clof_ext.bench.run import clock, empty_compile_cache, threads

from . import table
from .measure import PEERS, Effort, measure

RESULTS = Path(__file__).parent.parent / "results"
SECONDS, REPEATS = 2.0, 9
DEFAULTS = {"systems": 128, "particles": [20, 5], "hidden": 64}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table and write the JSON; the exit code is 1 if a program computes something else."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parse(arguments)
    effort = Effort(SECONDS, REPEATS, time.process_time if options.busy else time.perf_counter)
    stem = _stem(options)
    with threads(1 if options.busy else torch.get_num_threads()):
        document = _head(arguments, options)
        say = clock()
        with on_cores(torch.get_num_threads()), empty_compile_cache():
            document["cases"] = [measure(size, effort, say) for size in _sizes(options)]
    print("\n".join(table.text(document)))
    path = options.output / f"{stem}.json"
    record.write(path, document)
    say(f"wrote {path}")
    return 1 if any("does not agree" in why for case in document["cases"] for why in case["left_out"].values()) else 0


@contextlib.contextmanager
def on_cores(count: int) -> Iterator[None]:
    """Keep this thread, and those that it starts, on so many cores: XLA has no other setting of its threads."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:count])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _sizes(options: argparse.Namespace) -> list[Size]:
    """Each layer at each number of particles, with the width of edge features that its published network has."""
    edge_dims = {"egnn": 2, "clofnet": options.hidden // 2}
    return [
        Size(network, options.systems * n, n - 1, options.hidden, edge_dim)
        for network, edge_dim in edge_dims.items()
        for n in options.particles
    ]


def _parse(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__.splitlines()[0])
    parser.add_argument("--systems", type=int, help="systems in a batch (default: %(default)s)")
    parser.add_argument("--particles", type=int, nargs="+", help="of each system (default: %(default)s)")
    parser.add_argument("--hidden", type=int, help="features of nodes and messages (default: %(default)s)")
    parser.add_argument("--busy", action="store_true", help="on a busy machine: processor time of one thread")
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON (default: %(default)s)")
    parser.set_defaults(**DEFAULTS)
    options = parser.parse_args(arguments)
    for name, least in {"systems": 1, "hidden": 2}.items():
        if getattr(options, name) < least:
            parser.error(f"--{name} must be at least {least}; got {getattr(options, name)}.")
    if min(options.particles) < 2:
        parser.error(f"--particles must be at least 2; got {min(options.particles)}.")
    return options


def _stem(options: argparse.Namespace) -> str:
    """A file name that tells machines and choices apart."""
    chosen = {name: value for name in DEFAULTS if (value := getattr(options, name)) != DEFAULTS[name]}
    words = [f"{name}-{'-'.join(map(str, value)) if name == 'particles' else value}" for name, value in chosen.items()]
    return "_".join(["peers", machine.slug(torch.device("cpu")), *words])


def _head(arguments: Sequence[str], options: argparse.Namespace) -> dict:
    about = machine.describe()
    packages = dict.fromkeys(package for peer in PEERS.values() for package in peer.packages)
    about["versions"] |= {package: machine.distribution(package) for package in packages}
    return {
        "format": record.FORMAT,
        "benchmark": "peers",
        "command": shlex.join(["python", "-m", "benchmarks.peers", *arguments]),
        **about,
        "settings": {"dtype": "float32", "device": "cpu", "busy": options.busy, "seconds": SECONDS, "repeats": REPEATS},
    }


if __name__ == "__main__":
    sys.exit(main())
