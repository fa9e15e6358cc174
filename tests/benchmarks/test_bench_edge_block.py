"""The GPU benchmark of the edge block, tried out on the CPU: it needs no GPU to be a program that works."""

import json

from benchmarks import bench_edge_block


def test_it_measures_and_writes_json(tmp_path, capsys):
    bench_edge_block.main(
        ["--device", "cpu", "--hidden", "8", "--edges", "380", "--seconds", "0", "--output", str(tmp_path)]
    )
    (path,) = tmp_path.iterdir()
    found = json.loads(path.read_text())
    rows = found["rows"]
    assert {row["pass"] for row in rows} == {"forward", "forward+backward"}
    assert {row["variant"] for row in rows} == {"eager", "clof_ext", "clof_ext highest", "clof_ext bfloat16"}
    for row in rows:
        assert row["error"] < (0.1 if "bfloat16" in row["variant"] else 1e-5)
        assert row["lower_ms"] <= row["median_ms"] <= row["upper_ms"]
        assert row["peak_bytes"] > 0 and row["repeats"] >= 5
        assert ("fraction_of_roofline" in row) == (row["variant"] in ("clof_ext", "clof_ext bfloat16"))
    assert "wrote" in capsys.readouterr().out
