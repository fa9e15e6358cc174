"""Sums of waves of one variable, read from a table where that is shorter than the list of arguments."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

# Table rows per row that the fastest wave needs at least (Nyquist).
OVERSAMPLING = 2.0
# Rows that an argument reads, by dtype: each one more divides the error by about nine.
WINDOW = {torch.float32: 7, torch.float64: 16}


class Waves(nn.Module):
    """Features sin(2 pi u W), cos(2 pi u W) of numbers u with fixed frequencies W, and linear maps of them.

    Args:
        n_frequencies: K; frequencies are drawn from N(0, 1) and not trained.
    """

    def __init__(self, n_frequencies: int) -> None:
        super().__init__()
        self.W = nn.Parameter(torch.randn(n_frequencies), requires_grad=False)

    def forward(self, u: Tensor) -> Tensor:
        """(G, 2 K) features of u (G,)."""
        angle = (2 * math.pi * u)[:, None] * self.W
        return torch.cat((angle.sin(), angle.cos()), 1)

    def mapped(self, arguments: Sequence[Tensor], weights: Sequence[Tensor]) -> Tensor:
        """Sum over terms t of weights[t] @ features(arguments[t]): (E, H).

        A linear map of these features is a function of one variable that contains no wave faster than max |W|. Where
        the range of the arguments is short, it is computed on a grid, and read between the grid's rows with a
        Kaiser-Bessel window, as in non-uniform Fourier transforms; the error is below the dtype's rounding. A product
        for each row of the grid then takes the place of a product for each argument.

        Args:
            arguments: T tensors (E,).
            weights: T matrices (H, 2 K).
        """
        u = torch.stack(tuple(arguments), 1)
        spacing = 1 / (2 * OVERSAMPLING * self.W.abs().max().item())
        width = WINDOW[u.dtype]
        place = u / spacing
        low, high = place.detach().aminmax() if u.numel() else (torch.zeros(()), torch.zeros(()))
        # Written so that positions that are no numbers take the direct way, too.
        if not high - low + width + 1 < len(u):
            return sum(self(column) @ weight.T for column, weight in zip(u.unbind(1), weights))
        first, last = math.floor(low), math.floor(high)
        n_rows = last - first + width + 1
        grid = torch.arange(n_rows, dtype=u.dtype, device=u.device) + (first - width // 2)
        damping = window_transform(self.W * spacing, width).repeat(2)
        stacked = torch.cat(tuple(weights)) / damping
        table = (self(grid * spacing) @ stacked.T).view(n_rows * len(weights), -1)
        start = (place.detach() - width / 2).ceil()
        rows = start[..., None] + torch.arange(width, dtype=u.dtype, device=u.device)
        share = window(place[..., None] - rows, width)
        terms = torch.arange(len(weights), device=u.device)[:, None]
        numbers = (rows - grid[0]).long() * len(weights) + terms
        return embedding_bag(numbers.flatten(1), table, mode="sum", per_sample_weights=share.flatten(1))


def window(distance: Tensor, width: int) -> Tensor:
    """Kaiser-Bessel window of numbers in [-width / 2, width / 2], in units of the grid."""
    inside = (1 - (2 / width * distance).square()).clamp_min(torch.finfo(distance.dtype).eps)
    return torch.special.i0(_steepness(width) * inside.sqrt())


def window_transform(frequency: Tensor, width: int) -> Tensor:
    """Fourier transform of the window; frequencies in cycles per row, below where the window's spectrum ends."""
    root = (_steepness(width) ** 2 - (math.pi * width * frequency).square()).sqrt()
    return width * root.sinh() / root


def _steepness(width: int) -> float:
    return math.pi * width * (1 - 1 / (2 * OVERSAMPLING))
