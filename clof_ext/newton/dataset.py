"""The prediction task on simulated trajectories: graphs at one frame, positions at a later one."""

from dataclasses import dataclass

import torch
from torch import Tensor

from .. import _check
from ._arguments import whole_number

INPUT_FRAME = 30
FRAMES_AHEAD = 10


@dataclass(frozen=True)
class Samples:
    """Inputs and targets of S systems.

    Attributes:
        pos, vel: (S, n, 3) at the input frame.
        charges: (S, n).
        target: (S, n, 3) positions at the target frame.
    """

    pos: Tensor
    vel: Tensor
    charges: Tensor
    target: Tensor

    def __len__(self) -> int:
        return len(self.pos)

    def __getitem__(self, systems: Tensor | slice) -> "Samples":
        return Samples(self.pos[systems], self.vel[systems], self.charges[systems], self.target[systems])

    def to(self, device: torch.device | str) -> "Samples":
        return Samples(*(tensor.to(device) for tensor in (self.pos, self.vel, self.charges, self.target)))

    def scaled(self, factor: Tensor) -> "Samples":
        """Positions and velocities times (S, 1, 1) factors; -1 mirrors a system in the origin."""
        return Samples(self.pos * factor, self.vel * factor, self.charges, self.target * factor)


@dataclass(frozen=True)
class Batch:
    """Some systems as one graph of N nodes and E edges, in the arguments of the networks.

    Attributes:
        h: (N, 1) node input, |v|.
        pos, vel: (N, 3).
        edge_index: (2, E), row 0 the receivers, sorted.
        edge_attr: (E, 2), [q_i q_j, |x_i - x_j|^2].
        charges: (N,).
        batch: (N,) number of each node's system in the batch.
        target: (N, 3) positions to predict.
    """

    h: Tensor
    pos: Tensor
    vel: Tensor
    edge_index: Tensor
    edge_attr: Tensor
    charges: Tensor
    batch: Tensor
    target: Tensor


def make_samples(
    loc: Tensor, vel: Tensor, charges: Tensor, *, input_frame: int = INPUT_FRAME, dtype: torch.dtype = torch.float32
) -> Samples:
    """Inputs and targets, ten frames later, from what ``simulate`` returns.

    Args:
        loc, vel: (S, T, n, 3) trajectories of T frames.
        charges: (S, n).
        input_frame: of the inputs, counted from 0; the published task's is 30, its target's frame 40.
        dtype: of the samples.

    Raises:
        TypeError, ValueError: a wrong type or shape, or too few frames.

    Source: Du et al., ICML 2022, section 6.1.
    """
    for tensor, name in ((loc, "loc"), (vel, "vel"), (charges, "charges")):
        _check.is_tensor(tensor, name)
    _check.shape(loc, ("S", "T", "n", 3), "loc")
    _check.shape(vel, loc.shape, "vel")
    _check.shape(charges, (loc.shape[0], loc.shape[2]), "charges")
    target_frame = input_frame + FRAMES_AHEAD
    if loc.shape[1] <= target_frame:
        raise ValueError(f"loc must have more than {target_frame} frames, the target's number; got {loc.shape[1]}.")
    tensors = loc[:, input_frame], vel[:, input_frame], charges, loc[:, target_frame]
    return Samples(*(tensor.to(dtype).contiguous() for tensor in tensors))


def fully_connected(n_particles: int, n_systems: int) -> Tensor:
    """Edges between all different particles of each system: (2, S n (n - 1)) int64, receivers, then senders, sorted.

    Make it once for all batches of one size: its EdgePlan is then made once, too.
    """
    whole_number(n_particles, 1, "n_particles")
    whole_number(n_systems, 1, "n_systems")
    pairs = (~torch.eye(n_particles, dtype=torch.bool)).nonzero().T
    first_node = n_particles * torch.arange(n_systems)
    return (first_node[:, None] + pairs[:, None, :]).reshape(2, -1)


def make_batch(samples: Samples, systems: Tensor | slice, edge_index: Tensor) -> Batch:
    """Some systems as one graph.

    Args:
        samples: S systems of n particles.
        systems: which B of them: (B,) integers, or a slice.
        edge_index: ``fully_connected(n, B)``, on the device of the samples.

    Raises:
        ValueError: ``edge_index`` is not of the size that B systems need.
    """
    chosen = samples[systems]
    pos, vel = chosen.pos, chosen.vel
    n_systems, n_particles, _ = pos.shape
    _check.shape(edge_index, (2, n_systems * n_particles * (n_particles - 1)), "edge_index")
    nodes, charges = pos.flatten(0, 1), chosen.charges.flatten()
    return Batch(
        h=vel.flatten(0, 1).norm(dim=-1, keepdim=True),
        pos=nodes,
        vel=vel.flatten(0, 1),
        edge_index=edge_index,
        edge_attr=edge_attributes(nodes, charges, edge_index),
        charges=charges,
        batch=torch.arange(n_systems, device=pos.device).repeat_interleave(n_particles),
        target=chosen.target.flatten(0, 1),
    )


def edge_attributes(pos: Tensor, charges: Tensor, edge_index: Tensor) -> Tensor:
    """[q_i q_j, |x_i - x_j|^2] of every edge: (E, 2) from (N, 3), (N,) and (2, E)."""
    receiver, sender = edge_index
    squared = (pos[receiver] - pos[sender]).square().sum(-1)
    return torch.stack((charges[receiver] * charges[sender], squared), 1)
