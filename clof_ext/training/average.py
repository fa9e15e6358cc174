"""Moving averages of weights."""

from collections.abc import Callable

import torch
from torch import Tensor


def moving_average(decay: float) -> Callable[[list[Tensor], list[Tensor], Tensor], None]:
    """An exponential moving average for ``torch.optim.swa_utils.AveragedModel``.

    The decay of step n is min(decay, (1 + n) / (10 + n)), so that the first, random weights are soon forgotten.

    Args:
        decay: per step, between 0 and 1.
    """

    @torch.no_grad()
    def update(averaged: list[Tensor], current: list[Tensor], n_steps: Tensor) -> None:
        n = int(n_steps)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    return update
