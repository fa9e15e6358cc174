"""Puts tables and plots into docs/performance.md: ``python -m benchmarks.performance SWEEP.json ERRORS.json``."""

import os
import sys
from pathlib import Path

from . import error_table, report, sweep_report
from .files import replace_between
from .readme import ROOT

PAGE = ROOT / "docs" / "performance.md"
BEGIN, END = "<!-- {}: made by `python -m benchmarks.performance`; do not edit -->", "<!-- /{} -->"
SECTIONS = ("sweep", "second derivatives", "errors")


def marks(name: str) -> tuple[str, str]:
    """What stands around a section."""
    return BEGIN.format(name), END.format(name)


def sections(sweep_path: Path, errors_path: Path) -> dict[str, str]:
    """Markdown of each section."""
    sweep, errors = report.read(sweep_path), report.read(errors_path)
    plot = f"![Ratios over sizes, and rates of the products]({_relative(sweep_path.with_suffix('.png'))})"
    source = _source(sweep, sweep_path)
    texts = (
        [plot, "", *sweep_report.markdown(sweep), "", source],
        [*sweep_report.second_derivatives(sweep), "", source],
        [*error_table.markdown(errors), "", _source(errors, errors_path)],
    )
    return {name: "\n".join(lines) for name, lines in zip(SECTIONS, texts, strict=True)}


def _source(document: dict, path: Path) -> str:
    load = f"load of the machine at the start {document['machine']['load']}"
    link = f"[`{path.name}`]({_relative(path)})"
    return f"{report.title(document)}; {load}. Figures from {link}, written by `{document['command']}`."


def _relative(path: Path) -> str:
    """From the page."""
    return os.path.relpath(path.resolve(), PAGE.parent)


def main(sweep_path: Path, errors_path: Path) -> None:
    for name, text in sections(sweep_path, errors_path).items():
        replace_between(PAGE, *marks(name), text)
    print(f"{PAGE} shows {sweep_path} and {errors_path}")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
