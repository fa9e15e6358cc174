"""ClofNet: message passing on complete local frames for particles with velocities."""

import torch
from torch import Tensor, nn

from .. import _check
from ..graph import EdgePlan, as_plan
from ..nn import FrameConv
from ..nn.activation import KNOWN
from ..nn.edge_features import edge_features
from ..nn.mlp import activated_mlp, check_read, linear_tensors
from .gaussian_basis import GaussianBasis
from .inputs import add_layers, centroids, check_columns, check_velocities, layers_of

N_SCALARS = {False: 8, True: 14}
# Width of the edge embedding that the published network without velocities holds and never reads.
UNUSED_EMBEDDING = 8
# Columns of edge_attr with a Gaussian basis: type and value.
GAUSSIAN_COLUMNS = 2


class ClofNet(nn.Module):
    """Positions after some time, from positions, velocities and edge features; SO(3)- and translation-equivariant.

    Each graph is centred; the frames' scalars of positions (and velocities) become edge features once::

        h = embedding_node(h);  e = fuse_edge([edge_attr, edge_scalars(x, v)])
        h, x = gcl_k(h, x, edges, e, v)   for each layer, on frames of the updated positions
        result = x + centroid

    With ``gaussian_basis`` the columns of edge_attr are a type t, -1 or 1, and a value u; then
    e = fuse_edge(edge_scalars(x, v)) + phi(u, t), see ``GaussianBasis``. Frames see reflections, so the network tells
    a system from its mirror image. Parameters have the names of the published networks, whose state dicts load
    strictly: ClofNet_vel, ClofNet (``velocity=False``) and ClofNet_vel_gbf (``gaussian_basis=True``).

    Args:
        node_dim: columns of h.
        edge_dim: columns of edge_attr.
        hidden_dim: features of nodes and messages; even.
        n_layers: number of layers.
        velocity: project velocities on the frames too. Without, they still enter each layer's position update.
        gaussian_basis: see above; needs velocity=True and edge_dim=2.
        frame: frame mode, see ``ops.edge_frame``. The published network with velocities takes its scalars on soft
            frames even where its layers have raw ones; so does this.
        recurrent, tanh, coords_weight, attention, node_attr_dim, activation: see ``nn.FrameConv``.

    Raises:
        ValueError: an option that does not exist or does not fit another.

    Source: Du et al., ICML 2022, section 4 and experiments on Newtonian systems.
    """

    def __init__(
        self,
        node_dim: int,
        edge_dim: int,
        hidden_dim: int,
        n_layers: int = 4,
        *,
        velocity: bool = True,
        gaussian_basis: bool = False,
        frame: str = "soft",
        recurrent: bool = True,
        tanh: bool = False,
        coords_weight: float = 1.0,
        attention: bool = False,
        node_attr_dim: int = 0,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        if hidden_dim % 2:
            raise ValueError(f"hidden_dim must be even: edge features have half its size; got {hidden_dim}.")
        if gaussian_basis and not (velocity and edge_dim == GAUSSIAN_COLUMNS):
            raise ValueError(
                "gaussian_basis=True must come with velocity=True and edge_dim=2; "
                f"got velocity={velocity} and edge_dim={edge_dim}."
            )
        self.node_dim, self.edge_dim, self.velocity, self.activation = node_dim, edge_dim, velocity, activation
        self.scalar_frame = "soft" if velocity and frame == "raw" else frame
        half = hidden_dim // 2
        self.embedding_node = nn.Linear(node_dim, hidden_dim)
        if not velocity:
            self.embedding_edge = activated_mlp([edge_dim, UNUSED_EMBEDDING], activation)
        if gaussian_basis:
            self.gbf = GaussianBasis(half)
        fused = N_SCALARS[velocity] + (0 if gaussian_basis else edge_dim)
        self.fuse_edge = activated_mlp([fused, half, half], activation)
        options = {
            "basis": "complete",
            "velocity": True,
            "frame": frame,
            "recurrent": recurrent,
            "tanh": tanh,
            "coords_weight": coords_weight,
            "attention": attention,
            "node_attr_dim": node_attr_dim,
            "activation": activation,
        }
        add_layers(self, [FrameConv(hidden_dim, hidden_dim, half, **options) for _ in range(n_layers)])

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
            h: (N, node_dim) node features, such as the speed.
            pos: (N, 3) positions, float32 or float64.
            edge_index: (2, E) receivers and senders, or an EdgePlan.
            edge_attr: (E, edge_dim) edge features.
            vel: (N, 3) velocities in the dtype of pos; may be left out (zero) where velocity=False.
            batch: (N,) number of each node's graph, from 0 and below N; graphs may differ in size. One graph if None.
            node_attr: (N, node_attr_dim), or None if node_attr_dim is 0.

        Returns:
            (N, 3), in the dtype of pos.

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape, device or index, or a missing argument.
            ValueError: a module of fuse_edge was exchanged for one that computes something else.
        """
        _check.positions(pos)
        plan = as_plan(edge_index, pos.shape[0], pos.device)
        check_columns(h, plan.num_nodes, self.node_dim, "h")
        check_columns(edge_attr, plan.num_edges, self.edge_dim, "edge_attr")
        if vel is None and not self.velocity:
            vel = torch.zeros_like(pos)
        check_velocities(vel, pos)

        center = centroids(pos, batch)
        pos = pos - center
        h = self.embedding_node(h)
        edge_features = self._edge_features(edge_attr, pos, vel, plan).to(h.dtype)
        for layer in layers_of(self):
            h, pos = layer(h, pos, plan, edge_features, vel, node_attr)
        return pos + center

    def _edge_features(self, edge_attr: Tensor, pos: Tensor, vel: Tensor, plan: EdgePlan) -> Tensor:
        gaussian = hasattr(self, "gbf")
        check_read(self, "fuse_edge", self.activation, KNOWN[self.activation])
        features = edge_features(
            *(pos, vel if self.velocity else None, plan, None if gaussian else edge_attr),
            linear_tensors(self.fuse_edge),
            mode=self.scalar_frame,
            activation=self.activation,
            dtype=edge_attr.dtype,
        )
        if not gaussian:
            return features
        kind, value = edge_attr.unbind(1)
        return features + self.gbf(value, ((kind + 1) / 2).floor().long())
