"""The definition of the simulation: the published program's operations on each system, in their order, in NumPy.

Squared distances are |x_i|^2 + |x_j|^2 - 2 x_i . x_j by a product of matrices, and powers and sums are NumPy's: close
encounters amplify any difference of rounding until trajectories have nothing in common. With the library of matrix
products and the vector instructions that the published arrays were made with, every bit is theirs.
"""

import numpy as np

from .systems import FORCE_LIMIT, SOFTENING, TIME_STEP, Array, Law, Systems

# Pairs of particles in the arrays of one step, which then stay in the cache of a core.
PAIRS = 2**15


def simulate(law: Law, systems: Systems, n_steps: int, sample_every: int) -> tuple[Array, Array]:
    """Frames of positions and velocities, each (S, T, n, 3) with T = (n_steps - 1) // sample_every."""
    size = max(1, PAIRS // systems.pos.shape[1] ** 2)
    parts = [systems[first : first + size] for first in range(0, len(systems), size)]
    frames = [_simulate(law, part, n_steps, sample_every) for part in parts]
    pos, vel = (np.concatenate(arrays) for arrays in zip(*frames, strict=True))
    return pos, vel


def _simulate(law: Law, systems: Systems, n_steps: int, sample_every: int) -> tuple[Array, Array]:
    # Coordinates before particles, as published: the order in memory decides that of sums.
    pos, vel = (array.transpose(0, 2, 1).copy() for array in (systems.pos, systems.vel))
    frames = []
    vel += TIME_STEP * total_force(law, pos, vel, systems.charges, systems.coupling)
    for step in range(1, n_steps):
        pos += TIME_STEP * vel
        if step % sample_every == 0:
            frames.append((pos.copy(), vel.copy()))
        vel += TIME_STEP * total_force(law, pos, vel, systems.charges, systems.coupling)
    pos_frames, vel_frames = (np.stack(arrays, 1).transpose(0, 1, 3, 2) for arrays in zip(*frames, strict=True))
    return np.ascontiguousarray(pos_frames), np.ascontiguousarray(vel_frames)


def total_force(law: Law, pos: Array, vel: Array, charges: Array, coupling: Array) -> Array:
    """Clipped force on every particle, (S, 3, n), from (S, 3, n), (S, n) and (S, n, n)."""
    strength = coupling / _cubed_distances(pos) if law.inverse_square else coupling
    force = (strength[:, None] * (pos[:, :, :, None] - pos[:, :, None])).sum(axis=-1)
    if any(law.gravity):
        force += np.reshape(law.gravity, (3, 1))
    if any(law.magnetic_field):
        force += np.cross(vel, law.magnetic_field, axisa=1, axisc=1) * charges[:, None]
    return np.clip(force, -FORCE_LIMIT, FORCE_LIMIT)


def _cubed_distances(pos: Array) -> Array:
    """(|x_i - x_j|^2 + softening)^(3/2): (S, n, n) from (S, 3, n)."""
    rows = pos.transpose(0, 2, 1)
    norms = (rows**2).sum(axis=-1)
    squared = norms[:, :, None] + norms[:, None] - 2 * np.matmul(rows, pos) + SOFTENING
    return np.power(squared, 1.5, out=squared)
