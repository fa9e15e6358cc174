"""Evaluation: errors, intervals, rollouts, equivariance; the command, its files and figures."""

import json

import pytest
import torch
from torch import nn

from clof_ext import cli
from clof_ext.newton import (
    Parameters,
    equivariance_error,
    make_network,
    prediction_errors,
    rollout,
    simulate_trajectories,
    system_errors,
)
from clof_ext.newton.evaluate import summarise
from clof_ext.training import save_model


@pytest.fixture(scope="module")
def trajectories():
    return simulate_trajectories(Parameters("es3", 0, 30))


class Oracle(nn.Module):
    """Knows the trajectories: finds a system by its positions."""

    def __init__(self, trajectories):
        super().__init__()
        self.loc = trajectories.loc

    def forward(self, h, pos, edge_index, edge_attr, vel, *, batch):
        systems = pos.reshape(-1, 1, self.loc.shape[2], 3)
        frames = (self.loc - systems).square().sum((2, 3)).argmin(1)
        return self.loc[torch.arange(len(frames)), frames + 10].reshape(-1, 3)


def test_errors_are_means_over_systems(trajectories):
    samples = trajectories.samples()
    network = make_network("linear")
    expected = (samples.pos + samples.vel - samples.target).square()
    with torch.no_grad():
        torch.testing.assert_close(system_errors(network, samples), expected.mean((1, 2)))
    errors = prediction_errors(network, samples)
    assert errors.mean == pytest.approx(expected.mean().item(), rel=1e-5)
    assert errors.median == pytest.approx(expected.mean((1, 2)).median().item(), rel=1e-5)
    assert errors.low < errors.mean < errors.high


def test_the_interval_is_that_of_the_mean():
    values = torch.randn(400, generator=torch.Generator().manual_seed(0)) + 5
    errors = summarise(values)
    half = 1.96 * values.std().item() / 20
    assert errors.low == pytest.approx(errors.mean - half, abs=0.02)
    assert errors.high == pytest.approx(errors.mean + half, abs=0.02)


def test_equivariance_tells_networks_apart(trajectories):
    samples = trajectories.samples()
    for name, low, high in (("clofnet", 0, 1e-4), ("egnn", 0, 1e-4), ("gnn", 0.05, 100)):
        torch.manual_seed(0)
        assert low <= equivariance_error(make_network(name, 16, 2), samples) < high, name


def test_a_rollout_follows_a_perfect_network(trajectories):
    errors = rollout(Oracle(trajectories), trajectories)
    assert list(errors) == [10, 20, 30, 40]
    assert all(e.mean == 0 for e in errors.values())


def test_a_rollout_goes_on_from_its_own_positions(trajectories):
    """Straight motion keeps its velocity: after k steps x + k v t."""
    errors = rollout(make_network("linear"), trajectories)
    pos, vel = trajectories.loc[:, 0], trajectories.vel[:, 0]
    for k, found in enumerate(errors.values(), 1):
        expected = (pos + k * vel - trajectories.loc[:, 10 * k]).square().mean().item()
        assert found.mean == pytest.approx(expected, rel=1e-4)


def test_the_command(tmp_path, capsys):
    sizes = ("--train", "16", "--valid", "8", "--test", "8")
    data = str(tmp_path / "data")
    assert cli.main(["newton", "simulate", "g+es3", "--out", data, *sizes, "--plot"]) == 0
    small = ("--hidden-dim", "8", "--n-layers", "1", "--batch-size", "8", "--epochs", "2", "--device", "cpu")
    runs = [str(tmp_path / name) for name in ("clofnet", "egnn")]
    for run in runs:
        assert cli.main(["newton", "train", data, "--out", run, "--network", run.split("/")[-1], *small]) == 0
    capsys.readouterr()
    out = tmp_path / "out"
    options = ("--rollout", "--out", str(out), "--plot", str(out), "--device", "cpu")
    assert cli.main(["newton", "evaluate", data, *runs, *options]) == 0
    table = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in table] == ["run", "clofnet", "egnn"]
    report = json.loads((out / "clofnet-test.json").read_text())
    assert f"{report['errors']['mean']:.5f}" in table[1]
    assert report["set"]["setting"] == "g+es3" and report["set"]["n_systems"] == 8
    assert report["recipe"]["network"] == "clofnet" and report["epoch"] in (1, 2)
    assert [row["frame"] for row in report["rollout"]] == [10, 20, 30, 40]
    assert len(report["history"]) == 1 and report["training_seconds"] > 0
    for picture in (out / "predictions.png", out / "rollout.png", tmp_path / "data" / "trajectories.png"):
        assert picture.stat().st_size > 5000


def test_foreign_networks_get_a_sentence(tmp_path, capsys):
    cli.main(["newton", "simulate", "es3", "--out", str(tmp_path), "--train", "1", "--valid", "1", "--test", "1"])
    save_model(tmp_path / "other.safetensors", nn.Linear(2, 2), {"network": "linear", "hidden_dim": 8}, {"epoch": 1})
    for run, message in (
        ("nothing", "nothing does not exist"),
        ("test.safetensors", "test.safetensors holds a set of trajectories; expected a trained model."),
        ("other.safetensors", "other.safetensors holds no network of this task that this clof_ext knows"),
    ):
        assert cli.main(["newton", "evaluate", str(tmp_path), str(tmp_path / run)]) == 2
        assert message in capsys.readouterr().err


def test_a_damaged_history_gets_a_sentence(tmp_path, capsys):
    sizes = ("--train", "8", "--valid", "4", "--test", "4")
    cli.main(["newton", "simulate", "es3", "--out", str(tmp_path), *sizes])
    small = ("--network", "linear", "--batch-size", "8", "--epochs", "1", "--device", "cpu")
    assert cli.main(["newton", "train", str(tmp_path), "--out", str(tmp_path / "run"), *small]) == 0
    for content in ('[{"epoch": 1', "[1]", "{}x"):
        (tmp_path / "run" / "metrics.json").write_text(content)
        assert cli.main(["newton", "evaluate", str(tmp_path), str(tmp_path / "run"), "--device", "cpu"]) == 2
        assert "metrics.json is damaged (" in capsys.readouterr().err


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
@pytest.mark.parametrize(
    "words",
    [
        ("newton", "train", "DATA", "--out", "out"),
        ("newton", "evaluate", "DATA", "run"),
        ("conformers", "train", "made.mols", "out"),
        ("conformers", "sample", "best.safetensors", "list.smi", "out"),
    ],
)
def test_a_missing_gpu_gets_a_sentence(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    simulate = ["newton", "simulate", "es3", "--out", "DATA", "--train", "1", "--valid", "1", "--test", "1"]
    assert cli.main(simulate) == 0
    assert cli.main([*words, "--device", "cuda"]) == 2
    assert capsys.readouterr().err == "clof-ext: --device cuda needs a CUDA device; torch finds none.\n"
