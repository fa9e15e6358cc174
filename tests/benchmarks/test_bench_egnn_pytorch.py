"""The benchmark of egnn-pytorch's layers at tiny sizes, of the look-alikes."""

import json
import sys

from benchmarks import bench_egnn_pytorch as bench
from tests.lookalikes import egnn_pytorch

SIZES = [bench.Size("EGNN", 4, 2, 5, masked=True), bench.Size("EGNN", 4, 2, 5, neighbours=2)]


def test_file_and_table(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "egnn_pytorch", egnn_pytorch)
    monkeypatch.setattr(bench, "SIZES", [*SIZES, bench.Size("EGNN_Sparse", 4, 1, 12)])
    bench.main(["--busy", "--seconds", "0.001", "--output", str(tmp_path)])
    (path,) = tmp_path.glob("egnn_pytorch_*.json")
    document = json.loads(path.read_text())
    lines = bench.table(document["measurements"])
    assert capsys.readouterr().out.splitlines() == lines
    assert len(lines) == 2 + 2 * 3
    assert lines[2].startswith("| EGNN | 4 | 2 x 5, masked | forward | ")
    for row in document["measurements"]:
        assert min(*row["ms"].values(), *row["peak_mib"].values()) > 0
    assert document["command"].startswith("python -m benchmarks.bench_egnn_pytorch --busy --seconds")
