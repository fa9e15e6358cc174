"""A comparison with an earlier run: noise passes, changes are named, and what cannot be compared is refused."""

import copy
import random
import statistics

import pytest

from benchmarks import throughput
from clof_ext import cli
from clof_ext.bench import compare, record
from clof_ext.bench.variants import EAGER, FUSED
from clof_ext.training import OptionError

EAGER_MS, FUSED_MS = 30.0, 10.0


def row(variant: str, key: str, durations: list[float], peak: int = 10 * record.MIB, error: float = 1e-6) -> dict:
    lower, median, upper = statistics.quantiles(durations, n=4, method="inclusive")
    times = {"lower_ms": lower, "median_ms": median, "upper_ms": upper, "repeats": len(durations)}
    return {
        "variant": variant,
        "pass": key,
        **times,
        "peak_bytes": peak,
        "errors": {"outputs": error, "gradients": error},
    }


def made(seed: int, *, spread: float = 0.03, slower: float = 1.0, repeats: int = 15, sizes: int = 4, **figures) -> dict:
    """A run of normal noise, in which clof_ext takes ``slower`` times as long, on a machine of a random speed."""
    generator = random.Random(seed)
    speed = generator.uniform(0.5, 2)

    def durations(median: float) -> list[float]:
        return [speed * median * generator.gauss(1, spread) for _ in range(repeats)]

    cases = []
    for size in range(sizes):
        rows = [row(EAGER, key, durations(EAGER_MS)) for key in ("forward", "forward+backward")]
        rows += [row(FUSED, key, durations(slower * FUSED_MS), **figures) for key in ("forward", "forward+backward")]
        cases.append({"network": "clofnet", "nodes": 100 * size, "hidden": 64, "measurements": rows})
    return {
        "format": record.FORMAT,
        "benchmark": "bench",
        "date": "2026-01-01",
        "commit": "abc",
        "machine": {"cpu": "A Processor", "cores": 2, "threads": 2, "instruction_sets": ["avx2"], "gpus": []},
        "versions": {"torch": "2.99"},
        "settings": {"device": "cpu"},
        "cases": cases,
    }


def test_noise_passes():
    """Of many pairs of the same program, about FALSE_ALARMS may be thought to differ; each has 8 rows."""
    pairs = 200
    alarms = sum(bool(compare.compare(made(k), made(pairs + k)).changes) for k in range(pairs))
    assert alarms <= 3 * compare.FALSE_ALARMS * pairs


def test_few_noisy_repeats_pass_too():
    pairs = 200
    noisy = {"spread": 0.1, "repeats": 9}
    alarms = sum(bool(compare.compare(made(k, **noisy), made(pairs + k, **noisy)).changes) for k in range(pairs))
    assert alarms <= 0.1 * pairs


@pytest.mark.parametrize("slower", [1.2, 2.0])
def test_a_slowdown_fails(slower: float, capsys):
    for seed in range(20):
        assert compare.report(made(seed), made(100 + seed, slower=slower)) == 1
    lines = capsys.readouterr().out.splitlines()
    slow = [line for line in lines if "slower: x eager was" in line]
    assert len(slow) == 20 * 8
    assert slow[0].startswith("clofnet, nodes 0, hidden 64, forward: slower")


@pytest.mark.parametrize(("slower", "least", "most"), [(1.1, 0.3, 0.5), (1.15, 0.95, 1.0)])
def test_how_much_is_found(slower: float, least: float, most: float):
    """What docs/performance.md says."""
    found = [compare.compare(made(k), made(1000 + k, slower=slower)).changes for k in range(100)]
    assert least <= sum(change.worse for changes in found for change in changes) / 800 <= most


def test_what_would_be_noticed_is_told():
    found = compare.compare(made(1), made(2))
    assert found.rows == len(found.noticed) == 8
    smallest = max(found.noticed)
    assert 0.05 < smallest < 0.2
    assert len(compare.compare(made(1), made(2, slower=1 + 2 * smallest)).changes) == 8


def test_an_improvement_is_told_and_passes(capsys):
    better = made(2, slower=0.5, peak=5 * record.MIB, error=1e-7)
    assert compare.report(made(1), better) == 0
    shown = capsys.readouterr().out
    assert shown.count("faster: x eager was") == shown.count("smaller: peak MiB was 10.00, is 5.00") == 8
    assert shown.count("more exact: error of outputs was 1.0e-06, is 1.0e-07") == 8


