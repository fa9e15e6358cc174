"""Levels of noise."""

import math

import torch
from torch import Tensor

# The published levels: standard deviations in angstrom, and their number.
SIGMA_BEGIN, SIGMA_END, N_LEVELS = 10.0, 0.01, 50


def noise_levels(begin: float = SIGMA_BEGIN, end: float = SIGMA_END, n_levels: int = N_LEVELS) -> Tensor:
    """Standard deviations of the noise in angstrom, a geometric series from the largest: (n_levels,) float32.

    Raises:
        ValueError: not 0 < end < begin, or fewer than two levels.
    """
    if not (0 < end < begin and n_levels > 1):
        raise ValueError(
            f"begin, end and n_levels must be 0 < end < begin and n_levels > 1; got {begin}, {end}, {n_levels}."
        )
    return torch.linspace(math.log(begin), math.log(end), n_levels, dtype=torch.float64).exp().float()


def checked_levels(sigmas: Tensor) -> Tensor:
    """A float32 copy of levels of noise.

    Raises:
        ValueError: they are not two or more falling positive numbers, (L,).
    """
    levels = sigmas.detach().float().clone()
    if levels.ndim != 1 or len(levels) < 2 or not bool((levels[:-1] > levels[1:]).all() and levels[-1] > 0):
        raise ValueError(f"sigmas must be two or more falling positive numbers; got {sigmas.tolist()}.")
    return levels
