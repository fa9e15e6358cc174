"""The command ``clof-ext bench``."""

import argparse
import itertools
import math
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import torch

from ..training import OptionError, check_device
from . import compare, machine, record
from .agreement import DisagreementError
from .measure import DTYPES, PASSES, Job, measure
from .one_layer import Size, about
from .run import clock, empty_compile_cache, threads
from .timing import DISTURBED

# The published layers: on complete frames, and along edges alone.
NETWORKS = {"complete": "clofnet", "radial": "egnn"}
REPEATS = 9
EXPLAINED = """\
ms: median and quartiles of the calls. x eager: times faster. peak: memory that one call adds.
error: the largest relative error of outputs and gradients against eager in float64.
cold: making the program and its first call, compilers included; warm-up: the second call. Neither is in ms.
J: energy that the processors take for a call; "-" where their counters (RAPL) cannot be read, and on GPUs."""
HEADERS = ("pass", "variant", "ms", "quartiles", "x eager", "peak MiB", "error", "cold s", "warm-up s", "J")


def add_commands(commands: "argparse._SubParsersAction") -> None:
    """Add ``bench`` to the parser of ``clof-ext``."""
    parser = commands.add_parser(
        "bench",
        help="measure a layer or network of your sizes on this machine: eager PyTorch, torch.compile, clof_ext",
        description="The published layers in plain PyTorch and after replace_layers, with equal weights, on fully "
        "connected systems of particles. Results are compared before anything is timed. Options with several values "
        "are combined, each with each.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    whole = {"type": int, "nargs": "+"}
    parser.add_argument("--nodes", **whole, default=[2560], help="of the batch; rounded to whole systems")
    parser.add_argument("--neighbors", **whole, default=[19], help="edges of each node")
    parser.add_argument("--hidden", **whole, default=[64], help="features of nodes and messages")
    parser.add_argument("--edge-dim", **whole, default=[32], help="features of an edge")
    parser.add_argument("--layers", **whole, default=[1], help="of the network")
    parser.add_argument("--basis", nargs="+", choices=NETWORKS, default=["complete"], help="ClofNet's layer or EGNN's")
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"], help="of weights and inputs")
    parser.add_argument("--passes", nargs="+", choices=PASSES, default=["forward", "forward+backward"], help="to time")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="of PyTorch, on the CPU")
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too; takes a while")
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all measurements")
    compare.add_option(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Measure, print the table and write the file.

    Returns:
        1 if clof_ext computes something else, or is worse than in the document that it is compared with.
    """
    _check(options)
    with threads(options.threads):
        document = _head(options)
        old = compare.read_old(options.compare, document)
        say = clock()
        try:
            with empty_compile_cache():
                document["cases"] = [measure(job, say) for job in jobs(options)]
        except DisagreementError as error:
            print(f"FAILED: {error}", file=sys.stderr)
            return 1
    print(table(document))
    if options.json:
        record.write(options.json, document)
        say(f"wrote {options.json}")
    return 0 if old is None else compare.report(old, document)


def _check(options: argparse.Namespace) -> None:
    """Raise OptionError for an option that cannot be."""
    least = {"nodes": 2, "neighbors": 1, "hidden": 2, "edge_dim": 0, "layers": 1}
    given = {name: min(getattr(options, name)) for name in least} | {"threads": options.threads}
    for name, value in given.items():
        if value < least.get(name, 1):
            raise OptionError(f"--{name.replace('_', '-')} must be at least {least.get(name, 1)}; got {value}.")
    if not 0 <= options.seconds < math.inf:
        raise OptionError(f"--seconds must be at least 0 and finite; got {options.seconds:g}.")
    check_device(options.device)


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Every combination of the sizes and dtypes."""
    axes = (options.basis, options.nodes, options.neighbors, options.hidden, options.edge_dim, options.layers)
    effort = {"compiled": options.compile, "seconds": options.seconds, "repeats": REPEATS}
    device = torch.device(options.device)
    for (basis, nodes, neighbors, hidden, edge_dim, layers), dtype in itertools.product(
        itertools.product(*axes), options.dtype
    ):
        size = Size(NETWORKS[basis], about(nodes, neighbors), neighbors, hidden, edge_dim, layers=layers)
        yield Job(size, dtype, options.passes, device=device, **effort)


def _head(options: argparse.Namespace) -> dict:
    return {
        "format": record.FORMAT,
        "benchmark": "bench",
        "command": shlex.join(["clof-ext", *options.words]),
        **machine.describe(),
        "settings": {"device": options.device, "seconds": options.seconds, "repeats": REPEATS},
    }


def table(document: dict) -> str:
    """All measurements as aligned text under the description of the machine."""
    parts = [f"{record.title(document)}; load at the start {document['machine']['load']}", EXPLAINED]
    for case in document["cases"]:
        parts += ["", case_title(case), *record.aligned([HEADERS, *map(_cells, case["measurements"])])]
        parts += [f"{variant} was not measured: {reason}" for variant, reason in case["left_out"].items()]
        others = max(row["others"] or 0 for row in case["measurements"])
        if others > DISTURBED:
            parts.append(f"Other programs used {others:.1f} cores meanwhile: measure again on a quiet machine.")
    return "\n".join(parts)


def case_title(case: dict) -> str:
    """The sizes in words."""
    layers = "1 layer" if case["layers"] == 1 else f"{case['layers']} layers"
    return (
        f"{case['network']}, {layers}, {case['nodes']} nodes x {case['neighbours']} neighbors, "
        f"hidden {case['hidden']}, edge features {case['edge_dim']}, {case['dtype']}"
    )


def _cells(row: dict) -> tuple[str, ...]:
    return (
        row["pass"],
        row["variant"],
        f"{row['median_ms']:.3g}",
        f"{row['lower_ms']:.3g}-{row['upper_ms']:.3g}",
        f"{row['ratio_to_eager']:.2f}",
        f"{row['peak_bytes'] / record.MIB:.2f}",
        f"{max(row['errors'].values()):.1e}",
        f"{row['cold_start_s']:.3f}",
        f"{row['warm_up_s']:.3f}",
        "-" if row["joules"] is None else f"{row['joules']:.3g}",
    )
