"""Documents of measurements: JSON files, and in words."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from ..training import FileError, replace_file

FORMAT = 1
MIB = 2**20
# The first columns of a table in text, left-aligned.
TEXT_COLUMNS = 2


def read(path: Path, version: int = FORMAT) -> dict:
    """A document of measurements.

    Args:
        version: of its format.

    Raises:
        FileError: the file is missing, is no JSON, or has another format.
    """
    try:
        document = json.loads(Path(path).read_text())
    except (OSError, ValueError) as error:
        raise FileError(f"{path} must be a JSON file of measurements; {error}.") from None
    found = document.get("format") if isinstance(document, dict) else None
    if found != version:
        raise FileError(f"{path} must have format {version}; got {found}.")
    return document


def write(path: Path, document: dict) -> None:
    """Write a document, whole or not at all."""
    replace_file(path, lambda beside: beside.write_text(json.dumps(document, indent=1) + "\n"))


def title(document: dict) -> str:
    """Where the measurements were made."""
    about, versions = document["machine"], document["versions"]
    on_gpu = document["settings"]["device"] == "cuda"
    place = about["gpus"][0] if on_gpu else f"{about['cpu']}, {about['threads']} threads"
    return f"{place}, torch {versions['torch']}, clof_ext {versions['clof_ext']}"


def aligned(lines: Sequence[tuple[str, ...]]) -> list[str]:
    """Cells in columns, the first TEXT_COLUMNS to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return ["  ".join(_justified(line, widths)).rstrip() for line in lines]


def _justified(line: tuple[str, ...], widths: list[int]) -> Iterator[str]:
    for column, (cell, width) in enumerate(zip(line, widths, strict=True)):
        yield cell.ljust(width) if column < TEXT_COLUMNS else cell.rjust(width)
