"""The table, the CSV and the plot of a throughput run, all made from its JSON document."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from clof_ext.bench import record
from clof_ext.training import replace_file

COLUMNS_EXPLAINED = """\
ms: median and quartiles of the calls. edges/s: edges of the batch by the median. x: times faster than.
peak: memory that one call adds. warm-up: the first call.
error: the largest relative error of outputs and gradients against eager in float64 (torch.compile: of weights only)."""
HEADERS = ("pass", "variant", "ms", "quartiles", "edges/s", "x eager", "x compile", "peak MiB", "error", "warm-up s")


def write(document: dict, folder: Path, stem: str) -> list[Path]:
    """Write the document as JSON, its measurements as CSV, and a plot where matplotlib is installed."""
    paths = {suffix: folder / f"{stem}.{suffix}" for suffix in ("json", "csv", "png")}
    record.write(paths["json"], document)
    replace_file(paths["csv"], lambda path: path.write_text(csv_text(document)))
    try:
        from .plot import save
    except ImportError:
        print("There is no plot, because matplotlib is not installed.")
        return [paths["json"], paths["csv"]]
    replace_file(paths["png"], lambda path: save(document, sizes(document), path))
    return list(paths.values())


def rows(document: dict) -> Iterator[dict]:
    """The measurements, each with what is said about its case; errors in columns of their own."""
    for case in document["cases"]:
        about = {key: value for key, value in case.items() if key not in ("measurements", "failures")}
        for measurement in case["measurements"]:
            errors = {f"error_{kind}": value for kind, value in measurement["errors"].items()}
            yield about | {key: value for key, value in measurement.items() if key != "errors"} | errors


def csv_text(document: dict) -> str:
    """All measurements, a line each, under a line of names."""
    lines = list(rows(document))
    text = io.StringIO()
    writer = csv.DictWriter(text, list(lines[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def table(document: dict) -> str:
    """All measurements as aligned text under the description of the machine."""
    parts = [record.title(document), sizes(document), COLUMNS_EXPLAINED]
    for case in document["cases"]:
        parts += ["", _case_title(case), *record.aligned([HEADERS, *map(_cells, case["measurements"])])]
        parts += [f"{variant} was not measured: {reason}" for variant, reason in case["failures"].items()]
    return "\n".join(parts)


def sizes(document: dict) -> str:
    """What was measured."""
    settings = document["settings"]
    return f"{settings['n_layers']} layers, hidden size {settings['hidden']}, {settings['dtype']}"


def _case_title(case: dict) -> str:
    return (
        f"{case['network']}, {case['n_systems']} systems x {case['n_particles']} particles, {case['edges']} edges "
        f"(clof_ext prepares a graph once, in {case['prepare_graph_ms']:.2g} ms)"
    )


def _cells(row: dict) -> tuple[str, ...]:
    return (
        row["pass"],
        row["variant"],
        f"{row['median_ms']:.2f}",
        f"{row['lower_ms']:.2f}-{row['upper_ms']:.2f}",
        f"{row['edges_per_s']:.3g}",
        _times(row["ratio_to_eager"]),
        _times(row["ratio_to_compile"]),
        f"{row['peak_bytes'] / record.MIB:.2f}",
        f"{max(row['errors'].values()):.1e}",
        f"{row['warmup_s']:.2f}",
    )


def _times(ratio: float | None) -> str:
    return "-" if ratio is None else f"{ratio:.2f}"
