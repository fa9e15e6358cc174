"""Puts a GPU's tables into docs/gpu.md: ``python -m benchmarks.gpu_report EDGE_BLOCK.json GEOMETRY.json``."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

from .bench_edge_block import COMPILED, EAGER, FUSED
from .files import replace_between
from .readme import ROOT

PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- {}: made by `python -m benchmarks.gpu_report`; do not edit -->", "<!-- /{} -->"


def source(document: dict, path: Path) -> str:
    """What a table's figures come from."""
    versions, gpus = document["versions"], ", ".join(document["machine"]["gpus"])
    return (
        f"{gpus}, torch {versions['torch']}, clof_ext {versions['clof_ext']}. Figures from "
        f"[`{path.name}`](../benchmarks/results/{path.name}), written by `{document['command']}`."
    )


def edge_block(document: dict) -> Iterator[str]:
    """A row for each size, pass and program."""
    by_case: dict[tuple, dict] = {}
    for row in document["rows"]:
        by_case.setdefault((row["hidden"], row["edges"], row["pass"]), {})[row["variant"]] = row
    yield "| H | edges | pass | program | ms (quartiles) | x eager | x torch.compile | peak MB | error |"
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for (hidden, edges, direction), rows in by_case.items():
        for variant, row in rows.items():
            ratio = "" if variant == EAGER else f"**{rows[EAGER]['median_ms'] / row['median_ms']:.1f}**"
            compiled = rows.get(COMPILED)
            to_compiled = f"{compiled['median_ms'] / row['median_ms']:.1f}" if compiled and FUSED in variant else ""
            yield (
                f"| {hidden} | {edges:,} | {direction} | {variant} | {row['median_ms']:.3g} "
                f"({row['lower_ms']:.3g} to {row['upper_ms']:.3g}) | {ratio} | {to_compiled} "
                f"| {row['peak_bytes'] / 1e6:.3g} | {row['error']:.0e} |"
            )


def geometry(document: dict) -> Iterator[str]:
    yield "| op | ms | GB/s | of copy |"
    yield "| --- | --- | --- | --- |"
    for row in document["measurements"]:
        rate = f"{row['gb_per_s']:.0f} | {row['fraction_of_copy']:.0%}"
        yield f"| {row['op']} | {row['median_ms']:.3f} | {rate} |"


def write(edge_block_path: Path, geometry_path: Path, page: Path = PAGE) -> None:
    for name, path, table in (("edge block", edge_block_path, edge_block), ("geometry", geometry_path, geometry)):
        document = json.loads(path.read_text())
        text = "\n".join([*table(document), "", source(document, path), ""])
        replace_between(page, BEGIN.format(name), END.format(name), text)


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
