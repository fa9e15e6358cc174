"""A run beside an earlier one: which rows of clof_ext became slower, larger or less exact, beyond the runs' noise.

Judged is a row's time where no other program ran in both runs; else its share of eager's time in the same run: what
slows the machine slows both. The standard error of the logarithm of a median of n calls with quartiles a and b is about

    1.253 / sqrt(n) * log(b / a) / 1.349,

as for n normal values. A change between two runs has the errors of its medians, two or four, and twice that of a drift.
It counts where it is larger than the quantile of the normal distribution that all rows of a comparison together exceed
by chance once in 1 / FALSE_ALARMS comparisons.
"""

import argparse
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

from ..training import OptionError
from . import record
from .agreement import ROUNDING_FACTOR
from .timing import DISTURBED
from .variants import EAGER, FUSED

FALSE_ALARMS = 0.01
# Standard deviations of the logarithms of clof_ext's time, and of its share of eager's, between runs of one program on
# a quiet machine, which quartiles do not show: measured by benchmarks.drift. Eager's training steps vary most.
DRIFT_OF_TIME, DRIFT_OF_SHARE = 0.04, 0.12
# Of a normal distribution, in standard deviations: a median's standard error times sqrt(n); the quartiles' distance.
MEDIAN_ERROR, QUARTILES = math.sqrt(math.pi / 2), 2 * NormalDist().inv_cdf(0.75)
# The count of bytes has no noise; a smaller change is not worth an alarm.
MEMORY_SLACK = 0.02
# What two documents must have in common, and what names a case.
SAME = {
    "machine": ("cpu", "cores", "threads", "instruction_sets", "gpus"),
    "versions": ("torch",),
    "settings": ("device", "dtype", "hidden", "n_layers", "n_systems"),
}
SIZES = ("case", "network", "nodes", "edges", "neighbours", "hidden", "edge_dim", "layers", "graph", "dtype")

Key = tuple[tuple, str]


@dataclass(frozen=True)
class Change:
    """Of one figure of one row.

    Attributes:
        worse: else better.
        sentence: what changed, and how much.
    """

    worse: bool
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """All changes beyond noise.

    Attributes:
        rows: how many rows both documents have.
        missing: names of rows that only the old one has.
        noticed: the smallest slowdown that would count, as a fraction, of each row.
    """

    changes: list[Change]
    rows: int
    missing: list[str]
    noticed: list[float]


def add_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--compare`` to a command that measures."""
    text = "an earlier run's JSON: exit code 1 if clof_ext became slower, larger or less exact, beyond noise"
    parser.add_argument("--compare", type=Path, metavar="OLD", help=text)


def read_old(path: Path | None, head: dict) -> dict | None:
    """The document to compare with, before anything is measured; None if there is no path.

    Args:
        head: the new document, as yet without cases.

    Raises:
        OptionError, FileError: the two cannot be compared.
    """
    if path is None:
        return None
    old = record.read(path)
    reasons = list(_differences(old, head))
    if reasons:
        raise OptionError(f"--compare {path} cannot be compared with this run: {'; '.join(reasons)}.")
    return old


def _differences(old: dict, new: dict) -> Iterator[str]:
    """Why shares of eager's time do not mean the same in both."""
    if old["benchmark"] != new["benchmark"]:
        yield f"it is of the benchmark {old['benchmark']}, this of {new['benchmark']}"
        return
    for part, names in SAME.items():
        for name in names:
            was, now = old[part].get(name), new[part].get(name)
            if was != now:
                yield f"{name} is {was} there and {now} here"


def report(old: dict, new: dict) -> int:
    """Print what changed.

    Returns:
        The exit code: 1 if something became worse.

    Raises:
        OptionError: no row is in both.
    """
    found = compare(old, new)
    print(f"\nCompared with {old['date']}, commit {old['commit']}:")
    print("\n".join(change.sentence for change in found.changes) or "nothing changed beyond noise")
    for name in found.missing:
        print(f"{name}: measured there, not here")
    least, most = min(found.noticed), max(found.noticed)
    print(f"{found.rows} rows were compared; slowdowns from {least:.0%} to {most:.0%} on would have been noticed.")
    for place, document in {"in the earlier run": old, "here": new}.items():
        others = max(row.get("others") or 0 for case in document["cases"] for row in case["measurements"])
        if others > DISTURBED:
            print(f"Other programs used {others:.1f} cores {place}: repeat before you believe a change.")
    return 1 if any(change.worse for change in found.changes) else 0


