"""Gaussian features of a distance, with a scale and shift for every type of edge."""

import torch
from torch import Tensor, nn

# The published normalisation has pi to five decimals; the weights were trained with it.
PUBLISHED_PI = 3.14159
# Added to the widths, so that none is 0.
MIN_WIDTH = 1e-5
# Means and widths start uniform in [0, this].
INITIAL_RANGE = 3.0
N_TYPES = 8


class GaussianBasis(nn.Module):
    """phi_k(u, t) = exp(-((u' - mu_k) / sigma_k)^2 / 2) / (sqrt(2 pi) sigma_k) with u' = mul_t u + bias_t.

    Computed in float32 or better.

    Args:
        n_basis: number K of Gaussians.
    """

    def __init__(self, n_basis: int) -> None:
        super().__init__()
        self.means = nn.Embedding(1, n_basis)
        self.stds = nn.Embedding(1, n_basis)
        self.mul = nn.Embedding(N_TYPES, 1)
        self.bias = nn.Embedding(N_TYPES, 1)
        nn.init.uniform_(self.means.weight, 0, INITIAL_RANGE)
        nn.init.uniform_(self.stds.weight, 0, INITIAL_RANGE)
        nn.init.ones_(self.mul.weight)
        nn.init.zeros_(self.bias.weight)

    def forward(self, value: Tensor, kind: Tensor) -> Tensor:
        """Features (E, K) of values (E,) and types (E,) in [0, 8), in the dtype of the values or float32 if wider."""
        dtype = torch.promote_types(value.dtype, torch.float32)
        means, stds = self.means.weight.to(dtype), self.stds.weight.to(dtype)
        mul, bias = self.mul(kind).to(dtype), self.bias(kind).to(dtype)
        width = stds.abs() + MIN_WIDTH
        distance = (mul * value.to(dtype)[:, None] + bias - means) / width
        return torch.exp(-0.5 * distance.square()) / ((2 * PUBLISHED_PI) ** 0.5 * width)
