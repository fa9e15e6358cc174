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
    assert all(line.count("|") == lines[0].count("|") for line in lines)


def test_table_of_a_gpu_has_ratios_of_each_kind_of_time():
    same = {"case": "clofnet-20", "hidden": 64, "edges": 380, "pass": "forward", "error": 0.0}
    rows = [
        {**same, "program": "eager", "median_ms": 8.0, "in_a_row_ms": 6.0, "peak_bytes": 4e6},
        {
            **same,
            "program": "clof_ext high",
            "median_ms": 2.0,
            "in_a_row_ms": 1.0,
            "graphed_ms": 0.5,
            "peak_bytes": 1e6,
        },
    ]
    *_, last = bench_network.table({"rows": rows})
    assert last.split(" | ")[5:] == ["2", "**4.0**", "1", "**6.0**", "0.5", "", "1", "1/4", "0e+00 |"]
    rows[1]["peak_bytes"] = 0
    *_, last = bench_network.table({"rows": rows})
    assert last.split(" | ")[-3:] == ["0", "", "0e+00 |"]
