"""Puts tables and plots into docs/performance.md.

Run ``python -m benchmarks.performance SWEEP.json ERRORS.json PEERS.json``.
"""

import os
import sys
from pathlib import Path

from clof_ext.bench import record

from . import error_table, sweep_report
from .files import replace_between
from .peers import table
from .readme import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- {}: made by `python -m benchmarks.performance`; do not edit -->", "<!-- /{} -->"
SECTIONS = ("sweep", "second derivatives", "errors", "peers")


def marks(name: str) -> tuple[str, str]:
    """What stands around a section."""
    return BEGIN.format(name), END.format(name)


def sections(sweep_path: Path, errors_path: Path, peers_path: Path) -> dict[str, str]:
    """Markdown of each section."""
    sweep, errors, peers = map(record.read, (sweep_path, errors_path, peers_path))
    plot = f"![Ratios over sizes, and rates of the products]({_relative(sweep_path.with_suffix('.png'))})"
    source = _source(sweep, sweep_path)
    texts = (
        [plot, "", *sweep_report.markdown(sweep), "", source],
        [*sweep_report.second_derivatives(sweep), "", source],
        [*error_table.markdown(errors), "", _source(errors, errors_path)],
        [*table.markdown(peers), "", _source(peers, peers_path)],
    )
    return {name: "\n".join(lines) for name, lines in zip(SECTIONS, texts, strict=True)}


def _source(document: dict, path: Path) -> str:
    load = f"load of the machine at the start {document['machine']['load']}"
    link = f"[`{path.name}`]({_relative(path)})"
    return f"{record.title(document)}; {load}. Figures from {link}, written by `{document['command']}`."


def _relative(path: Path) -> str:
    """From the page."""
    return os.path.relpath(path.resolve(), PAGE.parent)


def main(*paths: Path) -> None:
    for name, text in sections(*paths).items():
        replace_between(PAGE, *marks(name), text)
    print(f"{PAGE} shows {', '.join(map(str, paths))}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
