"""Puts a GPU's tables into docs/gpu.md.

``python -m benchmarks.gpu_report NETWORK.json EDGES.json PROFILE.json GEOMETRY.json``
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from .bench_edge_block import COMPILED, EAGER, FUSED
from .bench_network import table as network
from .files import replace_between
from .readme import ROOT

PAGE = ROOT / "docs" / "gpu.md"
BEGIN, END = "<!-- {}: made by `python -m benchmarks.gpu_report`; do not edit -->", "<!-- /{} -->"


def source(document: dict, path: Path) -> str:
    """What a table's figures come from."""
    versions, gpus = document["versions"], ", ".join(document["machine"]["gpus"])
    note = f" {document['note']}" if "note" in document else ""
    return (
        f"{gpus}, torch {versions['torch']}, clof_ext {versions['clof_ext']} at commit {document['commit']}. "
        f"Figures from [`{path.name}`](../benchmarks/results/{path.name}): `{document['command']}`.{note}"
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


# Kernels of a pass that are listed, and the part of a name before its arguments.
LISTED = 7
NAME = re.compile(r"(?:void )?(?:\(anonymous namespace\)::|[a-z_]\w*::)*(\w+)")


def profile(document: dict) -> Iterator[str]:
    """From call to end, then the GPU's own time and its longest kernels."""
    yield "| edges | pass | eager ms | clof_ext ms | x eager |"
    yield "| --- | --- | --- | --- | --- |"
    pairs: dict[tuple, dict] = {}
    for row in document["times"]:
        pairs.setdefault((row["edges"], row["pass"]), {})[row["variant"]] = row["median_ms"]
    for (edges, direction), times in pairs.items():
        eager, fused = times[EAGER], times[FUSED]
        yield f"| {edges:,} | {direction} | {eager:.3g} | {fused:.3g} | **{eager / fused:.1f}** |"
    yield ""
    yield "| edges | pass | program | launches | GPU ms | longest kernels, us |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for row in document["profiles"]:
        longest = ", ".join(f"{NAME.match(one['kernel'])[1]} {one['us']:.0f}" for one in row["kernels"][:LISTED])
        head = f"| {row['edges']:,} | {row['pass']} | {row['variant']} | {row['launches']}"
        yield f"{head} | {row['gpu_us'] / 1e3:.2f} | {longest} |"


def geometry(document: dict) -> Iterator[str]:
    yield "| op | ms | GB/s | of copy |"
    yield "| --- | --- | --- | --- |"
    for row in document["measurements"]:
        rate = f"{row['gb_per_s']:.0f} | {row['fraction_of_copy']:.0%}"
        yield f"| {row['op']} | {row['median_ms']:.3f} | {rate} |"


TABLES = {"network": network, "edge block": edge_block, "profile": profile, "geometry": geometry}


def write(*paths: Path, page: Path = PAGE) -> None:
    """One file for each of the tables, in their order."""
    for (name, table), path in zip(TABLES.items(), paths, strict=True):
        document = json.loads(path.read_text())
        text = "\n".join([*table(document), "", source(document, path), ""])
        replace_between(page, BEGIN.format(name), END.format(name), text)


if __name__ == "__main__":
    write(*map(Path, sys.argv[1:]))
