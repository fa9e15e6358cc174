"""Invariant scalars of every edge, as plain PyTorch."""

import torch
from torch import Tensor

from .edge_frame import frame_of, safe_norm

# 1 - cos^2 is clamped here, with gradient 0 below: the derivative of sin is unbounded as |cos| -> 1.
MIN_SIN_SQUARED = 1e-10
# Added to the norms in the cosine by the published program.
COS_NORM_SHIFT = 1e-5


def angle_scalars(p: Tensor, q: Tensor) -> tuple[Tensor, Tensor]:
    """sin and cos of the angle between the projections p = F x_i and q = F x_j, each (E,)."""
    p_norm = safe_norm(p.square().sum(-1)) + COS_NORM_SHIFT
    q_norm = safe_norm(q.square().sum(-1)) + COS_NORM_SHIFT
    cos = (p * q).sum(-1) / (p_norm * q_norm)
    sin = (1 - cos.square()).clamp_min(MIN_SIN_SQUARED).sqrt()
    return sin, cos


def edge_scalars(pos: Tensor, vel: Tensor | None, edges: Tensor, offsets: Tensor, mode: str) -> Tensor:
    receiver, sender = edges[0].long(), edges[1].long()
    frame = frame_of(pos[receiver], pos[sender], mode)
    vectors = [pos[receiver], pos[sender]]
    if vel is not None:
        vectors += [vel[receiver], vel[sender]]
    projected = torch.einsum("eki,evi->evk", frame, torch.stack(vectors, 1))
    sin, cos = angle_scalars(projected[:, 0], projected[:, 1])
    return torch.cat((sin[:, None], cos[:, None], projected.flatten(1)), 1)
