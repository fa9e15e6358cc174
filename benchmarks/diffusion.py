"""The network of E(3) Equivariant Diffusion in plain, unfused PyTorch: what is replaced, and measured as eager.

Written from the mathematics, with the class names, attributes and parameter names of the public program and with its
cost. ``forward`` of a block takes the masks of EDM; descendants name more of them.
"""

import math

import torch
from torch import Tensor, nn

from clof_ext.bench.published import scatter_sum

SHIFT = 1e-8


def reduced(values: Tensor, index: Tensor, n_rows: int, method: str, factor: float) -> Tensor:
    total = scatter_sum(values, index, n_rows)
    if method == "sum":
        return total / factor
    return total / scatter_sum(torch.ones_like(values), index, n_rows).clamp(min=1)


def masked(values: Tensor, mask: Tensor | None) -> Tensor:
    return values if mask is None else values * mask


def squared_distance(x: Tensor, edges) -> Tensor:
    return (x[edges[0]] - x[edges[1]]).pow(2).sum(1, keepdim=True)


class Sinusoids(nn.Module):
    """Sines and cosines of a distance, which is not differentiated."""

    def __init__(self, longest: float = 15.0, shortest: float = 0.0075, ratio: float = 4.0) -> None:
        super().__init__()
        n = 1 + int(math.log(longest / shortest, ratio))
        self.frequencies = ratio ** torch.arange(n) * (2 * math.pi / longest)
        self.dim = 2 * n

    def forward(self, squared: Tensor) -> Tensor:
        phase = (squared + SHIFT).sqrt() * self.frequencies.to(squared.device)
        return torch.cat((phase.sin(), phase.cos()), 1).detach()


class GCL(nn.Module):
    """A layer that updates features, and returns the messages too."""

    def __init__(self, hidden, n_edge, act, attention, factor, method) -> None:
        super().__init__()
        self.normalization_factor, self.aggregation_method, self.attention = factor, method, attention
        self.edge_mlp = nn.Sequential(nn.Linear(2 * hidden + n_edge, hidden), act, nn.Linear(hidden, hidden), act)
        self.node_mlp = nn.Sequential(nn.Linear(2 * hidden, hidden), act, nn.Linear(hidden, hidden))
        if attention:
            self.att_mlp = nn.Sequential(nn.Linear(hidden, 1), nn.Sigmoid())

    def forward(self, h, edge_index, edge_attr=None, node_attr=None, node_mask=None, edge_mask=None):
        row, col = edge_index
        message = self.edge_mlp(torch.cat((h[row], h[col], edge_attr), 1))
        gated = message * self.att_mlp(message) if self.attention else message
        total = reduced(masked(gated, edge_mask), row, len(h), self.aggregation_method, self.normalization_factor)
        return masked(h + self.node_mlp(torch.cat((h, total), 1)), node_mask), message


class EquivariantUpdate(nn.Module):
    """A layer that moves positions."""

    def __init__(self, hidden, n_edge, act, tanh, coords_range, factor, method, crossed=False) -> None:
        super().__init__()
        self.normalization_factor, self.aggregation_method = factor, method
        self.tanh, self.coords_range = tanh, coords_range
        head = nn.Linear(hidden, 1, bias=False)

        def mlp() -> nn.Sequential:
            first = nn.Linear(2 * hidden + n_edge, hidden)
            return nn.Sequential(first, act, nn.Linear(hidden, hidden), act, head)

        self.coord_mlp = mlp()
        self.cross_product_mlp = mlp() if crossed else None

    def bounded(self, value: Tensor) -> Tensor:
        return value.tanh() * self.coords_range if self.tanh else value

    def forward(self, h, coord, edge_index, coord_diff, edge_attr, movable, node_mask, edge_mask, cross=None):
        row, col = edge_index
        inputs = torch.cat((h[row], h[col], edge_attr), 1)
        vector = coord_diff * self.bounded(self.coord_mlp(inputs))
        if cross is not None:
            vector = vector + cross * self.bounded(self.cross_product_mlp(inputs))
        vector = masked(vector, edge_mask)
        moved = reduced(vector, row, len(coord), self.aggregation_method, self.normalization_factor)
        return masked(coord + masked(moved, movable), node_mask)


