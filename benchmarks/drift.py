"""How much medians of the same programs differ from run to run: what quartiles inside a run do not show.

``python -m benchmarks.drift RUN.json ...`` reads runs of one command, written by ``clof-ext bench --json``, prints a
table and writes JSON. ``clof_ext.bench.compare`` takes its two constants from it.
"""

import math
import statistics
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from clof_ext.bench import machine, record
from clof_ext.bench.variants import EAGER, FUSED

RESULTS = Path(__file__).parent / "results"
HEADERS = ("pass", "layer", "eager", "clof_ext", "share", "medians of clof_ext, ms")


def drift(runs: Sequence[dict]) -> list[dict]:
    """For each size and pass the medians of every run, and the standard deviations of their logarithms.

    ``share`` is that of clof_ext's time as a share of eager's in the same run.
    """
    rows = []
    for number, case in enumerate(runs[0]["cases"]):
        for key in dict.fromkeys(row["pass"] for row in case["measurements"]):
            found = [_of(run["cases"][number], key) for run in runs]
            medians = {name: [rows[name]["median_ms"] for rows in found] for name in (EAGER, FUSED)}
            shares = [own / eager for own, eager in zip(medians[FUSED], medians[EAGER], strict=True)]
            spreads = {name: _spread(values) for name, values in (medians | {"share": shares}).items()}
            others = max(rows[FUSED]["others"] for rows in found)
            rows.append(
                {"layer": case["network"], "pass": key, "medians_ms": medians, "spread": spreads, "others": others}
            )
    return rows


def _of(case: dict, key: str) -> dict[str, dict]:
    return {row["variant"]: row for row in case["measurements"] if row["pass"] == key}


def _spread(values: list[float]) -> float:
    return statistics.stdev(map(math.log, values))


def table(rows: list[dict]) -> str:
    """Spreads in columns."""
    lines = [HEADERS]
    for row in rows:
        spreads = (f"{value:.1%}" for value in row["spread"].values())
        lines.append(
            (row["pass"], row["layer"], *spreads, " ".join(f"{value:.4g}" for value in row["medians_ms"][FUSED]))
        )
    return "\n".join(record.aligned(lines))


def main(paths: Sequence[Path]) -> None:
    runs = [record.read(path) for path in paths]
    if len({run["command"].partition(" --json")[0] for run in runs}) > 1 or len(runs) < 2:
        raise SystemExit("benchmarks.drift needs two or more runs of one command.")
    rows = drift(runs)
    print(table(rows))
    about = {key: runs[0][key] for key in ("machine", "versions", "commit", "date", "settings")}
    command = runs[0]["command"].partition(" --json")[0]
    document = {
        "format": record.FORMAT,
        "benchmark": "drift",
        "command": command,
        **about,
        "runs": len(runs),
        "rows": rows,
    }
    path = RESULTS / f"drift_{machine.slug(torch.device('cpu'))}.json"
    record.write(path, document)
    print(f"wrote {path}")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
