"""Baselines of the Newtonian task: a plain graph network, the radial field, straight motion.

All are called as the equivariant networks are; what they do not read is named in their docstrings.
"""

import torch
from torch import Tensor, nn

from .. import _check, ops
from ..graph import EdgePlan, as_plan
from ..nn.mlp import activated_mlp, coord_head, mlp
from ..reference.edge_frame import safe_norm
from .inputs import add_layers, check_columns, check_velocities, layers_of


class GraphConv(nn.Module):
    """h_i + node_mlp([h_i, sum_j edge_mlp([h_i, h_j, e_ij])]), without geometry; options as those of ``GNN``."""

    def __init__(self, hidden_dim: int, edge_dim: int, activation: str, *, attention: bool, recurrent: bool) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.edge_mlp = activated_mlp([2 * hidden_dim + edge_dim, hidden_dim, hidden_dim], activation)
        self.node_mlp = mlp([2 * hidden_dim, hidden_dim, hidden_dim], activation)
        if attention:
            self.att_mlp = mlp([hidden_dim, hidden_dim, 1], activation, end=nn.Sigmoid())

    def forward(self, h: Tensor, plan: EdgePlan, edge_attr: Tensor) -> Tensor:
        receiver, sender = plan.edges[0].long(), plan.edges[1].long()
        message = self.edge_mlp(torch.cat((h[receiver], h[sender], edge_attr), 1))
        if hasattr(self, "att_mlp"):
            message = message * self.att_mlp((h[receiver] - h[sender]).abs())
        update = self.node_mlp(torch.cat((h, ops.segment_sum(message, plan)), 1))
        return h + update if self.recurrent else update


class GNN(nn.Module):
    """A graph network on absolute positions and velocities; not equivariant.

    h = embedding([x, v]); layers h_i += node_mlp([h_i, sum_j edge_mlp([h_i, h_j, e_ij])]); result decoder(h).
    Parameters have the published names. ``recurrent`` leaves no trace in a state dict: weights of the published network
    with its default load, but belong to ``recurrent=False``.

    Args:
        hidden_dim: features of nodes and messages.
        n_layers: number of layers.
        edge_dim: how many of the first columns of edge_attr are read; the published network reads the product of
            charges.
        attention: gate each message by att_mlp(|h_i - h_j|), a perceptron that ends in a sigmoid.
        recurrent: add h to the update; False is the published default.
        activation: see ``ops.frame_message``.

    Source: the baseline of Satorras et al., ICML 2021, and Du et al., ICML 2022.
    """

    def __init__(
        self,
        hidden_dim: int,
        n_layers: int = 4,
        *,
        edge_dim: int = 1,
        attention: bool = False,
        recurrent: bool = True,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.edge_dim = edge_dim
        options = {"attention": attention, "recurrent": recurrent}
        self.embedding = mlp([6, hidden_dim], activation)
        add_layers(self, [GraphConv(hidden_dim, edge_dim, activation, **options) for _ in range(n_layers)])
        self.decoder = mlp([hidden_dim, hidden_dim, 3], activation)

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
        """New positions (N, 3) from pos and vel (N, 3) and edge_attr (E, edge_dim or more); h and batch not read."""
        _check.positions(pos)
        check_velocities(vel, pos)
        plan = as_plan(edge_index, pos.shape[0], pos.device)
        attributes = edge_attr[:, : self.edge_dim]
        check_columns(attributes, plan.num_edges, self.edge_dim, "edge_attr")
        h = self.embedding(torch.cat((pos, vel), 1))
        for layer in layers_of(self):
            h = layer(h, plan, attributes)
        return self.decoder(h)


class RadialConv(nn.Module):
    """x_i + mean_j (x_i - x_j) tanh(phi([|x_i - x_j|, e_ij])) + v_i coord_mlp_vel(|v_i|)."""

    def __init__(self, hidden_dim: int, edge_dim: int, activation: str) -> None:
        super().__init__()
        self.coord_mlp_vel = mlp([1, hidden_dim, 1], activation)
        self.phi = coord_head(1 + edge_dim, hidden_dim, 1, activation, tanh=True)

    def forward(self, pos: Tensor, plan: EdgePlan, edge_attr: Tensor, vel: Tensor, speed: Tensor) -> Tensor:
        d = pos[plan.edges[0].long()] - pos[plan.edges[1].long()]
        distance = safe_norm(d.square().sum(1, keepdim=True))
        vector = d * self.phi(torch.cat((distance, edge_attr), 1))
        return pos + ops.segment_mean(vector, plan) + vel * self.coord_mlp_vel(speed)


class RadialField(nn.Module):
    """The radial field: forces along edges, of a size that depends on distance and edge features alone.

    Args:
        edge_dim: columns of edge_attr.
        hidden_dim: width of the layers.
        n_layers: number of layers.
        activation: see ``ops.frame_message``.

    Source: Koehler et al., 2019; published as RF_vel, the baseline of Satorras et al., ICML 2021.
    """

    def __init__(self, edge_dim: int, hidden_dim: int, n_layers: int = 4, *, activation: str = "silu") -> None:
        super().__init__()
        self.edge_dim = edge_dim
        add_layers(self, [RadialConv(hidden_dim, edge_dim, activation) for _ in range(n_layers)])

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
        """New positions (N, 3) from pos and vel (N, 3) and edge_attr (E, edge_dim); h and batch not read."""
        _check.positions(pos)
        check_velocities(vel, pos)
        plan = as_plan(edge_index, pos.shape[0], pos.device)
        check_columns(edge_attr, plan.num_edges, self.edge_dim, "edge_attr")
        speed = safe_norm(vel.square().sum(1, keepdim=True))
        for layer in layers_of(self):
            pos = layer(pos, plan, edge_attr, vel, speed)
        return pos


class LinearMotion(nn.Module):
    """Straight motion, x + v t: what a network must beat.

    Positions and velocities (N, 3) give positions (N, 3); the time t, in the units of v, is the only parameter.
    """

    def __init__(self) -> None:
        super().__init__()
        self.time = nn.Parameter(torch.ones(1))

    def forward(
        self,
        h: Tensor | None,
        pos: Tensor,
        edge_index: Tensor | EdgePlan | None,
        edge_attr: Tensor | None,
        vel: Tensor,
        *,
        batch: Tensor | None = None,
    ) -> Tensor:
        """New positions (N, 3) from pos and vel (N, 3); nothing else is read."""
        _check.positions(pos)
        check_velocities(vel, pos)
        return pos + vel * self.time
