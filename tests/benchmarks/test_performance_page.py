"""The figures of docs/performance.md are those of the committed results."""

import re

import pytest

from benchmarks import performance, readme

TEXT = performance.PAGE.read_text()


def shown(name: str) -> str:
    begin, end = performance.marks(name)
    return TEXT.split(begin)[1].split(end)[0].strip()


def source(name: str):
    """The JSON that a section says it comes from."""
    return (performance.PAGE.parent / re.search(r"\(([^)]+\.json)\)", shown(name)).group(1)).resolve()


@pytest.mark.parametrize("name", performance.SECTIONS)
def test_figures_are_those_of_the_committed_json(name: str):
    documents = (source(one) for one in ("sweep", "errors", "peers", "geometry", "dtypes and depths", "amx"))
    assert shown(name) == performance.sections(*documents)[name]
    assert source(name).is_relative_to(readme.ROOT / "benchmarks" / "results")


@pytest.mark.parametrize("name", ["sweep", "roofline"])
def test_the_plot_is_there(name: str):
    plot = re.search(r"!\[[^]]+\]\(([^)]+\.png)\)", shown(name)).group(1)
    assert (performance.PAGE.parent / plot).exists()
