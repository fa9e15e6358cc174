"""The sweep from end to end at tiny sizes, what it leaves out, and what its tables and plot say."""

import copy
from dataclasses import replace

import pytest
import torch

from benchmarks import sweep, sweep_measure, sweep_plot, sweep_report
from clof_ext.bench import machine, record, timing
from clof_ext.bench.one_layer import GRAPHS, PASSES, Size, about, make_inputs
from clof_ext.bench.variants import COMPILE, EAGER, FUSED

TINY = Size("clofnet", nodes=20, neighbours=4, hidden=6, edge_dim=3)
LIMITS = replace(sweep.QUICK_LIMITS, minutes=60)


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(machine, "compiler", lambda: None)


def measure(size: Size, *, rate: float = 1e12, **changed) -> dict:
    return sweep_measure.Sweep(replace(LIMITS, **changed), rate, lambda text: None).measure(size)


@pytest.mark.parametrize("graph", GRAPHS)
def test_every_node_has_its_neighbours(graph: str):
    edges = make_inputs(replace(TINY, graph=graph)).edge_index
    assert edges.shape == (2, 80)
    assert torch.equal(edges[0].bincount(), torch.full((20,), 4))
    assert (edges[0] != edges[1]).all()


def test_design_covers_the_sizes_that_are_promised():
    sizes = sweep.ordered(sweep.AXES, sweep.CORNERS)
    assert len(set(sizes)) == len(sizes)
    ends = {"nodes": (5, 100_000), "neighbours": (4, 200), "hidden": (16, 256), "edge_dim": (0, 128)}
    for name, values in ends.items():
        found = [getattr(size, name) for size in sizes]
        assert (min(found), max(found)) == pytest.approx(values, rel=1e-3)
    assert all(size.nodes == about(size.nodes, size.neighbours) for size in sizes if size.graph == "systems")


@pytest.mark.parametrize("flags", [[], ["--busy"]])
def test_quick_run(flags, no_compiler, tmp_path, capsys):
    before = torch.get_num_threads()
    assert sweep.main(["--quick", *flags, "--output", str(tmp_path)]) == 0
    assert torch.get_num_threads() == before
    (path,) = tmp_path.glob("sweep_*_quick.json")
    document = record.read(path)
    assert document["settings"]["busy"] == bool(flags)
    assert capsys.readouterr().out.strip() == sweep_report.text(document)
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
    (twice,) = document["second_derivatives"]
    assert [entry["variant"] for entry in twice["measurements"]] == [EAGER, FUSED]
    assert all(entry["median_ms"] > 0 and entry["peak_bytes"] > 0 for entry in twice["measurements"])
    *measured, large = document["cases"]
    assert len(measured) == 3
    assert set(large["left_out"]) == {EAGER, COMPILE, FUSED}
    assert document["gemm"]["largest"] >= document["runs"][0]["gemm"]["before"]["1024"]
    for case in measured:
        assert case["left_out"] == {COMPILE: "there is no C++ compiler"}
        assert case["errors"][FUSED] < sweep_measure.ALLOWED
        assert [(row["pass"], row["variant"]) for row in case["measurements"]] == [
            (key, name) for key in PASSES for name in (EAGER, FUSED)
        ]
        for row in case["measurements"]:
            assert 0 < row["lower_ms"] <= row["median_ms"] <= row["upper_ms"]
            assert row["peak_bytes"] > 0
            assert row["flops_per_s"] == pytest.approx(1e3 * row["flops"] / row["median_ms"])


def test_a_run_goes_on_where_another_ended(no_compiler, tmp_path, capsys, monkeypatch):
    """What it lacks, and what others disturbed, is measured; the rest stays."""
    monkeypatch.setattr(sweep, "_gemm", lambda limits: {"1024": 1e11})
    monkeypatch.setattr(timing, "others_seconds", lambda: None)
    arguments = ["--quick", "--output", str(tmp_path)]
    assert sweep.main([*arguments, "--resume"]) == 2
    assert "--resume is not possible" in capsys.readouterr().err
    assert sweep.main(arguments) == 0
    (path,) = tmp_path.glob("*.json")
    first = record.read(path)
    ended = copy.deepcopy(first)
    ended["cases"][1] |= {"measurements": [], "left_out": {FUSED: "the run's minutes were over"}}
    ended["cases"][2]["measurements"][0]["others"] = 0.5
    record.write(path, ended)

    assert sweep.main([*arguments, "--resume"]) == 0
    second = record.read(path)
    assert second["cases"][0] == first["cases"][0]
    assert second["second_derivatives"] == first["second_derivatives"]
    assert second["cases"][1]["measurements"] and second["cases"][1]["left_out"] == {
        COMPILE: "there is no C++ compiler"
    }
    assert not any(row["others"] for row in second["cases"][2]["measurements"])
    assert len(second["runs"]) == 2

    monkeypatch.setattr(machine, "memory_bytes", lambda: 1)
    assert sweep.main([*arguments, "--resume"]) == 2
    assert "machine must be as in the earlier run" in capsys.readouterr().err


