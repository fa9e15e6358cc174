"""EGNN: message passing along edges alone."""

from torch import Tensor, nn

from .. import _check
from ..graph import EdgePlan, as_plan
from ..nn import FrameConv
from .inputs import add_layers, check_columns, check_velocities, layers_of


class EGNN(nn.Module):
    """Positions after some time, from positions and edge features; E(3)-equivariant, blind to reflections.

    h = embedding(h), then layers of ``nn.FrameConv`` with the basis "radial". Parameters have the names of the
    published networks, whose state dicts load strictly: EGNN (``activation="leaky_relu"``, ``frame="raw"``) and
    EGNN_vel (``velocity=True``; ``frame="soft"`` where it was made with norm_diff=True).

    Args:
        node_dim: columns of h.
        edge_dim: columns of edge_attr.
        hidden_dim: features of nodes and messages.
        n_layers: number of layers.
        velocity: add the velocity term to each layer.
        frame: ``"raw"``: vectors along x_i - x_j; ``"soft"``: along (x_i - x_j) / (|x_i - x_j| + 1).
        recurrent, tanh, coords_weight, attention, node_attr_dim, activation: see ``nn.FrameConv``.

    Raises:
        ValueError: an option that does not exist.

    Source: Satorras et al., ICML 2021; the baseline of Du et al., ICML 2022.
    """

    def __init__(
        self,
        node_dim: int,
        edge_dim: int,
        hidden_dim: int,
        n_layers: int = 4,
        *,
        velocity: bool = False,
        frame: str = "raw",
        recurrent: bool = True,
        tanh: bool = False,
        coords_weight: float = 1.0,
        attention: bool = False,
        node_attr_dim: int = 0,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        self.node_dim, self.edge_dim, self.velocity = node_dim, edge_dim, velocity
        self.embedding = nn.Linear(node_dim, hidden_dim)
        options = {
            "basis": "radial",
            "velocity": velocity,
            "frame": frame,
            "recurrent": recurrent,
            "tanh": tanh,
            "coords_weight": coords_weight,
            "attention": attention,
            "node_attr_dim": node_attr_dim,
            "activation": activation,
        }
        add_layers(self, [FrameConv(hidden_dim, hidden_dim, edge_dim, **options) for _ in range(n_layers)])

    def forward(
        self,
        h: Tensor,
        pos: Tensor,
        edge_index: Tensor | EdgePlan,
        edge_attr: Tensor,
        vel: Tensor | None = None,
        *,
        batch: Tensor | None = None,
        node_attr: Tensor | None = None,
    ) -> Tensor:
        """New positions.

        Args:
            h: (N, node_dim) node features.
            pos: (N, 3) positions, float32 or float64.
            edge_index: (2, E) receivers and senders, or an EdgePlan.
            edge_attr: (E, edge_dim) edge features.
            vel: (N, 3) velocities in the dtype of pos; not read where velocity=False.
            batch: not read: nothing here depends on which graph a node belongs to. Accepted so that all networks can
                be called alike.
            node_attr: (N, node_attr_dim), or None if node_attr_dim is 0.

        Returns:
            (N, 3), in the dtype of pos.

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape, device or index, or a missing argument.
        """
        _check.positions(pos)
        plan = as_plan(edge_index, pos.shape[0], pos.device)
        check_columns(h, plan.num_nodes, self.node_dim, "h")
        check_columns(edge_attr, plan.num_edges, self.edge_dim, "edge_attr")
        if self.velocity:
            check_velocities(vel, pos)
        h = self.embedding(h)
        edge_attr = edge_attr.to(h.dtype)
        for layer in layers_of(self):
            h, pos = layer(h, pos, plan, edge_attr, vel if self.velocity else None, node_attr)
        return pos
