"""Pages with parts that programs write."""

from pathlib import Path

from clof_ext.training import replace_file


def replace_between(page: Path, begin: str, end: str, text: str) -> None:
    """Put another text between two marks of a page."""
    old = page.read_text()
    before, after = old.split(begin)[0], old.split(end)[1]
    replace_file(page, lambda target: target.write_text(f"{before}{begin}\n{text}\n{end}{after}"))
