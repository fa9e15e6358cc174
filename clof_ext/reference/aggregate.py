"""Tensors from scalars by the frames of edges, reduced into receivers, as plain PyTorch."""

from torch import Tensor

from .edge_frame import edge_frame
from .project import apply_frame
from .segment import segment_reduce


def aggregate(
    scalars: Tensor, pos: Tensor, edges: Tensor, offsets: Tensor, order: int, reduce: str, mode: str
) -> Tensor:
    frame = edge_frame(pos, edges, offsets, mode)
    components = scalars.reshape(scalars.shape[0], scalars.shape[1], *[3] * order)
    tensors = apply_frame(frame, components.to(frame.dtype), order, transpose=True)
    return segment_reduce(tensors, edges[0], edges[2], offsets[0], reduce).to(scalars.dtype)
