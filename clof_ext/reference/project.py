"""Projection of tensors on the frames of edges, as plain PyTorch."""

import torch
from torch import Tensor

from .edge_frame import edge_frame

AXES = "ijl"
COMPONENTS = "abd"


def apply_frame(frame: Tensor, tensor: Tensor, order: int, *, transpose: bool) -> Tensor:
    """F (or its transpose) on each of the last ``order`` axes of (E, K, 3, ..., 3)."""
    if order == 0:
        return tensor
    before, after = (COMPONENTS, AXES) if transpose else (AXES, COMPONENTS)
    frames = ",".join(f"e{component}{axis}" for component, axis in zip(COMPONENTS[:order], AXES))
    equation = f"{frames},ek{before[:order]}->ek{after[:order]}"
    return torch.einsum(equation, *[frame] * order, tensor)


def project(tensor: Tensor, pos: Tensor, edges: Tensor, offsets: Tensor, order: int, source: str, mode: str) -> Tensor:
    frame = edge_frame(pos, edges, offsets, mode)
    if source != "edge":
        tensor = tensor[edges[0 if source == "receiver" else 1].long()]
    scalars = apply_frame(frame, tensor.to(frame.dtype), order, transpose=False)
    return scalars.reshape(scalars.shape[0], scalars.shape[1], 3**order).to(tensor.dtype)
