"""The benchmark of networks in each precision, at sizes that take seconds."""

import json
from pathlib import Path

from benchmarks import bench_network


def test_every_program_in_both_passes(tmp_path: Path, capsys):
    bench_network.main(
        ["--cases", "egnn-5", "--hidden", "16", "--systems", "4", "--seconds", "0.01", "--output", str(tmp_path)]
    )
    (path,) = tmp_path.glob("network_*.json")
    document = json.loads(path.read_text())
    rows = document["rows"]
    programs = {"eager", "clof_ext highest", "clof_ext high", "clof_ext bfloat16"}
    assert {(row["program"], row["pass"]) for row in rows} == {
        (name, direction) for name in programs for direction in ("forward", "forward+backward")
    }
    error = {row["program"]: row["error"] for row in rows}
    assert error["eager"] == 0 < error["clof_ext highest"] < 1e-3 < error["clof_ext bfloat16"] < 0.3
    assert all(row["median_ms"] > 0 and row["edges"] == 80 for row in rows)
    assert "clof_ext bfloat16" in capsys.readouterr().out
    lines = list(bench_network.table(document))
    assert len(lines) == 2 + len(rows) and "egnn-5" in lines[2]
