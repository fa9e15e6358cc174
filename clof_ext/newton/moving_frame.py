"""Networks in the frame of reference of each system's centre of mass."""

import torch
from torch import Tensor, nn

from ..graph import EdgePlan
from ..models.inputs import centroids


class MovingFrame(nn.Module):
    """A network in the centre-of-mass frame: exact under Galilean boosts, and total momentum is conserved.

    With the mean position c and the mean velocity u of a system of equal masses::

        y = network(|v - u|, x, v - u);  result = y - mean(y) + c + u t

    True of forces between particles alone, and with gravity where ``ExternalField`` is around it; in a magnetic field
    the total momentum changes.

    Args:
        network: one of ``make_network``; h, where it reads one, is the speed.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        # From input to target, in the units of v; learned, because a batch does not say it.
        self.time = nn.Parameter(torch.ones(1))

    def forward(
        self,
        h: Tensor | None,
        pos: Tensor,
        edge_index: Tensor | EdgePlan,
        edge_attr: Tensor,
        vel: Tensor,
        *,
        batch: Tensor | None = None,
    ) -> Tensor:
        """New positions (N, 3); arguments as the network's. h is made anew from the relative velocities."""
        drift = centroids(vel, batch)
        vel = vel - drift
        h = vel.norm(dim=-1, keepdim=True)
        moved = self.network(h, pos, edge_index, edge_attr, vel, batch=batch)
        return moved + (centroids(pos, batch) + drift * self.time - centroids(moved, batch))
