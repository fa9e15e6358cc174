"""Newtonian many-body systems: their laws of force and their random initial states."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

TIME_STEP = 1e-3
# Added to |x_i - x_j|^2 in the inverse-square force, which is then finite everywhere.
SOFTENING = 1e-6
# Each component of the total force on a particle is clipped to +- this.
FORCE_LIMIT = 100.0
INITIAL_SPEED = 0.5
# Charges have the density of 5 particles with coordinates of standard deviation 1, whatever their number.
PARTICLES_AT_UNIT_SPREAD = 5
# Standard deviation of coordinates of particles on springs, whatever their number.
SPRING_SPREAD = 0.5
# Coordinates of the initial positions beyond +- this are reflected. Nothing bounds them later.
WALL = 5.0
SPRING_CONSTANT = 0.1


@dataclass(frozen=True)
class Law:
    """Forces on a particle of mass 1 and charge q: pair forces, and fields fixed in the laboratory.

    Attributes:
        inverse_square: pair force c_ij d / (|d|^2 + 1e-6)^(3/2) with d = x_i - x_j; otherwise c_ij d.
        gravity: constant force.
        magnetic_field: B of the Lorentz force q v x B.
    """

    inverse_square: bool
    gravity: tuple[float, float, float] = (0.0, 0.0, 0.0)
    magnetic_field: tuple[float, float, float] = (0.0, 0.0, 0.0)


LAWS = {
    "charged": Law(inverse_square=True),
    "gravity": Law(inverse_square=True, gravity=(0.0, 0.0, 0.098)),
    "lorentz": Law(inverse_square=True, magnetic_field=(0.5, 0.5, 0.5)),
    "springs": Law(inverse_square=False),
}


@dataclass(frozen=True)
class Systems:
    """States of S systems of n particles.

    Attributes:
        pos: (S, n, 3) positions.
        vel: (S, n, 3) velocities.
        charges: (S, n), -1 or 1; 0 where particles are joined by springs.
        coupling: (S, n, n), symmetric with a zero diagonal: the constants c_ij of the pair force, q_i q_j or minus
            the stiffness of the spring.
    """

    pos: Array
    vel: Array
    charges: Array
    coupling: Array

    def __getitem__(self, block: slice) -> "Systems":
        return Systems(self.pos[block], self.vel[block], self.charges[block], self.coupling[block])

    def __len__(self) -> int:
        return len(self.pos)


def initial_systems(kind: str, n_particles: int, seeds: Sequence[int]) -> Systems:
    """Random initial states, one system for each seed of NumPy's legacy generator.

    For each seed, in this order: charges of -1 or 1 with equal chances (``springs``: an n x n table of 0 or 1, whose
    lower triangle says which particles are joined); positions, normal with standard deviation (n / 5)^(1/3)
    (``springs``: 0.5); velocities of norm 0.5 in random directions. Then walls at +-5 reflect each coordinate beyond
    them once: x becomes 10 - x above 5 and -10 - x below -5, and its velocity points inwards. Nothing is reflected
    later.

    Args:
        kind: one of ``LAWS``.
        n_particles: number of particles n.
        seeds: S seeds.
    """
    random = np.random.RandomState()
    drawn = [_draw(kind, n_particles, random, seed) for seed in seeds]
    pos, vel, charges, coupling = (np.stack(arrays) for arrays in zip(*drawn, strict=True))
    return Systems(pos, vel, charges, coupling)


def _draw(kind: str, n: int, random: np.random.RandomState, seed: int) -> tuple[Array, Array, Array, Array]:
    random.seed(seed)
    if kind == "springs":
        (charges, coupling), spread = _draw_springs(n, random), SPRING_SPREAD
    else:
        (charges, coupling), spread = _draw_charges(n, random), (n / PARTICLES_AT_UNIT_SPREAD) ** (1 / 3)
    pos = random.randn(3, n) * spread
    vel = random.randn(3, n)
    vel = vel * INITIAL_SPEED / np.sqrt((vel**2).sum(axis=0))
    pos, vel = _reflected(pos, vel)
    return pos.T, vel.T, charges, coupling


def _reflected(pos: Array, vel: Array) -> tuple[Array, Array]:
    """Positions and velocities after the walls at +-5."""
    beyond = np.abs(pos) > WALL
    return np.where(beyond, np.copysign(2 * WALL, pos) - pos, pos), np.where(beyond, np.copysign(vel, -pos), vel)


def _draw_charges(n: int, random: np.random.RandomState) -> tuple[Array, Array]:
    charges = random.choice([-1.0, 1.0], size=n, p=[0.5, 0.5])
    coupling = np.outer(charges, charges)
    np.fill_diagonal(coupling, 0)
    return charges, coupling


def _draw_springs(n: int, random: np.random.RandomState) -> tuple[Array, Array]:
    joined = np.tril(random.choice([0.0, 1.0], size=(n, n), p=[0.5, 0.5]), -1)
    return np.zeros(n), -SPRING_CONSTANT * (joined + joined.T)
