"""Sums of weighted runs of a table's rows, as plain PyTorch.

The operator that every backend implements::

    table_sum(Tensor table, Tensor first, Tensor share, Tensor? base, bool relu) -> Tensor
"""

import torch
from torch import Tensor


def table_sum(table: Tensor, first: Tensor, share: Tensor, base: Tensor | None, relu: bool) -> Tensor:
    rows = first.long()[..., None] + torch.arange(share.shape[2], device=first.device)
    # embedding_bag would have no second derivative.
    out = (share[..., None] * table[rows]).sum((1, 2))
    if base is not None:
        out = base + out
    return out.relu() if relu else out