def compare(old: dict, new: dict) -> Comparison:
    """Changes of all rows of clof_ext that are in both documents.

    Raises:
        OptionError: there is none.
    """
    before, after = _rows(old), _rows(new)
    shared = [key for key in before if key in after]
    if not shared:
        raise OptionError("The two runs cannot be compared: no size and pass is in both.")
    quantile = NormalDist().inv_cdf(1 - FALSE_ALARMS / len(shared))
    changes, noticed = [], []
    for key in shared:
        slowdown, words = _slowdown(before[key], after[key])
        bound = quantile * _noise(before[key], after[key])
        noticed.append(math.expm1(bound))
        if abs(slowdown) > bound:
            size = f"{math.expm1(abs(slowdown)):.0%}; noise explains {math.expm1(bound):.0%}"
            kind = "slower" if slowdown > 0 else "faster"
            changes.append(Change(slowdown > 0, f"{_name(key)}: {kind}: {words} ({size})"))
        changes += _other_changes(_name(key), before[key][FUSED], after[key][FUSED])
    return Comparison(changes, len(shared), [_name(key) for key in before if key not in after], noticed)


def _rows(document: dict) -> dict[Key, dict[str, dict]]:
    """Rows of eager and clof_ext, by size and pass, of what both have."""
    found: dict[Key, dict[str, dict]] = {}
    for case in document["cases"]:
        size = tuple((name, case[name]) for name in SIZES if name in case)
        for row in case["measurements"]:
            found.setdefault((size, row["pass"]), {})[row["variant"]] = row
    return {key: rows for key, rows in found.items() if {EAGER, FUSED} <= set(rows)}


def _name(key: Key) -> str:
    size, direction = key
    words = [value if isinstance(value, str) else f"{name} {value}" for name, value in size]
    return ", ".join([*words, direction])


def _quiet(*both: dict[str, dict]) -> bool:
    """Whether no other program ran while a row was measured; False where that is not known."""
    others = [rows[FUSED].get("others") for rows in both]
    return all(cores is not None and cores <= DISTURBED for cores in others)


def _slowdown(before: dict[str, dict], after: dict[str, dict]) -> tuple[float, str]:
    """Logarithm of how many times slower a row became, and of what."""
    times = [rows[FUSED]["median_ms"] for rows in (before, after)]
    if _quiet(before, after):
        return math.log(times[1] / times[0]), f"ms were {times[0]:.3g}, are {times[1]:.3g}"
    ratios = [rows[EAGER]["median_ms"] / rows[FUSED]["median_ms"] for rows in (before, after)]
    return math.log(ratios[0] / ratios[1]), f"x eager was {ratios[0]:.2f}, is {ratios[1]:.2f}"


def _noise(*both: dict[str, dict]) -> float:
    """Standard error of a slowdown's logarithm."""
    names, drift = ((FUSED,), DRIFT_OF_TIME) if _quiet(*both) else ((EAGER, FUSED), DRIFT_OF_SHARE)
    return math.hypot(*(_log_error(rows[name]) for rows in both for name in names), *(drift for _ in both))


def _log_error(row: dict) -> float:
    return MEDIAN_ERROR / math.sqrt(row["repeats"]) * math.log(row["upper_ms"] / row["lower_ms"]) / QUARTILES


def _other_changes(name: str, old: dict, new: dict) -> Iterator[Change]:
    """Of memory and errors."""
    if abs(new["peak_bytes"] - old["peak_bytes"]) > MEMORY_SLACK * old["peak_bytes"]:
        larger = new["peak_bytes"] > old["peak_bytes"]
        sizes = [f"{row['peak_bytes'] / record.MIB:.2f}" for row in (old, new)]
        yield Change(larger, f"{name}: {'larger' if larger else 'smaller'}: peak MiB was {sizes[0]}, is {sizes[1]}")
    for kind, error in new["errors"].items():
        earlier = old["errors"][kind]
        # Written so that nan is worse.
        worse = not error <= ROUNDING_FACTOR * earlier
        if worse or ROUNDING_FACTOR * error < earlier:
            words = f"{name}: {'less' if worse else 'more'} exact"
            yield Change(worse, f"{words}: error of {kind} was {earlier:.1e}, is {error:.1e}")
