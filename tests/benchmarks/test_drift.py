"""The spread between runs, against numbers worked out by hand."""

import math

import pytest

from benchmarks import drift
from clof_ext.bench import record
from clof_ext.bench.variants import EAGER, FUSED


def run(eager: float, fused: float, command: str = "clof-ext bench --json a.json") -> dict:
    rows = [
        {"variant": name, "pass": "forward", "median_ms": median, "others": 0.01}
        for name, median in ((EAGER, eager), (FUSED, fused))
    ]
    about = {key: key for key in ("machine", "versions", "commit", "date", "settings")}
    return {"format": record.FORMAT, **about, "command": command, "cases": [{"network": "egnn", "measurements": rows}]}


def test_spreads_of_times_and_shares():
    """Two values a and b have the standard deviation |a - b| / sqrt(2)."""
    (row,) = drift.drift([run(10, 5), run(20, 5 * 1.1)])
    expected = {EAGER: math.log(2), FUSED: math.log(1.1), "share": math.log(2 / 1.1)}
    assert row["spread"] == pytest.approx({name: value / math.sqrt(2) for name, value in expected.items()})
    assert row["medians_ms"] == {EAGER: [10, 20], FUSED: [5, 5.5]}
    assert drift.table([row]).splitlines()[1].split() == ["forward", "egnn", "49.0%", "6.7%", "42.3%", "5", "5.5"]


def test_runs_of_other_commands_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(drift, "RESULTS", tmp_path)
    paths = [tmp_path / name for name in ("a.json", "b.json")]
    record.write(paths[0], run(10, 5))
    record.write(paths[1], run(10, 5, "clof-ext bench --hidden 8 --json b.json"))
    with pytest.raises(SystemExit, match="two or more runs of one command"):
        drift.main(paths)
    record.write(paths[1], run(10, 5, "clof-ext bench --json b.json"))
    drift.main(paths)
    (path,) = tmp_path.glob("drift_*.json")
    assert record.read(path)["command"] == "clof-ext bench"
