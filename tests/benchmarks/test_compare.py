"""A comparison with an earlier run: noise passes, changes are named, and what cannot be compared is refused."""

import copy
import math
import random
import statistics

import pytest

from benchmarks import throughput
from clof_ext import cli
from clof_ext.bench import compare, record
from clof_ext.bench.variants import EAGER, FUSED
from clof_ext.training import OptionError

EAGER_MS, FUSED_MS = 30.0, 10.0
# What is left of a share's when clof_ext's own is taken from it.
EAGER_DRIFT = math.sqrt(compare.DRIFT_OF_SHARE**2 - compare.DRIFT_OF_TIME**2)


def row(variant: str, key: str, durations: list[float], peak: int, error: float, others: float | None) -> dict:
    lower, median, upper = statistics.quantiles(durations, n=4, method="inclusive")
    return {
        **{"variant": variant, "pass": key, "lower_ms": lower, "median_ms": median, "upper_ms": upper},
        **{
            "repeats": len(durations),
            "others": others,
            "peak_bytes": peak,
            "errors": {"outputs": error, "gradients": error},
        },
    }


def made(seed: int, *, spread: float = 0.03, slower: float = 1.0, repeats: int = 15, sizes: int = 4, quiet: bool = True,
         peak: int = 10 * record.MIB, error: float = 1e-6) -> dict:  # fmt: skip
    """A run in which clof_ext takes ``slower`` times as long; on a quiet machine, else on one of a random speed.

    Calls scatter by normal noise, and medians by what was measured between runs.
    """
    generator = random.Random(seed)
    speed, others = (1.0, 0.01) if quiet else (generator.uniform(0.5, 2), 1.0)

    def timed(variant: str, key: str, milliseconds: float, drift: float) -> dict:
        median = speed * milliseconds * math.exp(generator.gauss(0, drift))
        durations = [median * generator.gauss(1, spread) for _ in range(repeats)]
        return row(variant, key, durations, peak, error, others)

    cases = []
    for size in range(sizes):
        passes = ("forward", "forward+backward")
        rows = [timed(EAGER, key, EAGER_MS, EAGER_DRIFT) for key in passes]
        rows += [timed(FUSED, key, slower * FUSED_MS, compare.DRIFT_OF_TIME) for key in passes]
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


@pytest.mark.parametrize("quiet", [True, False])
def test_noise_passes(quiet: bool):
    """Of many pairs of the same program, about FALSE_ALARMS may be thought to differ; each has 8 rows."""
    pairs = 200
    both = ((made(k, quiet=quiet), made(pairs + k, quiet=quiet)) for k in range(pairs))
    alarms = sum(bool(compare.compare(*pair).changes) for pair in both)
    assert alarms <= 4 * compare.FALSE_ALARMS * pairs


def test_few_noisy_repeats_pass_too():
    pairs = 200
    noisy = {"spread": 0.1, "repeats": 9}
    alarms = sum(bool(compare.compare(made(k, **noisy), made(pairs + k, **noisy)).changes) for k in range(pairs))
    assert alarms <= 0.1 * pairs


def found(slower: float, quiet: bool) -> float:
    """The share of slower rows that are found."""
    pairs = [(made(k, quiet=quiet), made(1000 + k, quiet=quiet, slower=slower)) for k in range(100)]
    return sum(change.worse for pair in pairs for change in compare.compare(*pair).changes) / 800


def test_how_much_is_found():
    """What docs/performance.md says."""
    assert 0.45 <= found(1.2, quiet=True) <= 0.6
    assert found(1.3, quiet=True) > 0.9
    assert 0.2 <= found(1.5, quiet=False) <= 0.35
    assert found(2.0, quiet=False) > 0.8


def test_a_slowdown_fails(capsys):
    assert compare.report(made(1), made(2, slower=1.5)) == 1
    assert compare.report(made(1), made(2, slower=4, quiet=False)) == 1
    lines = capsys.readouterr().out.splitlines()
    assert sum("slower: ms were" in line for line in lines) == sum("slower: x eager was" in line for line in lines) == 8
    assert "clofnet, nodes 0, hidden 64, forward: slower: ms were" in lines[2]
    assert "Other programs used 1.0 cores here: repeat before you believe a change." in lines


def test_what_would_be_noticed_is_told():
    comparison = compare.compare(made(1), made(2))
    assert comparison.rows == len(comparison.noticed) == 8
    smallest = max(comparison.noticed)
    assert 0.15 < smallest < 0.25
    assert len(compare.compare(made(1), made(2, slower=1 + 3 * smallest)).changes) == 8


def test_an_improvement_is_told_and_passes(capsys):
    better = made(2, slower=0.5, peak=5 * record.MIB, error=1e-7)
    assert compare.report(made(1), better) == 0
    shown = capsys.readouterr().out
    assert shown.count("faster: ms were") == shown.count("smaller: peak MiB was 10.00, is 5.00") == 8
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
    assert "forward: slower: " in capsys.readouterr().out
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
