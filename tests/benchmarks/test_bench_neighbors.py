"""The benchmark of neighbours at tiny sizes."""

import json

import pytest

from benchmarks import bench_neighbors as bench

pytest.importorskip("vesin", reason="needs vesin")


def test_file_and_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "SECONDS", 0.001)
    monkeypatch.setattr(bench, "SIZES", [bench.Size(2, 60), bench.Size(1, 200, periodic=True)])
    bench.main(["--busy", "--output", str(tmp_path)])
    (path,) = tmp_path.glob("neighbors_*.json")
    rows = json.loads(path.read_text())["measurements"]
    lines = capsys.readouterr().out.splitlines()
    assert lines == bench.table(rows)
    assert {row["program"] for row in rows} >= {"vesin"}
    # Every point of a periodic box has all its neighbours.
    assert abs(rows[-1]["edges"] / 200 - bench.NEIGHBOURS) < 5


def test_programs_that_disagree_are_told(monkeypatch):
    monkeypatch.setattr(bench, "programs", lambda size: {"a": lambda *_: bench.torch.ones(2, 3), "b": bench.with_vesin})
    with pytest.raises(RuntimeError, match="do not find the same edges"):
        bench.measure(bench.Size(1, 20), None)
