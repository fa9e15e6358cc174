"""Networks that also see the invariants of each pair's motion."""

import torch
from torch import Tensor, nn

from ..graph import EdgePlan, as_plan
from ..reference.edge_frame import safe_norm

N_FEATURES = 5
# Keeps 1 / |d| and log |d| of close pairs within the range of the other features.
SOFTENING = 0.05


class PairFeatures(nn.Module):
    """A network with more edge features: of a pair in orbit, the quantities that its motion depends on.

    With d = x_i - x_j, r = |d| + 0.05 and w = v_i - v_j: [q_i q_j / r, log r, |w|^2, w . d / r, |d x w|], the potential
    energy, the scale, the kinetic energy, the radial velocity and the angular momentum. Close pairs make most of the
    error, and at small distances the published |d|^2 hardly tells one from another.

    Args:
        network: reads edge_attr of two columns, [q_i q_j, |d|^2], and these five.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(
        self,
        h: Tensor,
        pos: Tensor,
        edge_index: Tensor | EdgePlan,
        edge_attr: Tensor,
        vel: Tensor,
        *,
        batch: Tensor | None = None,
    ) -> Tensor:
        """New positions (N, 3); arguments as the network's, edge_attr (E, 2)."""
        plan = as_plan(edge_index, pos.shape[0], pos.device)
        features = pair_features(pos, vel, plan.edges[0].long(), plan.edges[1].long(), edge_attr[:, 0])
        return self.network(h, pos, plan, torch.cat((edge_attr, features), 1), vel, batch=batch)


def pair_features(pos: Tensor, vel: Tensor, receiver: Tensor, sender: Tensor, charges: Tensor) -> Tensor:
    """The five features of each edge, (E, 5), from products of charges (E,); finite for coincident particles."""
    d, w = pos[receiver] - pos[sender], vel[receiver] - vel[sender]
    r = safe_norm(d.square().sum(1)) + SOFTENING
    momentum = safe_norm(torch.linalg.cross(d, w, dim=1).square().sum(1))
    return torch.stack((charges / r, r.log(), w.square().sum(1), (w * d).sum(1) / r, momentum), 1)
