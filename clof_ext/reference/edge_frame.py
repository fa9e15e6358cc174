"""Complete local frame of every edge, as plain PyTorch."""

import torch
from torch import Tensor

# Two positions count as parallel, w = d x x_i as 0, where |w| is below this many roundings of |d| |x_i|: the direction
# of w is noise there, and so would second derivatives be.
PARALLEL_ROUNDINGS = 8.0


def safe_norm(squared: Tensor) -> Tensor:
    """sqrt(squared) with value and all derivatives 0 where squared is 0."""
    positive = squared > 0
    return torch.where(positive, squared, 1.0).sqrt() * positive


def cross(u: Tensor, v: Tensor) -> Tensor:
    """u x v over the last axis, whatever the other sizes are."""
    ux, uy, uz = u.unbind(-1)
    vx, vy, vz = v.unbind(-1)
    return torch.stack((uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx), -1)


def axis(vector: Tensor, threshold_squared: Tensor | float, mode: str) -> Tensor:
    """The vector scaled as the frame mode says, with a norm of 0 up to the threshold."""
    if mode == "raw":
        return vector
    squared = vector.square().sum(-1, keepdim=True)
    defined = squared > threshold_squared
    norm = torch.where(defined, squared, 1.0).sqrt()
    return vector / (norm * defined + 1) if mode == "soft" else vector / norm * defined


def frame_of(x_i: Tensor, x_j: Tensor, mode: str) -> Tensor:
    """Rows (a, b, c) for end points x_i, x_j of shape (E, 3): (E, 3, 3)."""
    d = x_i - x_j
    # x_i x x_j, written so that it is exactly 0 for coincident points.
    w = cross(d, x_i)
    rounding = PARALLEL_ROUNDINGS * torch.finfo(x_i.dtype).eps
    threshold = rounding**2 * (d.square().sum(-1, keepdim=True) * x_i.square().sum(-1, keepdim=True))
    a = axis(d, 0.0, mode)
    b = axis(w, threshold.detach(), mode)
    return torch.stack((a, b, cross(a, b)), -2)


def edge_frame(pos: Tensor, edges: Tensor, offsets: Tensor, mode: str) -> Tensor:
    receiver, sender = edges[0].long(), edges[1].long()
    return frame_of(pos[receiver], pos[sender], mode)
