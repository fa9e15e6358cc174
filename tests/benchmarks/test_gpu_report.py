"""The GPU's tables in docs/gpu.md, from files of results."""

import json
from pathlib import Path

from benchmarks import gpu_report

HEAD = {
    "machine": {"gpus": ["a GPU"]},
    "versions": {"torch": "2.11", "clof_ext": "0.1"},
    "command": "python -m benchmarks.some",
    "commit": "abc",
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
    kernel = {"kernel": "void clof::cuda::forward_kernel<clof::cuda::Tf32>(...)", "launches": 1, "us": 365.8}
    profiles = [{**ROW, "variant": gpu_report.FUSED, "gpu_us": 537.0, "launches": 9, "kernels": [kernel]}]
    times = [{**ROW, "variant": name, "median_ms": median} for name, median in times.items()]
    files = [tmp_path / f"{name}.json" for name in ("network", "edge", "profile", "geometry")]
    network = {**ROW, "case": "clofnet-20", "program": "eager", "median_ms": 8.0, "ratio_to_eager": 1.0}
    ours = {**network, "program": "clof_ext high", "median_ms": 2.0, "ratio_to_eager": 4.0, "peak_bytes": 5e5}
    files[0].write_text(json.dumps({**HEAD, "rows": [network, ours]}))
    files[1].write_text(json.dumps({**HEAD, "rows": rows}))
    files[2].write_text(json.dumps({**HEAD, "profiles": profiles, "times": times, "note": "By hand."}))
    files[3].write_text(json.dumps({**HEAD, "measurements": ops}))
    page = tmp_path / "gpu.md"
    names = gpu_report.TABLES
    page.write_text(
        "before\n" + "".join(f"{gpu_report.BEGIN.format(n)}\nold\n{gpu_report.END.format(n)}\n" for n in names)
    )

    gpu_report.write(*files, page=page)

    text = page.read_text()
    assert text.startswith("before\n") and "old" not in text
    assert "| clofnet-20 | 64 | 2,560 | forward | clof_ext high | 2 | **4.0** | 0.5 | 1/10 | 1e-04 |" in text
    assert "| 64 | 2,560 | forward | clof_ext | 2 (1 to 3) | **4.0** | 3.0 | 5 | 1e-04 |" in text
    assert "| edge_frame | 0.100 | 1500 | 75% |" in text
    assert "| 2,560 | forward | 8 | 2 | **4.0** |" in text
    assert "| 2,560 | forward | clof_ext | 9 | 0.54 | forward_kernel 366 |" in text
    assert "edge.json" in text and "a GPU, torch 2.11" in text and "By hand." in text
