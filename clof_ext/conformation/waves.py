"""Sums of waves of one variable, read from a table where that is shorter than the list of arguments."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from .. import ops
from .._backends import kernels_for

# Table rows per row that the fastest wave needs at least (Nyquist).
OVERSAMPLING = 2.0
# Rows that an argument reads, by dtype: each one more divides the error by about nine.
WINDOW = {torch.float32: 7, torch.float64: 16}
# Where the window's spectrum ends just below the first alias.
STEEPNESS = 0.976
# Nodes of its Fourier integral; its largest phase is pi width / (2 OVERSAMPLING).
QUADRATURE = 201


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
        """Sum over terms t of weights[t] @ features(arguments[t]): (E, H); by a table where that is less work.

        Args:
            arguments: T tensors (E,).
            weights: T matrices (H, 2 K).
        """
        table = self.tabled(arguments, weights)
        if table is None:
            return sum(self(u) @ weight.T for u, weight in zip(arguments, weights, strict=True))
        return table.read()

    def tabled(self, arguments: Sequence[Tensor], weights: Sequence[Tensor]) -> "Table | None":
        """A table of ``mapped``, or None where the range of the arguments is long or holds what is no number.

        A linear map of these features is a function of one variable that contains no wave faster than max |W|. Where
        the range of the arguments is short, it is computed on a grid, and read between the grid's rows with a
        narrow window, as in non-uniform Fourier transforms; the error is below the dtype's rounding. A product
        for each row of the grid then takes the place of a product for each argument.
        """
        u = torch.stack(tuple(arguments), 1)
        spacing = 1 / (2 * OVERSAMPLING * self.W.abs().max().item())
        width = WINDOW[u.dtype]
        place = u / spacing
        low, high = place.detach().aminmax() if u.numel() else (torch.zeros(()), torch.zeros(()))
        # Written so that positions that are no numbers take the direct way, too.
        if not high - low + width + 1 < len(u):
            return None
        lowest = math.floor(low) - width // 2
        n_rows = math.floor(high) - lowest + width - width // 2 + 1
        grid = torch.arange(n_rows, dtype=u.dtype, device=u.device) + lowest
        damping = window_transform(self.W * spacing, width).repeat(2)
        rows = self(grid * spacing) @ (torch.stack(tuple(weights)) / damping).mT
        start = (place.detach() - width / 2).ceil()
        steps = torch.arange(width, dtype=u.dtype, device=u.device)
        share = window((place - start)[..., None] - steps, width)
        first = (start - lowest).int() + n_rows * torch.arange(len(weights), dtype=torch.int32, device=u.device)
        return Table(rows.flatten(0, 1), first, share)


class Table(NamedTuple):
    """Functions of one variable on grids, and where they are read.

    Attributes:
        rows: (R, H) the grids of all functions, one below the other.
        first: (E, T) int32, the first row that an argument reads.
        share: (E, T, W) what it takes of that row and of those behind it.
    """

    rows: Tensor
    first: Tensor
    share: Tensor

    def read(self, base: Tensor | None = None, *, relu: bool = False) -> Tensor:
        """Sum over the T arguments, (E, H), added to ``base``; with ``relu`` its positive part."""
        if kernels_for("table_sum", self.rows.device):
            return ops.table_sum(*self, base, relu=relu)
        numbers = self.first.long()[..., None] + torch.arange(self.share.shape[2], device=self.first.device)
        weights = self.share.flatten(1)
        out = embedding_bag(numbers.flatten(1), self.rows, mode="sum", per_sample_weights=weights)
        if base is not None:
            out = base + out
        return out.relu() if relu else out

    def with_rows(self, rows: Tensor, share: Tensor) -> "Table":
        """One more argument: the sum of at most W further rows, (n, H), with given shares, (E, n)."""
        n_rows, width = len(rows), self.share.shape[2]
        below = torch.cat((self.rows, rows, rows.new_zeros(width - n_rows, rows.shape[1])))
        first = torch.full_like(self.first[:, :1], len(self.rows))
        padded = torch.nn.functional.pad(share, (0, width - n_rows))
        return Table(below, torch.cat((self.first, first), 1), torch.cat((self.share, padded[:, None]), 1))

    def scaled(self, factors: Tensor, kind: Tensor, constant: Tensor) -> "Table":
        """The one function plus a constant (H,), times factors[kind] (E, H) of factors (F, H), kind (E,) int64.

        Factor by factor on the grid, so that the factors, too, are read and not multiplied for each argument.
        """
        width = self.share.shape[2]
        # A constant is a wave of frequency 0.
        raised = self.rows + constant / window_transform(torch.zeros_like(constant[:1]), width)
        first = self.first + (len(self.rows) * kind).int()[:, None]
        return Table((factors[:, None] * raised).flatten(0, 1), first, self.share)


def window(distance: Tensor, width: int) -> Tensor:
    """exp(beta (sqrt(1 - t^2) - 1)), t = 2 distance / width in [-1, 1]; distances in units of the grid.

    As good as the Kaiser-Bessel window and faster: Barnett, Magland and af Klinteberg, SIAM J. Sci. Comput. 41, 2019.
    """
    inside = (1 - (2 / width * distance).square()).clamp_min(torch.finfo(distance.dtype).eps)
    return (_steepness(width) * (inside.sqrt() - 1)).exp()


def window_transform(frequency: Tensor, width: int) -> Tensor:
    """Fourier transform of the window; frequencies in cycles per row, below where the window's spectrum ends."""
    # With t = sin(angle) the trapezoid rule is exact up to the window's height at its ends.
    angle = torch.linspace(-math.pi / 2, math.pi / 2, QUADRATURE, dtype=torch.float64, device=frequency.device)
    height = (_steepness(width) * (angle.cos() - 1)).exp() * angle.cos()
    waves = (math.pi * width * frequency.double()[:, None] * angle.sin()).cos()
    return (width / 2 * math.pi / (QUADRATURE - 1) * (waves @ height)).to(frequency.dtype)


def _steepness(width: int) -> float:
    return STEEPNESS * math.pi * width * (1 - 1 / (2 * OVERSAMPLING))
