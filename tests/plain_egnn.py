"""The layer of EGNN's stand-alone program: the same class name as in the N-body program, other options."""
# ruff: noqa: N801 (the published name)

import torch
from torch import nn

from clof_ext.bench.published import scatter_mean, scatter_sum


class E_GCL(nn.Module):
    """EGNN's layer without a bound, with sums as an option, and another normalisation."""

    def __init__(
        self, input_nf, hidden_nf, edges_in_d, *, residual=True, normalize=False, coords_agg="mean", tanh=False
    ):
        super().__init__()
        self.residual, self.attention, self.normalize = residual, False, normalize
        self.coords_agg, self.tanh = coords_agg, tanh
        act = nn.SiLU()
        self.edge_mlp = nn.Sequential(
            nn.Linear(2 * input_nf + 1 + edges_in_d, hidden_nf), act, nn.Linear(hidden_nf, hidden_nf), act
        )
        self.node_mlp = nn.Sequential(nn.Linear(input_nf + hidden_nf, hidden_nf), act, nn.Linear(hidden_nf, input_nf))
        head = [nn.Linear(hidden_nf, hidden_nf), act, nn.Linear(hidden_nf, 1, bias=False)]
        self.coord_mlp = nn.Sequential(*head, *([nn.Tanh()] if tanh else []))

    def forward(self, h, edge_index, coord, edge_attr=None, node_attr=None):
        row, col = edge_index
        d = coord[row] - coord[col]
        radial = d.pow(2).sum(1, keepdim=True)
        if self.normalize:
            d = d / (radial.sqrt().detach() + 1e-8)
        message = self.edge_mlp(torch.cat([h[row], h[col], radial, edge_attr], 1))
        reduce = scatter_sum if self.coords_agg == "sum" else scatter_mean
        coord = coord + reduce(d * self.coord_mlp(message), row, coord.shape[0])
        update = self.node_mlp(torch.cat([h, scatter_sum(message, row, h.shape[0])], 1))
        return (h + update if self.residual else update), coord, edge_attr
