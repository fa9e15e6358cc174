"""Trajectories of Newtonian many-body systems."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import _backends, _check, _register
from . import reference
from ._arguments import whole_number
from .systems import FORCE_LIMIT, LAWS, SOFTENING, TIME_STEP, Array, Law, Systems, initial_systems

# Systems simulated between two movements of the progress bar: work for many cores, and a second or less for one.
BLOCK = 256
MAX_SEED = 2**32 - 1
BACKENDS = ("reference", "cpu")

Simulator = Callable[[Law, Systems, int, int], tuple[Array, Array]]


def simulate(
    kind: str,
    n_particles: int,
    seeds: Sequence[int] | np.ndarray | Tensor,
    *,
    n_steps: int = 5000,
    sample_every: int = 100,
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Simulate systems of n particles of mass 1, one for each seed, from random initial states.

    With d = x_i - x_j and time step dt = 0.001, F on particle i is the sum over j of the pair forces

    - ``"charged"``: q_i q_j d / (|d|^2 + 1e-6)^(3/2), charges -1 or 1;
    - ``"gravity"``: the same, and 0.098 along +z;
    - ``"lorentz"``: the same as ``"charged"``, and q v x B with B = (0.5, 0.5, 0.5);
    - ``"springs"``: -0.1 d where a spring joins i and j, with chance 1/2 (see ``initial_systems`` for which),

    and each component of F is clipped to +-100. First v += dt F; then in every step t = 1, ..., n_steps - 1: x += dt v,
    a frame is kept if ``sample_every`` divides t, v += dt F. All quantities are in the units of these formulas.

    Args:
        kind: one of the four above.
        n_particles: number of particles n, at least 1.
        seeds: S seeds of NumPy's legacy generator, integers in [0, 2**32), or an array or tensor (S,) of them; equal
            seeds make equal systems.
        n_steps: number of steps, more than ``sample_every``.
        sample_every: steps between two frames.
        backend: force ``"reference"`` or ``"cpu"``, both on the CPU. ``"reference"`` (NumPy, 5 to 40 ms a system of 5
            to 20 particles) does the operations of the published program in their order: the published trajectories to
            the last bit, on CPUs with AVX-512 as theirs. ``"cpu"`` (compiled, on all threads of torch, about 1 ms) is
            the default where it is installed, and gives the same bits on every machine.

    Returns:
        loc, vel: (S, T, n, 3) float64 with T = (n_steps - 1) // sample_every: positions and velocities.
        charges: (S, n) float64; 0 for ``"springs"``.

    Singular cases: coincident particles exert no force on each other. Close encounters amplify rounding, so that
    programs with other orders of operations agree for a limited time only: of ``"cpu"``, one system of 5 particles in
    eight and half of those of 20 leave the published trajectory by more than 1e-9 within 49 frames, some by more
    than 1.

    Raises:
        TypeError, ValueError: an argument of the wrong type or range.
        RuntimeError: a forced backend that this installation lacks.

    Source: Du et al., ICML 2022, section 6.1; springs: Kipf et al., "Neural Relational Inference", ICML 2018.
    """
    _check.one_of(kind, tuple(LAWS), "kind")
    whole_number(n_particles, 1, "n_particles")
    whole_number(sample_every, 1, "sample_every")
    whole_number(n_steps, sample_every + 1, "n_steps")
    seeds = _checked_seeds(seeds)
    run = _simulator(backend)
    systems = initial_systems(kind, n_particles, seeds)
    shape = (len(systems), (n_steps - 1) // sample_every, n_particles, 3)
    loc, vel = np.empty(shape), np.empty(shape)
    # Silent where it takes less than a second.
    with tqdm(total=len(systems), desc=f"{kind}, {n_particles} particles", unit="system", delay=1) as progress:
        for first in range(0, len(systems), BLOCK):
            block = slice(first, first + BLOCK)
            loc[block], vel[block] = run(LAWS[kind], systems[block], n_steps, sample_every)
            progress.update(len(systems[block]))
    return torch.from_numpy(loc), torch.from_numpy(vel), torch.from_numpy(systems.charges)


def _simulator(name: str | None) -> Simulator:
    """The function of a backend: the caller's, else the forced one, else the fastest that is installed."""
    name = name or _backends.forced()
    if name is None:
        name = "reference" if _backends.binary() is None else "cpu"
    _check.one_of(name, _backends.BACKENDS, "backend")
    if name not in BACKENDS:
        raise RuntimeError(f"backend {name!r} cannot run simulate: it runs on the CPU, as 'cpu' or 'reference'.")
    if name == "cpu" and _backends.binary() is None:
        raise RuntimeError("backend 'cpu' cannot run simulate here: the compiled extension is missing.")
    return _compiled if name == "cpu" else reference.simulate


def _compiled(law: Law, systems: Systems, n_steps: int, sample_every: int) -> tuple[Array, Array]:
    arrays = systems.pos, systems.vel, systems.charges, systems.coupling
    pos, vel = torch.ops.clof_ext.newton_simulate(
        *map(torch.from_numpy, arrays),
        inverse_square=law.inverse_square,
        gravity=law.gravity,
        magnetic_field=law.magnetic_field,
        softening=SOFTENING,
        force_limit=FORCE_LIMIT,
        time_step=TIME_STEP,
        num_steps=n_steps,
        sample_every=sample_every,
    )
    return pos.numpy(), vel.numpy()


def _fake(pos, vel, charges, coupling, *options):
    num_steps, sample_every = options[-2:]
    systems, particles, _ = pos.shape
    frames = pos.new_empty(systems, (num_steps - 1) // sample_every, particles, 3)
    return frames, torch.empty_like(frames)


def _rule(library: str) -> None:
    if library == _register.COMPILED:
        torch.library.register_fake(f"{library}::newton_simulate", _fake)


_register.register_rule(_rule)


def _checked_seeds(seeds: Sequence[int] | np.ndarray | Tensor) -> list[int]:
    """As a list, of which errors name the first wrong one."""
    values = seeds.tolist() if isinstance(seeds, np.ndarray | Tensor) else list(seeds)
    if not isinstance(values, list):
        raise TypeError(f"seeds must be a sequence of integers; got the number {values}.")
    if not values:
        raise ValueError("seeds must hold at least one seed; got none.")
    for position, seed in enumerate(values):
        whole_number(seed, 0, f"seeds[{position}]")
        if seed > MAX_SEED:
            raise ValueError(f"seeds[{position}] must be below 2**32; got {seed}.")
    return values