def test_one_compilation_serves_graphs_of_all_sizes(monkeypatch):
    """Dynamo alone compiles here: the C++ compiler would take a minute."""
    compiled, original = [], torch.nn.Module.compile

    def without_inductor(module, **options):
        compiled.append(options)
        original(module, backend="eager", **options)

    monkeypatch.setattr(torch.nn.Module, "compile", without_inductor)
    monkeypatch.setattr(machine, "compiler", lambda: "c++")
    run = sweep_measure.Sweep(LIMITS, 1e12, lambda text: None)
    small = replace(TINY, network="egnn")
    for size in (small, replace(small, nodes=35), replace(small, hidden=5)):
        case = run.measure(size)
        assert [row["variant"] for row in case["measurements"]] == [EAGER, COMPILE, FUSED] * 2
        assert case["errors"][COMPILE] < sweep_measure.ALLOWED
    assert compiled == [{"dynamic": True}] * 2


def test_what_is_too_much_is_left_out(no_compiler):
    assert "products take" in measure(TINY, rate=1.0)["left_out"][FUSED]
    assert "minutes were over" in measure(TINY, minutes=-1.0)["left_out"][FUSED]
    alone = measure(TINY, memory=1000)
    assert [row["variant"] for row in alone["measurements"]] == [FUSED] * 2
    assert "eager would need" in alone["left_out"][EAGER]
    assert alone["measurements"][0]["ratio_to_eager"] is None


def test_memory_of_a_large_graph_is_known_from_a_small_one():
    large = replace(TINY, nodes=5 * 200)
    layer = sweep_measure.make_layer(large)
    expected = sweep_measure._peak(
        lambda: PASSES["forward+backward"](layer, inputs), layer, inputs := make_inputs(large)
    )
    assert sweep_measure.eager_memory(large, layer) == pytest.approx(expected, rel=0.1)


def test_a_wrong_layer_is_not_timed(no_compiler, monkeypatch, tmp_path, capsys):
    def disturbed(layer):
        layer = copy.deepcopy(layer)
        with torch.no_grad():
            layer.layer.edge_mlp[0].weight[0, 0] += 1e-2
        return layer

    monkeypatch.setattr(sweep_measure, "fused", disturbed)
    assert sweep.main(["--quick", "--output", str(tmp_path)]) == 1
    assert "FAILED: clof_ext does not agree with the published layer" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def row(variant: str, key: str, median: float) -> dict:
    return {
        "variant": variant,
        "pass": key,
        "median_ms": median,
        "lower_ms": 0.9 * median,
        "upper_ms": 1.1 * median,
        "repeats": 3,
        "flops": 10**9,
        "flops_per_s": 1e12 / median,
        "ratio_to_eager": 10.0 / median,
        "peak_bytes": int(median * record.MIB),
    }


@pytest.fixture
def document() -> dict:
    size = {**vars(TINY)}
    rows = [row(name, key, median) for key in PASSES for name, median in ((EAGER, 10.0), (FUSED, 4.0))]
    slow = [row(EAGER, "forward", 10.0), row(FUSED, "forward", 12.5)] + rows[2:]
    return {
        "format": record.FORMAT,
        "machine": {"cpu": "A Processor", "threads": 2, "gpus": []},
        "versions": {"torch": "2.99", "clof_ext": "0.9"},
        "settings": {"dtype": "float32", "device": "cpu", "busy": False},
        "gemm": {"largest": 500e9},
        "second_derivatives": [{**size, "measurements": [row(EAGER, "", 8.0), row(FUSED, "", 16.0)]}],
        "axes": [{"name": "nodes", "sizes": [size, {**size, "nodes": 5}]}],
        "cases": [
            {**size, "left_out": {COMPILE: "no time"}, "errors": {FUSED: 1e-6}, "measurements": rows},
            {**size, "nodes": 5, "left_out": {}, "errors": {FUSED: 1e-6}, "measurements": slow},
            {**size, "nodes": 9, "left_out": {EAGER: "too big", FUSED: "too big"}, "errors": {}, "measurements": []},
        ],
    }


def test_a_busy_machine_is_named(document):
    assert not any("busy" in line for line in sweep_report.markdown(document))
    document["settings"]["busy"] = True
    assert "Times are the processor's, because the machine was busy." in sweep_report.markdown(document)


def test_table_and_summary(document):
    lines = sweep_report.markdown(document)
    assert lines[2] == (
        "| clofnet | 20 | 4 | 6 | 3 | 10 / - / 4 (3.6 to 4.4) | 10 / - / 4 (3.6 to 4.4) | **2.50** | **2.50** "
        "| 10 / 4 | 250 (50%) | 1e-06 |"
    )
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert lines[4:7] == ["", "Slower than eager PyTorch:", "- clofnet N=5 n=4 H=6 D=3, forward: 0.80 x"]
    assert lines[-2:] == [
        "- torch.compile: no time: clofnet N=20 n=4 H=6 D=3",
        "- eager, clof_ext: too big: clofnet N=9 n=4 H=6 D=3",
    ]


def test_second_derivatives_are_shown(document):
    (line,) = sweep_report.second_derivatives(document)[2:]
    assert line == "| clofnet N=20 n=4 H=6 D=3 | 8 | 16 | **0.62** | 8 / 16 |"


def test_no_loss_is_said_too(document):
    del document["cases"][1:]
    assert "Slower than eager PyTorch: at no size." in sweep_report.markdown(document)


def test_plot_shows_ratios_and_rates(document):
    ratios, *_, rates = sweep_plot.draw(document).axes
    assert [list(line.get_ydata()) for line in ratios.lines[:2]] == [[2.5, 0.8], [2.5, 2.5]]
    fused = next(line for line in rates.lines if line.get_label() == f"{FUSED}, forward")
    assert list(fused.get_ydata()) == [250.0, 80.0]
