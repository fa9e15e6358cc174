# ruff: noqa: N801 (the published names)
"""The layers of egnn-pytorch in plain PyTorch, written from the formulas under the public names.

Neighbours are a mask of all pairs here, where the public layer gathers them.
"""

import math

import torch
from torch import Tensor, nn

FAR = 1e5


class CoorsNorm(nn.Module):
    def __init__(self, eps: float = 1e-8, scale_init: float = 1.0) -> None:
        super().__init__()
        self.eps, self.scale = eps, nn.Parameter(torch.full((1,), scale_init))

    def forward(self, coors):
        return coors / coors.norm(dim=-1, keepdim=True).clamp(min=self.eps) * self.scale


class GraphNorm(nn.Module):
    """Stands for the norm of PyTorch Geometric, which is called with the graph of each node."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features)

    def forward(self, x, batch=None):
        return self.norm(x)


def perceptron(n_in: int, hidden: int, n_out: int, between: nn.Module, *end: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_in, hidden), between, nn.SiLU(), nn.Linear(hidden, n_out), *end)


def waves(squared: Tensor, count: int) -> Tensor:
    """[sines, cosines, r] of (..., 1) squared distances."""
    angle = squared / 2.0 ** torch.arange(count, dtype=squared.dtype)
    return torch.cat((angle.sin(), angle.cos(), squared), -1)


class EGNN(nn.Module):
    def __init__(
        self, dim, edge_dim=0, m_dim=16, fourier_features=0, num_nearest_neighbors=0, dropout=0.0, norm_feats=False,
        norm_coors=False, update_feats=True, update_coors=True, only_sparse_neighbors=False, valid_radius=math.inf,
        m_pool_method="sum", soft_edges=False, coor_weights_clamp_value=None,
    ) -> None:  # fmt: skip
        super().__init__()
        columns = 2 * (dim + fourier_features) + 1 + edge_dim
        between = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.edge_mlp = perceptron(columns, 2 * columns, m_dim, between, nn.SiLU())
        self.edge_gate = nn.Sequential(nn.Linear(m_dim, 1), nn.Sigmoid()) if soft_edges else None
        self.node_norm = nn.LayerNorm(dim) if norm_feats else nn.Identity()
        self.coors_norm = CoorsNorm(scale_init=1e-2) if norm_coors else nn.Identity()
        self.node_mlp = perceptron(dim + m_dim, 2 * dim, dim, between) if update_feats else None
        self.coors_mlp = perceptron(m_dim, 4 * m_dim, 1, between) if update_coors else None
        self.fourier_features, self.m_pool_method = fourier_features, m_pool_method
        self.num_nearest_neighbors, self.valid_radius = num_nearest_neighbors, valid_radius
        self.only_sparse_neighbors, self.coor_weights_clamp_value = only_sparse_neighbors, coor_weights_clamp_value

    def neighbours(self, squared, mask, adj_mat):
        """Chosen pairs, and of these the ones within the radius."""
        count, radius, ranking = self.num_nearest_neighbors, self.valid_radius, squared.detach().clone()
        if mask is not None:
            ranking[~(mask[:, :, None] & mask[:, None])] = FAR
        if adj_mat is not None:
            adjacent = adj_mat.expand_as(ranking)
            if self.only_sparse_neighbors:
                count, radius = int(adjacent.sum(-1).max()), 0
            ranking[adjacent] = 0.0
            ranking.diagonal(dim1=1, dim2=2).fill_(-1.0)
        last = ranking.topk(count, dim=-1, largest=False)
        chosen = torch.zeros_like(ranking, dtype=torch.bool).scatter(2, last.indices, torch.ones_like(last.indices) > 0)
        return chosen, chosen & (ranking <= radius)

    def forward(self, feats, coors, edges=None, mask=None, adj_mat=None):
        n = feats.shape[1]
        difference = coors[:, :, None] - coors[:, None]
        squared = difference.square().sum(-1, keepdim=True)
        chosen = torch.ones_like(squared[..., 0], dtype=torch.bool)
        near = chosen
        if self.num_nearest_neighbors > 0 or self.only_sparse_neighbors:
            chosen, near = self.neighbours(squared[..., 0], mask, adj_mat)
        if mask is not None:
            chosen = mask[:, :, None] & mask[:, None] & near
        radial = waves(squared, self.fourier_features) if self.fourier_features else squared
        receiver, sender = feats[:, :, None].expand(-1, -1, n, -1), feats[:, None].expand(-1, n, -1, -1)
        message = self.edge_mlp(torch.cat((receiver, sender, radial, *([] if edges is None else [edges])), -1))
        message = message if self.edge_gate is None else message * self.edge_gate(message)
        weight = chosen[..., None].to(feats.dtype)
        if self.coors_mlp is not None:
            bound = self.coor_weights_clamp_value or math.inf
            factor = self.coors_mlp(message).clamp(-bound, bound) * weight
            coors = coors + (factor * self.coors_norm(difference)).sum(2)
        if self.node_mlp is None:
            return feats, coors
        total = (message * weight).sum(2)
        if self.m_pool_method == "mean":
            total = total / weight.sum(2).clamp(min=1)
        return feats + self.node_mlp(torch.cat((self.node_norm(feats), total), -1)), coors


class EGNN_Sparse(nn.Module):
    def __init__(
        self, feats_dim, pos_dim=3, edge_attr_dim=0, m_dim=16, fourier_features=0, soft_edge=0, norm_feats=False,
        norm_coors=False, update_feats=True, update_coors=True, dropout=0.0, aggr="add",
    ) -> None:  # fmt: skip
        super().__init__()
        columns = 2 * (feats_dim + fourier_features) + 1 + edge_attr_dim
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        self.edge_mlp = perceptron(columns, 2 * columns, m_dim, self.dropout, nn.SiLU())
        self.edge_weight = nn.Sequential(nn.Linear(m_dim, 1), nn.Sigmoid()) if soft_edge else None
        self.node_norm = GraphNorm(feats_dim) if norm_feats else None
        self.coors_norm = CoorsNorm(scale_init=1e-2) if norm_coors else nn.Identity()
        self.node_mlp = perceptron(feats_dim + m_dim, 2 * feats_dim, feats_dim, self.dropout) if update_feats else None
        self.coors_mlp = perceptron(m_dim, 4 * m_dim, 1, self.dropout) if update_coors else None
        self.feats_dim, self.pos_dim, self.fourier_features = feats_dim, pos_dim, fourier_features
        self.soft_edge, self.aggr, self.coor_weights_clamp_value = soft_edge, aggr, None
        self.update_feats, self.update_coors = update_feats, update_coors

    def reduced(self, values: Tensor, receiver: Tensor, n: int) -> Tensor:
        if self.aggr == "max":
            index = receiver[:, None].expand_as(values)
            return values.new_zeros(n, values.shape[1]).scatter_reduce(0, index, values, "amax", include_self=False)
        total = values.new_zeros(n, values.shape[1]).index_add(0, receiver, values)
        count = receiver.bincount(minlength=n).clamp(min=1)[:, None]
        return total / count if self.aggr == "mean" else total

    def forward(self, x, edge_index, edge_attr=None, batch=None, angle_data=None, size=None):
        coors, feats = x[:, : self.pos_dim], x[:, self.pos_dim :]
        sender, receiver = edge_index
        difference = coors[sender] - coors[receiver]
        squared = difference.square().sum(1, keepdim=True)
        radial = waves(squared, self.fourier_features) if self.fourier_features else squared
        given = [] if edge_attr is None else [edge_attr]
        message = self.edge_mlp(torch.cat((feats[receiver], feats[sender], *given, radial), 1))
        moved, updated = coors, feats
        if self.update_coors:
            moved = coors + self.reduced(self.coors_mlp(message) * self.coors_norm(difference), receiver, len(x))
        if self.update_feats:
            message = message * self.edge_weight(message) if self.soft_edge else message
            normed = feats if self.node_norm is None else self.node_norm(feats, batch)
            updated = feats + self.node_mlp(torch.cat((normed, self.reduced(message, receiver, len(x))), 1))
        return torch.cat((moved, updated), 1)
