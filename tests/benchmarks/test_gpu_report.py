"""The GPU's tables in docs/gpu.md, from two files of results."""

import json
from pathlib import Path

from benchmarks import gpu_report

HEAD = {
    "machine": {"gpus": ["a GPU"]},
    "versions": {"torch": "2.11", "clof_ext": "0.1"},
    "command": "python -m benchmarks.some",
}
ROW = {
    "hidden": 64,
    "edges": 2560,
    "pass": "forward",
    "lower_ms": 1.0,
    "upper_ms": 3.0,
    "peak_bytes": 5e6,
    "error": 1e-4,
}


def test_tables_stand_between_their_marks(tmp_path: Path):
    times = {gpu_report.EAGER: 8.0, gpu_report.COMPILED: 6.0, gpu_report.FUSED: 2.0}
    rows = [{**ROW, "variant": name, "median_ms": median} for name, median in times.items()]
    ops = [{"op": "edge_frame", "median_ms": 0.1, "gb_per_s": 1500.0, "fraction_of_copy": 0.75}]
    files = [tmp_path / "edge.json", tmp_path / "geometry.json"]
    files[0].write_text(json.dumps({**HEAD, "rows": rows}))
    files[1].write_text(json.dumps({**HEAD, "measurements": ops}))
    page = tmp_path / "gpu.md"
    names = ("edge block", "geometry")
    page.write_text(
        "before\n" + "".join(f"{gpu_report.BEGIN.format(n)}\nold\n{gpu_report.END.format(n)}\n" for n in names)
    )

    gpu_report.write(*files, page)

    text = page.read_text()
    assert text.startswith("before\n") and "old" not in text
    assert "| 64 | 2,560 | forward | clof_ext | 2 (1 to 3) | **4.0** | 3.0 | 5 | 1e-04 |" in text
    assert "| edge_frame | 0.100 | 1500 | 75% |" in text
    assert "edge.json" in text and "a GPU, torch 2.11" in text
