"""The definition of the simulation: plain NumPy, over all systems at once.

The order of every operation is that of the compiled kernel. Both use only operations that IEEE 754 rounds correctly,
so that the trajectories are the same to the last bit; close encounters would amplify any difference.
"""

import numpy as np

from .systems import FORCE_LIMIT, SOFTENING, TIME_STEP, Array, Law, Systems


def simulate(law: Law, systems: Systems, n_steps: int, sample_every: int) -> tuple[Array, Array]:
    """Frames of positions and velocities, each (S, T, n, 3) with T = (n_steps - 1) // sample_every."""
    # Coordinates first, systems last: (3, n, S) is one contiguous array operation over systems.
    pos, vel = systems.pos.transpose(2, 1, 0).copy(), systems.vel.transpose(2, 1, 0).copy()
    charges, coupling = systems.charges.T.copy(), systems.coupling.transpose(1, 2, 0).copy()
    frames = []
    vel += TIME_STEP * total_force(law, pos, vel, charges, coupling)
    for step in range(1, n_steps):
        pos += TIME_STEP * vel
        if step % sample_every == 0:
            frames.append((pos.copy(), vel.copy()))
        vel += TIME_STEP * total_force(law, pos, vel, charges, coupling)
    pos_frames, vel_frames = (np.stack(arrays).transpose(3, 0, 2, 1) for arrays in zip(*frames, strict=True))
    return np.ascontiguousarray(pos_frames), np.ascontiguousarray(vel_frames)


def total_force(law: Law, pos: Array, vel: Array, charges: Array, coupling: Array) -> Array:
    """Clipped force on every particle, (3, n, S), from (3, n, S), (n, S) and (n, n, S)."""
    force = np.zeros_like(pos)
    for sender in range(pos.shape[1]):
        d = pos - pos[:, sender, None]
        force += _pair_strength(law, d, coupling[:, sender]) * d
    field = law.magnetic_field
    magnetic = [vel[a] * field[b] - vel[b] * field[a] for a, b in ((1, 2), (2, 0), (0, 1))]
    force += np.reshape(law.gravity, (3, 1, 1))
    force += charges * np.stack(magnetic)
    return np.clip(force, -FORCE_LIMIT, FORCE_LIMIT)


def _pair_strength(law: Law, d: Array, coupling: Array) -> Array:
    """What multiplies d in the pair force."""
    if not law.inverse_square:
        return coupling
    squared = d[0] * d[0] + d[1] * d[1] + d[2] * d[2] + SOFTENING
    # Of the orders of operations, this one stays closest to the published trajectories.
    return coupling / squared / np.sqrt(squared)
