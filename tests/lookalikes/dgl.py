"""DGL's graphs and its EGNN layer in plain PyTorch, written from the formulas under the public names."""

import torch
from torch import Tensor, nn


class Graph:
    """Edges from sources to destinations."""

    def __init__(self, edges: tuple[Tensor, Tensor], num_nodes: int) -> None:
        self._edges, self.n_nodes = edges, num_nodes

    def edges(self) -> tuple[Tensor, Tensor]:
        return self._edges[0].clone(), self._edges[1].clone()


def graph(edges: tuple[Tensor, Tensor], num_nodes: int) -> Graph:
    return Graph(edges, num_nodes)


class EGNNConv(nn.Module):
    def __init__(self, in_size: int, hidden_size: int, out_size: int, edge_feat_size: int = 0) -> None:
        super().__init__()
        self.in_size, self.hidden_size, self.out_size = in_size, hidden_size, out_size
        self.edge_feat_size, act = edge_feat_size, nn.SiLU()
        first = nn.Linear(2 * in_size + 1 + edge_feat_size, hidden_size)
        self.edge_mlp = nn.Sequential(first, act, nn.Linear(hidden_size, hidden_size), act)
        self.node_mlp = nn.Sequential(
            nn.Linear(in_size + hidden_size, hidden_size), act, nn.Linear(hidden_size, out_size)
        )
        head = nn.Linear(hidden_size, 1, bias=False)
        self.coord_mlp = nn.Sequential(nn.Linear(hidden_size, hidden_size), act, head)

    def forward(self, graph, node_feat, coord_feat, edge_feat=None):
        source, destination = graph.edges()
        difference = coord_feat[source] - coord_feat[destination]
        squared = difference.square().sum(1, keepdim=True)
        given = [edge_feat] if self.edge_feat_size else []
        message = self.edge_mlp(torch.cat([node_feat[source], node_feat[destination], squared, *given], 1))
        moved = self.coord_mlp(message) * difference / (squared.sqrt() + 1e-30)

        def total(values: Tensor) -> Tensor:
            return values.new_zeros(graph.n_nodes, values.shape[1]).index_add(0, destination, values)

        count = total(torch.ones_like(squared)).clamp(min=1)
        h = self.node_mlp(torch.cat((node_feat, total(message)), 1))
        return h, coord_feat + total(moved) / count
