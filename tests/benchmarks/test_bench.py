"""The command clof-ext bench from end to end at tiny sizes, and what it refuses."""

import copy
import subprocess
import sys

import pytest
import torch

from clof_ext import cli
from clof_ext.bench import energy, machine, measure, record, timing, variants
from clof_ext.bench.agreement import largest_of
from clof_ext.bench.one_layer import Size, errors, make_inputs, make_network, outputs_alone, second_arrays
from clof_ext.bench.variants import COMPILE, EAGER, FUSED

TINY = ["--nodes", "12", "--neighbors", "3", "--hidden", "6", "--edge-dim", "2", "--seconds", "0"]


def bench(*arguments: str) -> int:
    return cli.main(["bench", *TINY, *arguments])


def test_every_combination_and_pass_is_measured(tmp_path, capsys):
    path = tmp_path / "new" / "bench.json"
    passes = ["forward", "forward+backward", "second-order"]
    options = ["--basis", "complete", "radial", "--layers", "1", "2", "--threads", "1", "--passes", *passes]
    before = torch.get_num_threads()
    assert bench(*options, "--json", str(path)) == 0
    assert torch.get_num_threads() == before
    document = record.read(path)
    assert document["command"].startswith("clof-ext bench --nodes 12 --neighbors 3")
    assert document["machine"]["threads"] == 1
    assert [(case["network"], case["layers"]) for case in document["cases"]] == [
        ("clofnet", 1), ("clofnet", 2), ("egnn", 1), ("egnn", 2)
    ]  # fmt: skip
    for case in document["cases"]:
        rows = case["measurements"]
        assert [(row["pass"], row["variant"]) for row in rows] == [
            (key, name) for key in passes for name in (EAGER, FUSED)
        ]
        for row in rows:
            assert 0 < row["lower_ms"] <= row["median_ms"] <= row["upper_ms"] and row["repeats"] >= 9
            assert row["peak_bytes"] > 0 and 0 < row["errors"]["gradients"] < 1e-3
            assert row["cold_start_s"] > 0 and row["warm_up_s"] > 0
        assert rows[1]["ratio_to_eager"] == pytest.approx(rows[0]["median_ms"] / rows[1]["median_ms"])
        assert case["left_out"] == {COMPILE: "--compile was not given"}
    shown = capsys.readouterr().out
    assert "clofnet, 2 layers, 12 nodes x 3 neighbors, hidden 6, edge features 2, float32" in shown
    assert shown.count("second-order") == 8


@pytest.mark.parametrize("dtype", measure.DTYPES)
def test_dtypes(dtype: str, tmp_path):
    path = tmp_path / "bench.json"
    assert bench("--dtype", dtype, "--edge-dim", "0", "--json", str(path)) == 0
    (case,) = record.read(path)["cases"]
    eager = case["measurements"][0]["errors"]["outputs"]
    # In float64 eager is the truth itself.
    assert eager == 0 if dtype == "float64" else eager > 0
    assert case["dtype"] == dtype


def test_torch_compile_takes_part(monkeypatch, tmp_path):
    """Dynamo alone compiles here: the C++ compiler would take a minute."""
    original = torch.nn.Module.compile
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: original(module, backend="eager"))
    monkeypatch.setattr(machine, "compiler", lambda: "c++")
    path = tmp_path / "bench.json"
    assert bench("--compile", "--passes", "forward+backward", "second-order", "--json", str(path)) == 0
    (case,) = record.read(path)["cases"]
    names = [(row["pass"], row["variant"]) for row in case["measurements"]]
    assert ("forward+backward", COMPILE) in names and ("second-order", COMPILE) not in names
    assert case["left_out"] == {f"{COMPILE}, second-order": "it records no derivative of a backward pass"}


def test_no_compiler_is_told(monkeypatch, capsys):
    monkeypatch.setattr(machine, "compiler", lambda: None)
    assert bench("--compile", "--passes", "forward") == 0
    assert "torch.compile was not measured: it finds no C++ compiler" in capsys.readouterr().out


def test_a_compiler_that_fails_is_told(monkeypatch, capsys):
    def compiled(network):
        raise RuntimeError("\nNo working C++ compiler found\nand more")

    monkeypatch.setitem(variants.VARIANTS, COMPILE, compiled)
    monkeypatch.setattr(machine, "compiler", lambda: "c++")
    assert bench("--compile", "--passes", "forward") == 0
    assert "torch.compile was not measured: No working C++ compiler found\n" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["forward", "second-order"])
