"""Energies along trajectories."""

import torch
from torch import Tensor

from .systems import LAWS, SOFTENING, initial_systems
from .trajectories import Trajectories


def energy(trajectories: Trajectories) -> Tensor:
    """Kinetic and potential energy of each system in each frame, (S, T) float64.

    With mass 1: sum_i |v_i|^2 / 2 - g . x_i, and for each pair c_ij / sqrt(|d|^2 + 1e-6), or -c_ij |d|^2 / 2 with
    springs (c_ij: see ``Systems``); a magnetic field does no work. The simulation keeps it up to its time step, except
    where a force reaches its bound.
    """
    t = trajectories
    law = LAWS[t.setting.kind]
    coupling = torch.from_numpy(initial_systems(t.setting.kind, t.setting.n_particles, t.parameters.seeds).coupling)
    loc, vel = t.loc.double(), t.vel.double()
    single = vel.square().sum(-1) / 2 - loc @ torch.tensor(law.gravity, dtype=torch.float64)
    squared = (loc[:, :, :, None] - loc[:, :, None]).square().sum(-1)
    pair = coupling[:, None] * (1 / (squared + SOFTENING).sqrt() if law.inverse_square else -squared / 2)
    # Each pair stands in the table twice.
    return single.sum(-1) + pair.sum((-1, -2)) / 2
