"""Energies along trajectories."""

import pytest
import torch

from clof_ext.newton import Parameters, Trajectories, energy, simulate_trajectories


def test_springs_keep_their_energy():
    values = energy(simulate_trajectories(Parameters("springs6", 0, 20)))
    assert values.shape == (20, 49) and values.dtype == torch.float64
    change = (values - values[:, :1]).abs().max(1).values
    assert (change < 0.01 * values[:, 0].abs()).all()


def test_most_systems_of_charges_keep_their_energy():
    """Those without close encounters."""
    values = energy(simulate_trajectories(Parameters("es5", 0, 40)))
    assert (values[:, -1] - values[:, 0]).abs().median() < 0.02


@pytest.mark.parametrize("name", ["g+es1", "l+es1"])
def test_single_particles_keep_their_energy_in_a_field(name):
    values = energy(simulate_trajectories(Parameters(name, 0, 10)))
    assert (values - values[:, :1]).abs().max() < 2e-3
    assert values[:, 0].abs().max() > 0.1


def test_two_charges_at_rest():
    loc = torch.tensor([[[[0.0, 0, 0], [2, 0, 0]]]])
    # The first seeds' charges are those of the simulation with these seeds.
    for seed in range(4):
        trajectories = simulate_trajectories(Parameters("es2", seed, 1))
        still = Trajectories(trajectories.parameters, loc, torch.zeros_like(loc), trajectories.charges)
        product = trajectories.charges.prod().item()
        assert energy(still).item() == pytest.approx(product / 2, abs=1e-6)
