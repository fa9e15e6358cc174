"""Networks of particles in a uniform field, which is learned."""

import torch
from torch import Tensor, nn

from ..graph import EdgePlan


class ExternalField(nn.Module):
    """A network that sees velocities halfway through a kick by a uniform field: of gravity g and of magnetism B.

    With the charges q::

        result = network(h, x, edges, e, v + g + q v x B)

    An equivariant network has no direction of the laboratory, so it cannot know where a field points, and answers with
    the mean over all directions. These six weights say it; to first order in time a field's displacement is that of
    such a change of the mean velocity. Turning the systems and the two vectors turns the result; turning the systems
    alone does not, as in the law itself.

    Args:
        network: one of ``make_network``.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.gravity = nn.Parameter(torch.zeros(3))
        self.magnetism = nn.Parameter(torch.zeros(3))

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
        turn = torch.linalg.cross(vel, self.magnetism.expand_as(vel), dim=1)
        vel = vel + self.gravity + charges[:, None] * turn
        return self.network(h, pos, edge_index, edge_attr, vel, batch=batch)


def reads_charges(model: nn.Module) -> bool:
    """Whether a network, wrapped for training or not, takes the charges of its particles as an argument."""
    return any(isinstance(part, ExternalField) for part in model.modules())