class EquivariantBlock(nn.Module):
    """Feature layers and one update of positions."""

    def __init__(
        self,
        hidden_nf,
        edge_feat_nf=2,
        *,
        act_fn=None,
        n_layers=2,
        attention=True,
        tanh=False,
        coords_range=15.0,
        norm_constant=1,
        sin_embedding=None,
        normalization_factor=100,
        aggregation_method="sum",
        crossed=False,
    ) -> None:
        super().__init__()
        self.n_layers, self.norm_constant, self.sin_embedding = n_layers, norm_constant, sin_embedding
        act, scaling = act_fn or nn.SiLU(), (normalization_factor, aggregation_method)
        for k in range(n_layers):
            self.add_module(f"gcl_{k}", GCL(hidden_nf, edge_feat_nf, act, attention, *scaling))
        self.gcl_equiv = EquivariantUpdate(hidden_nf, edge_feat_nf, nn.SiLU(), tanh, coords_range, *scaling, crossed)

    def forward(self, h, x, edge_index, node_mask=None, edge_mask=None, edge_attr=None):
        return self.run(h, x, edge_index, node_mask, edge_mask, edge_attr, None)

    def run(self, h, x, edge_index, node_mask, edge_mask, edge_attr, movable, cross=None):
        row, col = edge_index
        squared = squared_distance(x, edge_index)
        along = (x[row] - x[col]) / ((squared + SHIFT).sqrt() + self.norm_constant)
        distance = squared if self.sin_embedding is None else self.sin_embedding(squared)
        features = torch.cat((distance, edge_attr), 1)
        for k in range(self.n_layers):
            h, _ = self.get_submodule(f"gcl_{k}")(h, edge_index, features, None, node_mask, edge_mask)
        x = self.gcl_equiv(h, x, edge_index, along, features, movable, node_mask, edge_mask, cross)
        return masked(h, node_mask), x


class EGNN(nn.Module):
    """Blocks, of which each also sees the first distances."""

    block = EquivariantBlock

    def __init__(self, in_node_nf, hidden_nf, n_layers=3, *, sin_embedding=False, inv_sublayers=2, **options) -> None:
        super().__init__()
        self.n_layers = n_layers
        self.sin_embedding = Sinusoids() if sin_embedding else None
        n_edge = 2 * self.sin_embedding.dim if sin_embedding else 2
        self.embedding, self.embedding_out = nn.Linear(in_node_nf, hidden_nf), nn.Linear(hidden_nf, in_node_nf)
        options = {"sin_embedding": self.sin_embedding, "n_layers": inv_sublayers, **options}
        for k in range(n_layers):
            self.add_module(f"e_block_{k}", self.block(hidden_nf, n_edge, **options))

    def forward(self, h, x, edge_index, node_mask=None, edge_mask=None, **others):
        squared = squared_distance(x, edge_index)
        distance = squared if self.sin_embedding is None else self.sin_embedding(squared)
        h = self.embedding(h)
        for k in range(self.n_layers):
            block = self.get_submodule(f"e_block_{k}")
            h, x = block(h, x, edge_index, node_mask=node_mask, edge_mask=edge_mask, edge_attr=distance, **others)
        return masked(self.embedding_out(h), node_mask), x


class EDM(nn.Module):
    """The network with the options of the public QM9 model, called as the networks for particles are."""

    def __init__(self, in_node_nf: int, in_edge_nf: int, hidden_nf: int, n_layers: int = 4) -> None:
        super().__init__()
        self.egnn = EGNN(
            in_node_nf, hidden_nf, n_layers, inv_sublayers=1, attention=True, tanh=True, normalization_factor=1
        )

    def forward(self, h, x, edges, vel, edge_attr):
        return self.egnn(h, x, edges)[1]
