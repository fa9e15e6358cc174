"""Puts tables and plots into docs/performance.md.

Run ``python -m benchmarks.performance SWEEP.json ERRORS.json PEERS.json GEOMETRY.json BENCH.json NETWORK.json``, all of
one machine but the last, which is of one with AMX.
"""

import os
import sys
from pathlib import Path

from clof_ext.bench import record
from clof_ext.training import replace_file

from . import bench_geometry, bench_network, bench_table, cpu_roofline, error_table, sweep_report
from .files import replace_between
from .peers import table
from .readme import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- {}: made by `python -m benchmarks.performance`; do not edit -->", "<!-- /{} -->"
SECTIONS = ("sweep", "second derivatives", "errors", "peers", "geometry", "roofline", "dtypes and depths", "amx")


def marks(name: str) -> tuple[str, str]:
    """What stands around a section."""
    return BEGIN.format(name), END.format(name)


def sections(
    sweep_path: Path, errors_path: Path, peers_path: Path, geometry_path: Path, bench_path: Path, network_path: Path
) -> dict[str, str]:
    """Markdown of each section."""
    paths = sweep_path, errors_path, peers_path, bench_path, network_path
    sweep, errors, peers, bench, network = map(record.read, paths)
    geometry = record.read(geometry_path, bench_geometry.FORMAT)
    plot = f"![Ratios over sizes, and rates of the products]({_relative(sweep_path.with_suffix('.png'))})"
    roofline = f"![Rates under the machine's roofs]({_relative(roofline_path(sweep_path))})"
    source, of_geometry = _source(sweep, sweep_path), _source(geometry, geometry_path)
    texts = (
        [plot, "", *sweep_report.markdown(sweep), "", source],
        [*sweep_report.second_derivatives(sweep), "", source],
        [*error_table.markdown(errors), "", _source(errors, errors_path)],
        [*table.markdown(peers), "", _source(peers, peers_path)],
        [*bench_geometry.markdown(geometry), "", of_geometry],
        [roofline, "", *cpu_roofline.markdown(geometry, sweep), "", of_geometry, "", source],
        [*bench_table.markdown(bench), "", _source(bench, bench_path)],
        [*bench_network.table(network), "", _source(network, network_path)],
    )
    return {name: "\n".join(lines) for name, lines in zip(SECTIONS, texts, strict=True)}


def roofline_path(sweep_path: Path) -> Path:
    """Where the plot of a machine lies."""
    return sweep_path.with_name(sweep_path.name.replace("sweep_", "roofline_")).with_suffix(".png")


def _source(document: dict, path: Path) -> str:
    loads = [run["load"] for run in document.get("runs", [document["machine"]])]
    load = f"load of the machine at the start {', '.join(map(str, loads))}"
    link = f"[`{path.name}`]({_relative(path)})"
    note = f" {document['note']}" if "note" in document else ""
    return f"{record.title(document)}; {load}. Figures from {link}, written by `{document['command']}`.{note}"


def _relative(path: Path) -> str:
    """From the page."""
    return os.path.relpath(path.resolve(), PAGE.parent)


def main(*paths: Path) -> None:
    sweep_path, _, _, geometry_path, *_ = paths
    geometry, sweep = record.read(geometry_path, bench_geometry.FORMAT), record.read(sweep_path)
    replace_file(roofline_path(sweep_path), lambda beside: cpu_roofline.save(geometry, sweep, beside))
    for name, text in sections(*paths).items():
        replace_between(PAGE, *marks(name), text)
    print(f"{PAGE} shows {', '.join(map(str, paths))}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