def test_memory_and_errors_are_judged(capsys):
    assert compare.report(made(1), made(2, peak=11 * record.MIB)) == 1
    assert compare.report(made(1), made(2, error=3e-6)) == 1
    shown = capsys.readouterr().out
    assert "clofnet, nodes 100, hidden 64, forward: larger: peak MiB was 10.00, is 11.00" in shown
    assert "less exact: error of gradients was 1.0e-06, is 3.0e-06" in shown
    assert compare.report(made(1), made(2, peak=10 * record.MIB + 1000, error=1.5e-6)) == 0


def test_nan_is_less_exact():
    assert any(change.worse for change in compare.compare(made(1), made(2, error=float("nan"))).changes)


def test_rows_that_are_missing_are_named(capsys):
    assert compare.report(made(1), made(2, sizes=3)) == 0
    shown = capsys.readouterr().out
    assert "clofnet, nodes 300, hidden 64, forward: measured there, not here" in shown
    assert "6 rows were compared" in shown


def test_other_sizes_cannot_be_compared():
    other = made(2)
    for case in other["cases"]:
        case["hidden"] = 128
    with pytest.raises(OptionError, match="no size and pass is in both"):
        compare.compare(made(1), other)


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("machine", "cpu", "Another"),
        ("machine", "threads", 1),
        ("versions", "torch", "3.0"),
        ("settings", "device", "cuda"),
        ("settings", "dtype", "float64"),
    ],
)
def test_other_machines_cannot_be_compared(part, name, value, tmp_path):
    old = made(1)
    path = tmp_path / "old.json"
    record.write(path, old)
    assert compare.read_old(path, made(2)) == old
    new = copy.deepcopy(old)
    new[part][name] = value
    with pytest.raises(OptionError, match=f"cannot be compared with this run: {name} is .* there and {value} here"):
        compare.read_old(path, new)


def test_other_benchmarks_and_formats_are_refused(tmp_path):
    path = tmp_path / "old.json"
    record.write(path, made(1) | {"benchmark": "throughput"})
    with pytest.raises(OptionError, match="of the benchmark throughput, this of bench"):
        compare.read_old(path, made(2))
    record.write(path, made(1) | {"format": 0})
    with pytest.raises(ValueError, match="must have format 1; got 0"):
        compare.read_old(path, made(2))


def change_fused(path, factor: float) -> None:
    """As if clof_ext had been so many times faster in a file."""
    document = record.read(path)
    for case in document["cases"]:
        for entry in case["measurements"]:
            if entry["variant"] == FUSED:
                entry |= {name: entry[name] / factor for name in ("median_ms", "lower_ms", "upper_ms")}
    record.write(path, document)


def test_commands_compare(tmp_path, capsys, monkeypatch):
    """Factors no noise of a busy machine reaches."""
    path = tmp_path / "old.json"
    tiny = ["--nodes", "12", "--neighbors", "3", "--hidden", "6", "--passes", "forward", "--seconds", "0.2"]
    assert cli.main(["bench", *tiny, "--json", str(path)]) == 0
    change_fused(path, 1e6)
    assert cli.main(["bench", *tiny, "--compare", str(path)]) == 1
    assert "forward: slower: x eager was" in capsys.readouterr().out
    assert cli.main(["bench", *tiny, "--compare", str(path), "--dtype", "float64"]) == 2
    assert "no size and pass is in both" in capsys.readouterr().err
    assert throughput.main(["--quick", "--compare", str(path), "--output", str(tmp_path)]) == 2
    assert "of the benchmark bench, this of throughput" in capsys.readouterr().err


def test_throughput_compares_with_the_file_that_it_replaces(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(throughput.measure_case.__globals__["VARIANTS"], "torch.compile", no_compiler)
    quick = ["--quick", "--cases", "egnn-5", "--output", str(tmp_path)]
    assert throughput.main(quick) == 0
    (path,) = tmp_path.glob("*.json")
    change_fused(path, 1e6)
    assert throughput.main([*quick, "--compare", str(path)]) == 1
    assert "egnn-5" in capsys.readouterr().out
    assert record.read(path)["command"].endswith(str(path))


def no_compiler(network):
    raise RuntimeError("No working C++ compiler found")
