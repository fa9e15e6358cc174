"""Samplers: from noise to a distribution whose score is known at every level of noise.

All of them walk down the levels of noise. They know nothing of molecules: a score is a function, and so are the
numbers that they draw and the guard that looks at each new state.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Protocol

from torch import Tensor

from .noise import noise_levels

# Score of positions (N, 3) in angstrom at a level of noise, (N, 3) in 1 / angstrom.
Score = Callable[[Tensor, float], Tensor]
# Standard normal numbers, as many as positions.
Noise = Callable[[], Tensor]
# Looks at new positions and gives back those to go on from.
Guard = Callable[[Tensor], Tensor]

# Of the fast sampler: a fiftieth of the published one's calls.
SOLVER_LEVELS = 100


class Sampler(Protocol):
    """What leads from noise to samples."""

    @property
    def calls(self) -> int:
        """Number of calls of the score."""

    def run(self, score: Score, noise: Noise, guard: Guard) -> Tensor:
        """Samples, of the shape of what ``noise`` gives."""


@dataclass(frozen=True, eq=False)
class Langevin:
    """Annealed Langevin dynamics, the published sampler; with a predictor between the levels as an option.

    From x ~ N(0, 1), at each level sigma, ``steps`` times::

        x += step * score(x, sigma) + sqrt(2 step) * noise,    step = step_size (sigma / sigma_min)^2

    where the score of an atom is scaled down to the norm ``largest_score`` if it is longer. With ``predictor``, between
    the levels, x += 1/2 (sigma_k^2 - sigma_k+1^2) score(x, sigma_k), of any length.

    Attributes:
        sigmas: levels of noise in angstrom, falling, those of the network.
        steps: at each level.
        step_size: of the smallest level, in angstrom^2.
        predictor: predictor-corrector sampling.
        largest_score: in 1 / angstrom.

    Source: Song and Ermon, NeurIPS 2019; predictor-corrector: Song et al., ICLR 2021.
    """

    sigmas: Tensor = field(default_factory=noise_levels)
    steps: int = 100
    step_size: float = 2e-6
    predictor: bool = False
    largest_score: float = 1000.0

    @property
    def calls(self) -> int:
        return len(self.sigmas) * self.steps + self.predictor * (len(self.sigmas) - 1)

    def run(self, score: Score, noise: Noise, guard: Guard) -> Tensor:
        levels = self.sigmas.tolist()
        pos = noise()
        for level, sigma in enumerate(levels):
            step = self.step_size * (sigma / levels[-1]) ** 2
            for _ in range(self.steps):
                pos = guard(pos + step * self._clipped(score(pos, sigma)) + math.sqrt(2 * step) * noise())
            if self.predictor and level + 1 < len(levels):
                change = 0.5 * (sigma**2 - levels[level + 1] ** 2)
                pos = guard(pos + change * score(pos, sigma))
        return pos

    def _clipped(self, score: Tensor) -> Tensor:
        norm = score.norm(dim=-1, keepdim=True)
        return score * (self.largest_score / norm).clamp_max(1)


@dataclass(frozen=True, eq=False)
class Solver:
    """A multistep solver of second order of the reverse diffusion, with few calls of the score: DPM-Solver++(2M).

    With D(x, sigma) = x + sigma^2 score(x, sigma), the mean of the clean positions given the noisy ones, and
    t = -log(sigma), each step of length s = t_k+1 - t_k integrates the linear part exactly and D to first order in t::

        x = decay x + (1 - decay) (D_k + s / (2 s_before) (D_k - D_k-1)) + spread noise

    where for ``stochastic`` dynamics decay = exp(-2 s), spread = sigma_k+1 sqrt(1 - exp(-2 s)): the reverse SDE. Else
    decay = exp(-s) and spread = 0: the probability-flow ODE. The last level gives D itself, free of noise.

    Attributes:
        sigmas: levels of noise in angstrom, falling, from the network's first to its last; one call for each.
        stochastic: the SDE, which forgets errors of earlier steps, or the ODE.

    Source: Lu et al., 2022 (arXiv 2211.01095), for a variance-exploding diffusion.
    """

    sigmas: Tensor = field(default_factory=lambda: noise_levels(n_levels=SOLVER_LEVELS))
    stochastic: bool = True

    @property
    def calls(self) -> int:
        return len(self.sigmas)

    def run(self, score: Score, noise: Noise, guard: Guard) -> Tensor:
        levels = self.sigmas.tolist()
        pos = levels[0] * noise()
        clean_before, length_before = None, math.inf
        for sigma, lower in pairwise(levels):
            clean, length = pos + sigma**2 * score(pos, sigma), math.log(sigma / lower)
            slope = 0 if clean_before is None else (clean - clean_before) / length_before
            decay = math.exp(-length * (2 if self.stochastic else 1))
            pos = decay * pos + (1 - decay) * (clean + length / 2 * slope)
            if self.stochastic:
                # The SDE removed this much of the noise that belongs to the next level.
                pos = pos + lower * math.sqrt(1 - decay) * noise()
            pos = guard(pos)
            clean_before, length_before = clean, length
        return guard(pos + levels[-1] ** 2 * score(pos, levels[-1]))


def _solver(sigmas: Tensor, **options: bool) -> Solver:
    return Solver(noise_levels(sigmas[0].item(), sigmas[-1].item(), SOLVER_LEVELS), **options)


# By name, for a network with these levels of noise.
SAMPLERS: dict[str, Callable[[Tensor], Sampler]] = {
    "langevin": Langevin,
    "predictor-corrector": partial(Langevin, predictor=True),
    "solver": _solver,
    "ode": partial(_solver, stochastic=False),
}
