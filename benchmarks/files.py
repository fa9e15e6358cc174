"""Files that are whole or not there."""

import os
from collections.abc import Callable
from pathlib import Path


def replace_file(path: Path, write: Callable[[Path], object]) -> None:
    """Let ``write`` make a file beside the path, of the same ending, and move it there when it is complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(beside)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put another text between two marks of a page."""
    old = page.read_text()
    before, after = old.split(begin)[0], old.split(end)[1]
    replace_file(page, lambda target: target.write_text(f"{before}{begin}\n{text}\n{end}{after}"))