def test_a_wrong_layer_is_not_timed(name: str, monkeypatch, tmp_path, capsys):
    def disturbed(network):
        network = copy.deepcopy(network)
        with torch.no_grad():
            network.layers[0].layer.edge_mlp[0].weight[0] += 1
        return network

    monkeypatch.setitem(variants.VARIANTS, FUSED, disturbed)
    path = tmp_path / "bench.json"
    assert bench("--passes", name, "--json", str(path)) == 1
    assert "FAILED: clof_ext does not agree with the published network" in capsys.readouterr().err
    assert not path.exists()


def test_second_gradients_are_those_of_the_replaced_network():
    size = Size("clofnet", 12, 3, 6, 2, layers=2)
    network, inputs = make_network(size).double(), make_inputs(size).to(torch.float64)
    found = {name: second_arrays(program, inputs) for name, program in
             ((EAGER, network), (FUSED, variants.fused(network)))}  # fmt: skip
    assert len(found[EAGER]) == len(list(network.parameters())) + len(inputs.leaves)
    assert largest_of(errors(found[FUSED], found[EAGER])) < 1e-9
    assert set(outputs_alone(network, inputs)) == {"features alone", "displacements alone"}


def test_other_programs_are_told(monkeypatch, capsys):
    spent = iter(range(0, 1000, 2))
    monkeypatch.setattr(timing, "others_seconds", lambda: next(spent))
    assert bench("--passes", "forward") == 0
    assert "cores meanwhile: measure again on a quiet machine" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--hidden", "1"], "--hidden must be at least 2; got 1."),
        (["--neighbors", "0"], "--neighbors must be at least 1; got 0."),
        (["--edge-dim", "-1"], "--edge-dim must be at least 0; got -1."),
        (["--layers", "2", "0"], "--layers must be at least 1; got 0."),
        (["--threads", "0"], "--threads must be at least 1; got 0."),
        (["--seconds", "-1"], "--seconds must be at least 0 and finite; got -1."),
        (["--seconds", "nan"], "--seconds must be at least 0 and finite; got nan."),
        (["--seconds", "inf"], "--seconds must be at least 0 and finite; got inf."),
        (["--device", "cuda"], "--device cuda needs a CUDA device"),
        (["--compare", "missing.json"], "missing.json must be a JSON file of measurements"),
    ],
)
def test_wrong_options_are_explained(arguments, words, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert bench(*arguments) == 2
    assert words in capsys.readouterr().err


def test_energy_is_what_the_counters_count(tmp_path):
    """Two processors, one of which begins again at 0; a part of a processor counts in it, not beside it."""
    folders = [tmp_path / name for name in ("intel-rapl:0", "intel-rapl:1", "intel-rapl:0:0", "other")]
    for folder in folders:
        folder.mkdir()
        (folder / "energy_uj").write_text("900")
        (folder / "max_energy_range_uj").write_text("1000")

    def call():
        (folders[0] / "energy_uj").write_text("950")
        (folders[1] / "energy_uj").write_text("50")

    found = energy.packages(tmp_path)
    assert found == folders[:2]
    assert energy.joules(call, found, seconds=0) == pytest.approx((50 + 150) * 1e-6)
    assert energy.packages(tmp_path / "missing") == []
    assert energy.joules(call, []) is None


def test_the_room_imports_nothing_optional():
    code = "import sys, clof_ext.bench.commands\nprint([name for name in ('matplotlib', 'triton', 'safetensors', "
    code += "'torch._inductor', 'benchmarks') if name in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() in ("[]", "['triton']")


def test_others_are_what_this_program_did_not_use(monkeypatch):
    busy = timing.others_seconds()
    if busy is None:
        pytest.skip("the system does not tell")
    assert timing._cores(1.0, 3.0, 4.0) == 0.5
    assert timing._cores(1.0, 0.99, 4.0) == 0.0
    assert timing._cores(None, None, 4.0) is None
    torch.randn(300, 300) @ torch.randn(300, 300)
    assert timing.others_seconds() >= busy - 0.02
