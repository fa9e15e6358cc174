"""Errors of one layer's outputs and gradients in float32, bfloat16 and float16 against float64: eager and clof_ext.

Run ``python -m benchmarks.error_table``. Halves are tried in the two ways in which they are used: under autocast, with
weights and inputs in float32, and with all of them given in the half. The truth is the eager layer in float64 on
exactly the same numbers, those that the half keeps of them in the second way.
"""

import argparse
import contextlib
import copy
import shlex
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from clof_ext.bench import machine, record
from clof_ext.bench.one_layer import Size, arrays, errors, make_inputs, make_layer
from clof_ext.bench.record import FORMAT
from clof_ext.bench.variants import EAGER, FUSED, fused

from .sweep import CLOFNET, EGNN

RESULTS = Path(__file__).parent / "results"
PROGRAMS = {EAGER: copy.deepcopy, FUSED: fused}
# What stands in a column of the table; the gradients of all weights share one.
COLUMNS = ("features", "displacements", "gradient of h", "gradient of pos", "gradient of edge_attr", "weights")


@dataclass(frozen=True)
class Precision:
    """Dtype of weights and inputs, and of autocast where it is on."""

    given: torch.dtype
    autocast: torch.dtype | None = None

    def __str__(self) -> str:
        name = str(self.autocast or self.given).removeprefix("torch.")
        return f"{name}, autocast" if self.autocast else name

    def context(self) -> contextlib.AbstractContextManager:
        return torch.autocast("cpu", self.autocast) if self.autocast else contextlib.nullcontext()


PRECISIONS = (
    Precision(torch.float32),
    Precision(torch.float32, autocast=torch.bfloat16),
    Precision(torch.bfloat16),
    Precision(torch.float32, autocast=torch.float16),
    Precision(torch.float16),
)


def measure(size: Size, precision: Precision) -> dict[str, dict[str, float]]:
    """Errors by program and column."""
    layer = make_layer(size).to(precision.given)
    inputs = make_inputs(size).to(precision.given)
    exact = arrays(copy.deepcopy(layer).double(), inputs.to(torch.float64))
    found = {}
    for name, make in PROGRAMS.items():
        with precision.context():
            found[name] = _columns(errors(arrays(make(layer), inputs), exact))
    return found


def _columns(found: dict[str, float]) -> dict[str, float]:
    """The errors of the table; the largest of the weights' gradients, which is nan if one is."""
    named = {name: value for name, value in found.items() if name in COLUMNS}
    weights = torch.tensor([value for name, value in found.items() if name not in COLUMNS])
    return {**named, "weights": weights.max().item()}


def markdown(document: dict) -> list[str]:
    """Lines of the table."""
    lines = ["| layer | precision | program | " + " | ".join(COLUMNS) + " |", "|" + " --- |" * (3 + len(COLUMNS))]
    for row in document["rows"]:
        cells = [row["network"], row["precision"], row["program"], *(f"{row['errors'][name]:.0e}" for name in COLUMNS)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the table and write the JSON."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    parser = argparse.ArgumentParser(prog="python -m benchmarks.error_table", description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=RESULTS, help="folder of the JSON (default: %(default)s)")
    options = parser.parse_args(arguments)
    document = {
        "format": FORMAT,
        "benchmark": "error_table",
        "command": shlex.join(["python", "-m", "benchmarks.error_table", *arguments]),
        **machine.describe(),
        "settings": {"device": "cpu", "sizes": [asdict(size) for size in (CLOFNET, EGNN)]},
        "rows": [
            {"network": size.network, "precision": str(precision), "program": name, "errors": found}
            for size in (CLOFNET, EGNN)
            for precision in PRECISIONS
            for name, found in measure(size, precision).items()
        ],
    }
    print("\n".join(markdown(document)))
    path = options.output / f"error_table_{machine.slug(torch.device('cpu'))}.json"
    record.write(path, document)
    print(f"wrote {path}", file=sys.stderr)


if __name__ == "__main__":
    main()
