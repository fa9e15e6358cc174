"""Training from the command line: it learns, survives a kill, and runs in several processes."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clof_ext import cli
from clof_ext.newton import LAWS, initial_systems, make_network, predict_samples, system_errors
from clof_ext.newton.commands import chosen_recipe
from clof_ext.newton.recipe import Recipe, best
from clof_ext.newton.reference import simulate
from clof_ext.newton.settings import setting
from clof_ext.newton.train import training_samples
from clof_ext.newton.trajectories import load_trajectories
from clof_ext.training import load_model

ROOT = Path(__file__).parents[2]
SMALL = ("--hidden-dim", "8", "--n-layers", "2", "--batch-size", "16", "--validate-every", "2", "--device", "cpu")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    sizes = ("--train", "40", "--valid", "20", "--test", "20")
    assert cli.main(["newton", "simulate", "es3", "--out", str(folder), *sizes]) == 0
    return folder


def train(data, out, *options):
    return cli.main(["newton", "train", str(data), "--out", str(out), *SMALL, *options])


def history(folder):
    rows = json.loads((folder / "metrics.json").read_text())
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.mark.parametrize("network", ["clofnet", "egnn", "linear"])
def test_networks_learn(data, tmp_path, network, capsys):
    assert train(data, tmp_path, "--network", network, "--epochs", "12") == 0
    rows = history(tmp_path)
    assert rows[-1]["train_loss"] < rows[0]["train_loss"]
    assert "lowest validation error" in capsys.readouterr().out


def test_the_kept_weights_have_the_kept_error(data, tmp_path):
    train(data, tmp_path, "--epochs", "4", "--average-decay", "0.5", "--recipe", "best")
    kept = load_model(tmp_path / "best.safetensors")
    network = make_network("clofnet", 8, 2, pair_features=True, moving_frame=True)
    network.load_state_dict(kept.weights)
    samples = load_trajectories(data / "valid.safetensors").samples()
    with torch.no_grad():
        assert predict_samples(network, samples).shape == (20, 3, 3)
        error = system_errors(network, samples).double().mean().item()
    assert error == pytest.approx(kept.metrics["valid_loss"], rel=1e-6)


@pytest.mark.parametrize(
    "options",
    [("--mirror",), ("--pair-features",), ("--moving-frame",),
     ("--all-frames",), ("--schedule", "cosine"), ("--clip-norm", "0.01"), ("--average-decay", "0.9"),
     ("--precision", "bfloat16"), ("--seed", "1"), ("--weight-decay", "0.5"), ("--learning-rate", "0.1")],
)  # fmt: skip
def test_options_change_the_training(data, tmp_path, options):
    train(data, tmp_path / "plain", "--epochs", "2")
    train(data, tmp_path / "other", "--epochs", "2", *options)
    assert history(tmp_path / "plain") != history(tmp_path / "other")


def test_compile_asks_torch_to_compile(data, tmp_path, monkeypatch):
    """What compiling changes, tests/ops/test_integration.py compares; here it would take minutes."""
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda module: compiled.append(type(module).__name__))
    train(data, tmp_path / "plain", "--epochs", "1")
    assert compiled == []
    train(data, tmp_path / "compiled", "--epochs", "1", "--compile")
    assert compiled == ["ClofNet"]


def test_a_mirrored_system_has_a_mirrored_target(data):
    samples = load_trajectories(data / "train.safetensors").samples()
    mirrored = samples.scaled(-torch.ones(40, 1, 1))
    assert torch.equal(mirrored.pos, -samples.pos) and torch.equal(mirrored.target, -samples.target)
    # EGNN does not tell a system from its mirror image.
    network = make_network("egnn", 8, 2)
    torch.testing.assert_close(system_errors(network, samples), system_errors(network, mirrored))


def test_all_pairs_of_frames(data):
    trajectories = load_trajectories(data / "train.safetensors")
    samples = training_samples(trajectories, all_frames=True)
    assert len(samples) == 40 * 39
    assert torch.equal(samples[slice(40 * 38, None)].target, trajectories.loc[:, 48])


def test_recipes_and_their_options():
    parser = cli._parser()
    law = setting("g+es20")
    options = parser.parse_args(["newton", "train", "data"])
    assert chosen_recipe(options, law) == Recipe(epochs=200)
    options = parser.parse_args(["newton", "train", "data", "--recipe", "best", "--average-decay", "none"])
    assert chosen_recipe(options, law) == replace(best(law), average_decay=None)
    options = parser.parse_args(["newton", "train", "data", "--epochs", "3", "--no-attention", "--clip-norm", "2.5"])
    assert chosen_recipe(options, law) == Recipe(epochs=3, clip_norm=2.5)


@pytest.mark.parametrize(
    ("name", "mirror", "moving_frame", "external_field"),
    [
        ("es20", True, True, False),
        ("springs5", True, True, False),
        ("g+es20", False, True, True),
        ("l+es5", True, False, True),
    ],
)
def test_the_best_recipe_uses_the_symmetries_that_there_are(name, mirror, moving_frame, external_field):
    recipe = best(setting(name))
    assert recipe.pair_features
    assert (recipe.mirror, recipe.moving_frame, recipe.external_field) == (mirror, moving_frame, external_field)


@pytest.mark.parametrize("kind", ["charged", "lorentz"])
def test_mirrored_systems_obey_the_same_law(kind):
    """Without gravity a trajectory from mirrored positions and velocities is the mirrored one."""
    first = initial_systems(kind, 3, range(2))
    mirrored = replace(first, pos=-first.pos, vel=-first.vel)
    found, expected = (simulate(LAWS[kind], systems, 2000, 100) for systems in (mirrored, first))
    for turned, straight in zip(found, expected, strict=True):
        assert abs(turned + straight).max() < 1e-9


@pytest.mark.parametrize("options", [("--epochs", "0"), ("--learning-rate", "-1"), ("--average-decay", "1"),
                                     ("--network", "cnn"), ("--seed", "x")])  # fmt: skip
def test_wrong_options_get_a_sentence(options, capsys):
    with pytest.raises(SystemExit) as exit_code:
        cli.main(["newton", "train", "data", *options])
    assert exit_code.value.code == 2
    assert f"argument {options[0]}: " in capsys.readouterr().err


def test_bad_files_get_a_sentence(data, tmp_path, capsys):
    assert train(tmp_path / "nothing", tmp_path) == 2
    assert "train.safetensors does not exist" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "last.safetensors").write_text("not a checkpoint")
    assert train(data, tmp_path / "out") == 2
    assert "last.safetensors is truncated, damaged, or no safetensors file" in capsys.readouterr().err
    assert train(data, tmp_path / "big", "--batch-size", "41") == 2
    assert "batch_size must be at most the 40 training systems; got 41." in capsys.readouterr().err


def test_options_that_do_not_fit_get_a_sentence(data, tmp_path, capsys):
    assert train(data, tmp_path, "--hidden-dim", "7") == 2
    assert "hidden_dim must be even: edge features have half its size; got 7." in capsys.readouterr().err
    assert train(data, tmp_path, "--network", "gnn", "--pair-features") == 2
    assert "pair features need a network of" in capsys.readouterr().err
    short = ["newton", "simulate", "es2", "--out", str(tmp_path), "--train", "1", "--valid", "1", "--test", "1"]
    assert cli.main([*short, "--steps", "100"]) == 2
    assert "--steps must be above --sample-every, 100; got 100." in capsys.readouterr().err
    assert cli.main([*short, "--steps", "101"]) == 0
    assert train(tmp_path, tmp_path / "run") == 2
    assert "the task needs trajectories of 41 frames; got 1: simulate more steps." in capsys.readouterr().err


def test_the_folder_is_named_after_the_training(data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for recipe, folder in (("published", "es3-egnn-0"), ("best", "es3-egnn-best-0")):
        options = ("--network", "egnn", "--recipe", recipe, "--epochs", "1", *SMALL)
        assert cli.main(["newton", "train", str(data), *options]) == 0
        assert (tmp_path / "runs" / folder / "best.safetensors").exists()


def command(data, out, *options):
    return ["-m", "clof_ext.cli", "newton", "train", str(data), "--out", str(out), *SMALL, *options]


ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def test_a_killed_training_goes_on_to_the_same_losses(data, tmp_path):
    options = ("--epochs", "12", "--average-decay", "0.9")
    killed = subprocess.Popen([sys.executable, *command(data, tmp_path / "killed", *options)], env=ENVIRONMENT)
    while not (tmp_path / "killed" / "last.safetensors").exists() and killed.poll() is None:
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    assert 0 < len(history(tmp_path / "killed")) < 12
    train(data, tmp_path / "killed", *options)
    train(data, tmp_path / "whole", *options)
    # Matrix products of torch round by where their operands lie in memory, which differs between processes.
    for one, two in zip(history(tmp_path / "killed"), history(tmp_path / "whole"), strict=True):
        given = {name for name, value in two.items() if value is not None}
        assert given == {name for name, value in one.items() if value is not None}
        assert all(one[name] == pytest.approx(two[name], rel=1e-5) for name in given)


def test_two_processes_compute_what_one_does(data, tmp_path):
    """On the same global batch, up to rounding."""
    options = ("--epochs", "3", "--validate-every", "1")
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    run = subprocess.run(
        [*launch, *command(data, tmp_path / "two", *options)], env=ENVIRONMENT, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("lowest validation error") == 1
    train(data, tmp_path / "one", *options)
    for one, two in zip(history(tmp_path / "one"), history(tmp_path / "two"), strict=True):
        assert one == pytest.approx(two, rel=1e-4)
