"""Reduction of rows into segments and its adjoint, as plain PyTorch."""

import torch
from torch import Tensor


def segment_scale(offsets: Tensor, reduce: str, dtype: torch.dtype) -> Tensor:
    """Factor of each segment: 1 for a sum, 1 / max(size, 1) for a mean."""
    sizes = offsets.diff()
    return torch.ones_like(sizes, dtype=dtype) if reduce == "sum" else 1 / sizes.clamp_min(1).to(dtype)


def _column(scale: Tensor, like: Tensor) -> Tensor:
    return scale.reshape(-1, *[1] * (like.dim() - 1))


def segment_reduce(values: Tensor, index: Tensor, perm: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    """Sum or mean of the rows of values with equal index; halves are summed in float32."""
    wide = values.float() if values.dtype in (torch.bfloat16, torch.float16) else values
    total = wide.new_zeros(offsets.shape[0] - 1, *values.shape[1:]).index_add(0, index.long(), wide)
    return (total * _column(segment_scale(offsets, reduce, wide.dtype), total)).to(values.dtype)


def segment_gather(grad: Tensor, index: Tensor, perm: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    """The adjoint of segment_reduce: each row receives its segment's value times the segment's factor."""
    wide = grad.float() if grad.dtype in (torch.bfloat16, torch.float16) else grad
    scaled = wide * _column(segment_scale(offsets, reduce, wide.dtype), wide)
    return scaled.to(grad.dtype)[index.long()]
