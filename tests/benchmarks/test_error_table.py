"""The error table at a tiny size: errors of the order that the precision allows, and a table that shows them."""

from dataclasses import replace

import pytest
import torch

from benchmarks import error_table
from benchmarks.sweep import CLOFNET, EGNN
from clof_ext.bench import record
from clof_ext.bench.variants import EAGER, FUSED

TINY = {"nodes": 40, "hidden": 8, "edge_dim": 3}
ROUNDING = {torch.float32: 2**-24, torch.bfloat16: 2**-9, torch.float16: 2**-12}


@pytest.mark.parametrize("precision", error_table.PRECISIONS, ids=str)
@pytest.mark.parametrize("size", [replace(CLOFNET, **TINY), replace(EGNN, **TINY)], ids=["clofnet", "egnn"])
def test_errors_are_those_of_the_precision(size, precision):
    found = error_table.measure(size, precision)
    assert list(found) == [EAGER, FUSED]
    unit = ROUNDING[precision.autocast or precision.given]
    for values in found.values():
        assert set(values) == set(error_table.COLUMNS)
        assert all(0 < value < 200 * unit for value in values.values()), values
    assert max(found[FUSED].values()) < 2 * max(found[EAGER].values())


def test_file_and_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(error_table, "CLOFNET", replace(CLOFNET, **TINY))
    monkeypatch.setattr(error_table, "EGNN", replace(EGNN, **TINY))
    error_table.main(["--output", str(tmp_path)])
    (path,) = tmp_path.glob("error_table_*.json")
    document = record.read(path)
    lines = error_table.markdown(document)
    assert capsys.readouterr().out.strip() == "\n".join(lines)
    assert len(lines) == 2 + 2 * len(error_table.PRECISIONS) * len(error_table.PROGRAMS)
    assert len({line.count("|") for line in lines}) == 1
