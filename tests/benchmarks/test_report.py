"""The table, the CSV and the plot say what the document says."""

import copy
import csv
import io
import json
import sys

import pytest

from benchmarks import plot, report
from clof_ext.bench import record

MEDIANS = {"eager": 100.0, "torch.compile": 50.0, "clof_ext": 20.0}
EDGES = 1000


def measurement(variant: str, key: str) -> dict:
    median = MEDIANS[variant]
    return {
        "variant": variant,
        "pass": key,
        "median_ms": median,
        "lower_ms": 0.9 * median,
        "upper_ms": 1.2 * median,
        "repeats": 9,
        "edges_per_s": EDGES / (1e-3 * median),
        "ratio_to_eager": MEDIANS["eager"] / median,
        "ratio_to_compile": MEDIANS["torch.compile"] / median,
        "peak_bytes": int(median * record.MIB),
        "errors": {"outputs": 1e-6, "gradients": 3e-6},
        "warmup_s": 1.5,
    }


@pytest.fixture
def document() -> dict:
    case = {
        "case": "clofnet-5",
        "network": "ClofNet_vel",
        "n_particles": 5,
        "n_systems": 50,
        "nodes": 250,
        "edges": EDGES,
        "prepare_graph_ms": 0.5,
        "failures": {},
        "measurements": [measurement(name, key) for key in ("forward", "forward+backward") for name in MEDIANS],
    }
    return {
        "format": record.FORMAT,
        "machine": {"cpu": "A Processor", "threads": 2, "gpus": ["A GPU"]},
        "versions": {"torch": "2.99", "clof_ext": "0.9"},
        "settings": {"hidden": 64, "n_layers": 4, "dtype": "float32", "device": "cpu"},
        "cases": [case],
    }


@pytest.fixture
def without_compiler(document) -> dict:
    """The same where torch.compile found no compiler."""
    document = copy.deepcopy(document)
    case = document["cases"][0]
    case["failures"] = {"torch.compile": "No working C++ compiler found"}
    case["measurements"] = [row for row in case["measurements"] if row["variant"] != "torch.compile"]
    for row in case["measurements"]:
        row["ratio_to_compile"] = None
    return document


def test_document_survives_the_file(document, tmp_path):
    paths = report.write(document, tmp_path / "new", "name")
    assert [path.name for path in paths] == ["name.json", "name.csv", "name.png"]
    assert sorted(path.name for path in paths[0].parent.iterdir()) == ["name.csv", "name.json", "name.png"]
    assert report.table(record.read(paths[0])) == report.table(document)
    assert paths[2].read_bytes().startswith(b"\x89PNG")


def test_another_format_is_refused(tmp_path):
    path = tmp_path / "old.json"
    path.write_text(json.dumps({"format": record.FORMAT - 1}))
    with pytest.raises(ValueError, match=f"must have format {record.FORMAT}; got {record.FORMAT - 1}"):
        record.read(path)


def test_table_is_aligned_and_complete(document):
    lines = report.table(document).splitlines()
    header = next(number for number, line in enumerate(lines) if line.startswith("pass"))
    rows = lines[header + 1 :]
    assert "A Processor, 2 threads, torch 2.99, clof_ext 0.9" in lines
    assert len({len(line) for line in lines[header:]}) == 1
    assert " ".join(rows[2].split()) == "forward clof_ext 20.00 18.00-24.00 5e+04 5.00 2.50 20.00 3.0e-06 1.50"


def test_gpu_runs_name_the_gpu(document):
    document["settings"]["device"] = "cuda"
    assert record.title(document).startswith("A GPU, torch")


def test_table_tells_why_compile_is_missing(without_compiler):
    lines = report.table(without_compiler).splitlines()
    assert lines[-1] == "torch.compile was not measured: No working C++ compiler found"
    row = next(line for line in lines if "clof_ext " in line and line.startswith("forward "))
    assert row.split()[5:7] == ["5.00", "-"]


def texts(document: dict) -> list[list[str]]:
    """What stands in each panel of the plot."""
    return [
        [text.get_text().strip() for text in axes.texts] for axes in plot.draw(document, report.sizes(document)).axes
    ]


def test_plot_shows_numbers_and_shares(document):
    assert texts(document) == [["100 ms", "50 ms  (1/2.0)", "20 ms  (1/5.0)"]] * 2 + [
        ["100 MiB", "50 MiB  (1/2.0)", "20 MiB  (1/5.0)"]
    ]


def test_plot_marks_what_is_missing(without_compiler):
    assert texts(without_compiler)[0] == ["100 ms", "not measured", "20 ms  (1/5.0)"]


def test_csv_has_every_measurement(document):
    rows = list(csv.DictReader(io.StringIO(report.csv_text(document))))
    assert [(row["pass"], row["variant"]) for row in rows] == [
        (key, name) for key in ("forward", "forward+backward") for name in MEDIANS
    ]
    assert {row["network"] for row in rows} == {"ClofNet_vel"}
    assert float(rows[2]["median_ms"]) == MEDIANS["clof_ext"]
    assert float(rows[2]["error_gradients"]) == 3e-6


def test_without_matplotlib_the_rest_is_written(document, tmp_path, monkeypatch, capsys):
    monkeypatch.delitem(sys.modules, "benchmarks.plot", raising=False)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert [path.suffix for path in report.write(document, tmp_path, "name")] == [".json", ".csv"]
    assert "matplotlib is not installed" in capsys.readouterr().out
