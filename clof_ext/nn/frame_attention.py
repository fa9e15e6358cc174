"""Softmax attention over the edges of each node, with accelerations on local frames."""

import math

import torch
from torch import Tensor, nn

from .. import _check, ops
from ..graph import EdgePlan, as_plan
from .layer_step import VECTOR_CLAMP, side_by_side
from .mlp import activated_mlp, mlp
from .norm import norm_of_sum


def segment_softmax(scores: Tensor, plan: EdgePlan) -> Tensor:
    """Softmax of (E, K) scores over the edges of each receiver."""
    receiver = plan.edges[0].long()
    index = receiver[:, None].expand_as(scores)
    start = scores.new_full((plan.num_nodes, scores.shape[1]), -math.inf)
    # Any shift cancels, so the maximum needs no gradient.
    top = start.scatter_reduce(0, index, scores.detach(), "amax")
    weights = (scores - top[receiver]).exp()
    return weights / ops.segment_sum(weights, plan)[receiver]


class FrameAttention(nn.Module):
    """Multi-head attention over each node's edges, then an acceleration on complete local frames.

    With (a, b, c) the frame of the edge from j to i, K heads on contiguous slices of the H features, and e_ij the edge
    features::

        m_ij  = edge_mlp([h_i, h_j, e_ij]) * sigmoid(att_mlp(m_ij))        (the gate with attention)
        w_ij  = softmax over the edges of i of <fc_query(h_i), fc_key([h_i, m_ij])> / sqrt(H / K)
        g_i   = norm1(sum_j w_ij fc_value(m_ij))
        u_i   = node_mlp([h_i, g_i, node_attr_i])
        h'_i  = norm2(h_i + u_i) if recurrent, else u_i
        m'_ij = m_ij + edge_mlp_enhance([h'_i, h'_j, e_ij])
        acc_i = coords_weight mean_j clamp(coord_mlp_inner(m'_ij) (a, b, c), -100, 100)

    Nodes may have any number of edges, also none. Parameters have the published names.

    Args:
        hidden_dim: H, features of nodes and messages; a multiple of heads.
        edge_dim: D, features of an edge.
        heads: K.
        attention: gate messages by att_mlp.
        recurrent: add h to the update, and normalise it.
        coords_weight: factor of the accelerations.
        frame: frame mode, see ``ops.edge_frame``.
        node_attr_dim: columns of node_attr.
        activation: see ``ops.frame_message``.

    Raises:
        ValueError: an option that does not exist, or hidden_dim no multiple of heads.

    Source: the attention layer of the program published with Du et al., ICML 2022.
    """

    def __init__(
        self,
        hidden_dim: int,
        edge_dim: int,
        *,
        heads: int = 3,
        attention: bool = True,
        recurrent: bool = True,
        coords_weight: float = 1.0,
        frame: str = "soft",
        node_attr_dim: int = 0,
        activation: str = "silu",
    ) -> None:
        super().__init__()
        _check.one_of(frame, _check.MODES, "frame")
        _check.whole(heads, "heads", 1)
        if hidden_dim % heads:
            raise ValueError(f"hidden_dim must be a multiple of heads, {heads}; got {hidden_dim}.")
        self.hidden_dim, self.edge_dim, self.node_attr_dim, self.heads = hidden_dim, edge_dim, node_attr_dim, heads
        self.recurrent, self.coords_weight, self.frame = recurrent, coords_weight, frame
        width = 2 * hidden_dim + edge_dim
        self.edge_mlp = activated_mlp([width, hidden_dim, hidden_dim], activation)
        self.edge_mlp_enhance = mlp([width, hidden_dim, hidden_dim], activation)
        self.node_mlp = mlp([2 * hidden_dim + node_attr_dim, hidden_dim, hidden_dim], activation)
        self.coord_mlp_inner = mlp([hidden_dim, hidden_dim, hidden_dim, 3], activation)
        if attention:
            self.att_mlp = nn.Sequential(nn.Linear(hidden_dim, 1), nn.Sigmoid())
        self.fc_query = nn.Linear(hidden_dim, hidden_dim)
        self.fc_key = nn.Linear(2 * hidden_dim, hidden_dim)
        self.fc_value = nn.Linear(hidden_dim, hidden_dim)
        self.norm1 = nn.LayerNorm(hidden_dim)
        self.norm2 = nn.LayerNorm(hidden_dim)

    def forward(
        self,
        h: Tensor,
        pos: Tensor,
        edge_index: Tensor | EdgePlan,
        edge_attr: Tensor,
        node_attr: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Accelerations and new features.

        Args:
            h: (N, H) node features.
            pos: (N, 3) positions on which the frames are built, float32 or float64, used as given.
            edge_index: (2, E) receivers and senders, or an EdgePlan.
            edge_attr: (E, D) edge features.
            node_attr: (N, node_attr_dim), or None if node_attr_dim is 0.

        Returns:
            acc (N, 3), h' (N, H) and the edges' m' (E, H).

        Raises:
            TypeError, ValueError: a wrong type, dtype, shape, device or index.
        """
        _check.positions(pos)
        plan = as_plan(edge_index, pos.shape[0], pos.device)
        _check.features(h, pos, "h")
        _check.shape(h, (plan.num_nodes, self.hidden_dim), "h")
        _check.features(edge_attr, pos, "edge_attr")
        _check.shape(edge_attr, (plan.num_edges, self.edge_dim), "edge_attr")
        _check.columns(node_attr, plan.num_nodes, self.node_attr_dim, "node_attr")
        if node_attr is not None:
            _check.features(node_attr, pos, "node_attr")

        message = self.edge_mlp(_ends(h, plan, edge_attr))
        if hasattr(self, "att_mlp"):
            message = message * self.att_mlp(message)
        new_h = self._update(h, self.norm1(self._attend(h, message, plan)), node_attr)
        new_message = message + self.edge_mlp_enhance(_ends(new_h, plan, edge_attr))
        return self._accelerate(new_message, pos, plan), new_h, new_message

    def _attend(self, h: Tensor, message: Tensor, plan: EdgePlan) -> Tensor:
        """Each node's values, averaged with the softmax weights of its edges: (N, H)."""
        receiver = plan.edges[0].long()
        heads = (-1, self.heads, self.hidden_dim // self.heads)
        query = self.fc_query(h)[receiver].reshape(heads)
        key = self.fc_key(torch.cat((h[receiver], message), 1)).reshape(heads)
        weights = segment_softmax((query * key).sum(-1) / math.sqrt(heads[-1]), plan)
        values = self.fc_value(message).reshape(heads) * weights[..., None]
        return ops.segment_sum(values.flatten(1), plan)

    def _update(self, h: Tensor, attended: Tensor, node_attr: Tensor | None) -> Tensor:
        update = self.node_mlp(torch.cat(side_by_side(h, attended, node_attr), 1))
        return norm_of_sum(self.norm2, update, h, times=1) if self.recurrent else update

    def _accelerate(self, message: Tensor, pos: Tensor, plan: EdgePlan) -> Tensor:
        frame = ops.edge_frame(pos, plan, mode=self.frame)
        coefficients = self.coord_mlp_inner(message).to(pos.dtype)
        vector = (coefficients[..., None] * frame).sum(1).clamp(-VECTOR_CLAMP, VECTOR_CLAMP)
        return self.coords_weight * ops.segment_mean(vector, plan)


def _ends(h: Tensor, plan: EdgePlan, edge_attr: Tensor) -> Tensor:
    """[h_i, h_j, edge_attr] of every edge."""
    return torch.cat((h[plan.edges[0].long()], h[plan.edges[1].long()], edge_attr), 1)
