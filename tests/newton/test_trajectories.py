"""Settings by name, and data sets in files."""

import os
from dataclasses import replace

import numpy as np
import pytest
import torch

from clof_ext.newton import Parameters, load_trajectories, make_data_set, setting, simulate, simulate_trajectories
from clof_ext.newton.trajectories import KIND, split_parameters
from clof_ext.training import FileError, save

SHORT = {"n_steps": 420, "sample_every": 10}


@pytest.mark.parametrize(
    ("name", "kind", "n_particles", "epochs"),
    [
        ("es5", "charged", 5, 400),
        ("es20", "charged", 20, 600),
        ("g+es20", "gravity", 20, 200),
        ("l+es20", "lorentz", 20, 600),
        ("springs12", "springs", 12, 400),
    ],
)
def test_settings(name, kind, n_particles, epochs):
    found = setting(name)
    assert (found.kind, found.n_particles, found.epochs) == (kind, n_particles, epochs)


@pytest.mark.parametrize("name", ["es", "5", "es0", "ES5", "es5 ", "es5x", "magnets5"])
def test_wrong_names_of_settings(name):
    with pytest.raises(ValueError, match="a setting must be es, g"):
        setting(name)


def test_splits_follow_each_other_and_are_what_simulate_returns(tmp_path):
    splits = split_parameters("l+es3", {"train": 3, "test": 2}, 7, **SHORT)
    make_data_set(tmp_path, splits, print)
    loc, vel, charges = simulate("lorentz", 3, range(7, 12), **SHORT)
    for split, part in (("train", slice(0, 3)), ("test", slice(3, 5))):
        found = load_trajectories(tmp_path / f"{split}.safetensors")
        assert found.parameters == splits[split] and found.setting == setting("l+es3")
        assert torch.equal(found.loc, loc[part].float())
        assert torch.equal(found.vel, vel[part].float())
        assert torch.equal(found.charges, charges[part].float())
    assert torch.equal(found.samples().target, loc[3:5, 40].float())


def test_published_sets_have_the_seeds_that_the_published_program_draws(tmp_path):
    sizes = {"train": 2, "valid": 3, "test": 4}
    splits = split_parameters("es20", sizes, published=True, n_steps=42, sample_every=10)
    np.random.seed(43)
    drawn = [int(np.random.choice(list(range(1000000)))) for _ in range(9)]
    # For its validation, its test and its training set, one after the other.
    assert [list(splits[split].seeds) for split in sizes] == [drawn[7:], drawn[:3], drawn[3:7]]
    make_data_set(tmp_path, splits, print)
    loc, _, _ = simulate("charged", 20, drawn[3:7], n_steps=42, sample_every=10, backend="reference")
    found = load_trajectories(tmp_path / "test.safetensors")
    assert torch.equal(found.loc, loc.float()) and found.parameters == splits["test"]


def test_what_is_complete_is_not_simulated_again(tmp_path):
    told = []
    splits = split_parameters("es2", {"train": 2, "valid": 2}, 0, **SHORT)
    make_data_set(tmp_path, {"train": splits["train"]}, told.append)
    before = os.stat(tmp_path / "train.safetensors")
    make_data_set(tmp_path, splits, told.append)
    assert os.stat(tmp_path / "train.safetensors").st_mtime_ns == before.st_mtime_ns
    assert [line.split(": ")[1] for line in told] == ["2 systems", "complete, left as it is", "2 systems"]


def test_other_contents_are_not_overwritten(tmp_path):
    make_data_set(tmp_path, split_parameters("es2", {"train": 2}, 0, **SHORT), print)
    with pytest.raises(FileError, match=r"train.safetensors holds Parameters\(setting='es2', first_seed=0"):
        make_data_set(tmp_path, split_parameters("es2", {"train": 2}, 1, **SHORT), print)
    content = (tmp_path / "train.safetensors").read_bytes()
    (tmp_path / "train.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(FileError, match="train.safetensors is truncated"):
        load_trajectories(tmp_path / "train.safetensors")


def test_sets_of_an_older_simulation_are_read_but_not_taken_for_new_ones(tmp_path):
    splits = split_parameters("es2", {"train": 2}, 0, **SHORT)
    made = simulate_trajectories(splits["train"])
    path = tmp_path / "train.safetensors"
    # As the first version wrote it, which did not say its number.
    parameters = {name: value for name, value in vars(made.parameters).items() if name != "simulation"}
    save(path, {"parameters": parameters, "loc": made.loc, "vel": made.vel, "charges": made.charges}, KIND)
    assert load_trajectories(path).parameters == replace(splits["train"], simulation=1)
    with pytest.raises(FileError, match=r"train.safetensors holds .*simulation=1\); expected .*simulation=2"):
        make_data_set(tmp_path, splits, print)


def test_parameters_name_a_setting():
    with pytest.raises(ValueError, match="got 'cats9'"):
        simulate_trajectories(Parameters("cats9", 0, 1))
