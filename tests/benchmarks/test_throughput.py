"""The throughput benchmark from end to end, and its check that variants compute the same."""

import pytest
import torch

from benchmarks import report, throughput
from benchmarks.agreement import exact_results, results
from benchmarks.workload import CASES, PASSES, Workload
from clof_ext.bench import machine, record, variants
from clof_ext.bench.agreement import TOLERANCE, DisagreementError, Errors, check
from clof_ext.bench.variants import COMPILE, EAGER, FUSED

# Sizes at which everything takes a moment.
TINY = throughput.QUICK


@pytest.fixture
def no_compiler(monkeypatch):
    """A machine on which torch.compile finds no compiler; its own search would take seconds."""

    def compiled(predictor):
        raise RuntimeError("\nNo working C++ compiler found\nand more")

    monkeypatch.setitem(variants.VARIANTS, COMPILE, compiled)


def run(tmp_path, *arguments: str) -> tuple[int, dict | None]:
    """Exit code and document of a quick run."""
    code = throughput.main(["--quick", *arguments, "--output", str(tmp_path)])
    files = list(tmp_path.glob("*.json"))
    return code, record.read(files[0]) if files else None


def test_quick_run_without_compiler(no_compiler, tmp_path, capsys):
    code, document = run(tmp_path)
    assert code == 0
    shown = capsys.readouterr()
    assert shown.out.strip() == report.table(document)
    assert "torch.compile was not measured: No working C++ compiler found" in shown.out
    assert "egnn-5: measuring forward+backward" in shown.err
    assert [case["case"] for case in document["cases"]] == list(throughput.QUICK_CASES)
    for case in document["cases"]:
        rows = case["measurements"]
        assert [(row["pass"], row["variant"]) for row in rows] == [
            (key, name) for key in PASSES for name in (EAGER, FUSED)
        ]
        assert all(0 < row["lower_ms"] <= row["median_ms"] <= row["upper_ms"] for row in rows)
        assert all(row["repeats"] >= TINY.repeats and row["peak_bytes"] > 0 and row["warmup_s"] > 0 for row in rows)
        assert all(max(row["errors"].values()) < document["tolerance"] for row in rows)
        assert rows[1]["ratio_to_eager"] == rows[0]["median_ms"] / rows[1]["median_ms"]
    assert document["versions"]["torch"] == torch.__version__
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".csv", ".png"}


@pytest.mark.skipif(machine.compiler() is None, reason="torch.compile needs a C++ compiler")
def test_quick_run_with_compile(tmp_path):
    code, document = run(tmp_path, "--cases", "egnn-5")
    assert code == 0
    case = document["cases"][0]
    assert not case["failures"]
    compiled = [row for row in case["measurements"] if row["variant"] == COMPILE]
    assert [row["ratio_to_compile"] for row in compiled] == [1, 1]
    assert all(max(row["errors"].values()) < document["tolerance"] for row in compiled)


def test_choices_reach_the_run_and_the_file_name(no_compiler, tmp_path):
    code, document = run(tmp_path, "--cases", "egnn-5", "--hidden", "8", "--dtype", "float64", "--systems", "3")
    assert code == 0
    assert [document["settings"][name] for name in ("hidden", "dtype", "n_systems")] == [8, "float64", 3]
    assert document["cases"][0]["nodes"] == 3 * 5
    # Eager in float64 is the truth itself.
    assert max(document["cases"][0]["measurements"][0]["errors"].values()) == 0
    assert next(tmp_path.glob("*.json")).name.endswith("_quick_hidden-8_n_systems-3_dtype-float64_egnn-5.json")
    assert document["command"].startswith("python -m benchmarks.throughput --quick --cases egnn-5")


def test_a_disturbed_weight_fails_loudly(no_compiler, tmp_path, capsys, monkeypatch):
    def disturbed(predictor):
        fused = variants.fused(predictor)
        with torch.no_grad():
            fused.network.gcl_0.edge_mlp[0].weight[0, 0] += 1e-2
        return fused

    monkeypatch.setitem(variants.VARIANTS, FUSED, disturbed)
    assert run(tmp_path) == (1, None)
    assert "FAILED: clof_ext does not agree with the published network" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["clofnet-5", "egnn-5", "edm-18"])
def test_fused_agrees_in_outputs_and_all_gradients(name):
    workload = Workload(CASES[name], TINY)
    eager = workload.make_predictor()
    found = results(workload, variants.fused(eager))
    assert set(found.gradients) == {*dict(eager.named_parameters()), "h", "x", "vel", "edge_attr"}
    assert found.errors(exact_results(workload, eager)).largest < TOLERANCE[torch.float32]


def test_layers_that_stay_are_an_error():
    predictor = Workload(CASES["egnn-5"], TINY).make_predictor()
    predictor.network.gcl_1.edge_mlp[1] = torch.nn.ELU()
    with pytest.raises(RuntimeError, match="gcl_1: E_GCL_vel"):
        variants.fused(predictor)


@pytest.mark.parametrize("errors", [Errors(1e-3, 0.0), Errors(0.0, 1e-3), Errors(float("nan"), 0.0)])
def test_errors_above_the_tolerance_are_refused(errors):
    check(Errors(1e-5, 1e-5), Errors(1e-6, 1e-6), torch.float32, FUSED)
    # Where rounding takes eager PyTorch as far.
    check(Errors(1e-5, 1e-3), Errors(1e-6, 9e-4), torch.float32, FUSED)
    with pytest.raises(DisagreementError, match="allowed is 5.0e-05"):
        check(errors, Errors(1e-6, 1e-6), torch.float32, FUSED)


def test_every_device_and_size_is_checked(capsys, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for arguments in (["--device", "cuda"], ["--hidden", "1"], ["--systems", "0"], ["--cases", "gnn-5"]):
        with pytest.raises(SystemExit):
            throughput.main(arguments)
        assert arguments[0] in capsys.readouterr().err
