"""Networks of particles in a uniform field, which is learned."""

import torch
from torch import Tensor, nn

from ..graph import EdgePlan


class ExternalField(nn.Module):
    """A network in a uniform field of gravity g and of magnetism, whose two vectors B and C are parallel.

    With the charges q::

        y = network(h, x, edges, e, v + g + q v x B);  result = y + q (y - x) x C

    An equivariant network has no direction of the laboratory, so it cannot know where a field points, and answers with
    the mean over all directions. These nine weights say it. A magnetic field F turns what is already there for longer
    than what the forces of other particles add on the way: over a time t a lone charge moves by t v + t^2 / 2 q v x F,
    and one that is pushed by t^2 / 2 a + t^3 / 6 q a x F, to first order in F. Hence a turn before the network and one
    after it. Turning the systems and the vectors turns the result; turning the systems alone does not, as in the law.

    Args:
        network: one of ``make_network``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.gravity = nn.Parameter(torch.zeros(3))
        self.turn_before = nn.Parameter(torch.zeros(3))
        self.turn_after = nn.Parameter(torch.zeros(3))

    def forward(
        self,
        h: Tensor | None,
        pos: Tensor,
        edge_index: Tensor | EdgePlan,
        edge_attr: Tensor,
        vel: Tensor,
        *,
        charges: Tensor,
        batch: Tensor | None = None,
    ) -> Tensor:
        """New positions (N, 3); arguments as the network's, and charges (N,)."""
        q = charges[:, None]
        vel = vel + self.gravity + q * _cross(vel, self.turn_before)
        moved = self.network(h, pos, edge_index, edge_attr, vel, batch=batch)
        return moved + q * _cross(moved - pos, self.turn_after)


def _cross(vectors: Tensor, vector: Tensor) -> Tensor:
    """(N, 3) vectors times one."""
    return torch.linalg.cross(vectors, vector.expand_as(vectors), dim=1)


def reads_charges(model: nn.Module) -> bool:
    """Whether a network, wrapped for training or not, takes the charges of its particles as an argument."""
    return any(isinstance(part, ExternalField) for part in model.modules())
