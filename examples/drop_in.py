"""A network in plain PyTorch made faster by two lines: the same weights, verified on a batch, and timed.

Run ``python -m examples.drop_in``; it takes seconds. The layer below is EGNN's, as programs of one's own hold it: its
class name, parts and formulas are what clof_ext recognises.
"""
# ruff: noqa: N801 (the published name)

import torch
from torch import Tensor, nn
from torch.utils.benchmark import Timer

import clof_ext

HIDDEN, N_LAYERS = 64, 4
N_SYSTEMS, N_PARTICLES = 64, 20
TIMED_SECONDS = 2.0


class E_GCL(nn.Module):
    """One layer: messages of features and distances, positions along the edges, features from the messages."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        act = nn.SiLU()
        self.edge_mlp = nn.Sequential(nn.Linear(2 * hidden + 1, hidden), act, nn.Linear(hidden, hidden), act)
        self.coord_mlp = nn.Sequential(nn.Linear(hidden, hidden), act, nn.Linear(hidden, 1, bias=False))
        self.node_mlp = nn.Sequential(nn.Linear(2 * hidden, hidden), act, nn.Linear(hidden, hidden))
        self.residual, self.coords_agg = True, "mean"

    def forward(self, h, edge_index, coord, edge_attr=None, node_attr=None):
        row, col = edge_index
        d = coord[row] - coord[col]
        message = self.edge_mlp(torch.cat((h[row], h[col], d.square().sum(1, keepdim=True)), 1))
        degree = h.new_zeros(len(h), 1).index_add(0, row, h.new_ones(len(row), 1)).clamp(min=1)
        coord = coord + torch.zeros_like(coord).index_add(0, row, d * self.coord_mlp(message)) / degree
        received = h.new_zeros(h.shape).index_add(0, row, message)
        return h + self.node_mlp(torch.cat((h, received), 1)), coord, edge_attr


class Network(nn.Module):
    """Positions of particles after some time, from their charges and positions."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Linear(1, HIDDEN)
        self.layers = nn.ModuleList(E_GCL(HIDDEN) for _ in range(N_LAYERS))

    def forward(self, charges: Tensor, pos: Tensor, edge_index: Tensor) -> Tensor:
        h = self.embedding(charges)
        for layer in self.layers:
            h, pos, _ = layer(h, edge_index, pos)
        return pos


def seconds(model: nn.Module, batch: tuple[Tensor, ...]) -> float:
    """The median time of a forward and backward pass."""
    timer = Timer("model(*batch).square().mean().backward()", globals={"model": model, "batch": batch})
    return timer.blocked_autorange(min_run_time=TIMED_SECONDS).median


def main() -> None:
    torch.manual_seed(0)
    model = Network()
    n_nodes = N_SYSTEMS * N_PARTICLES
    edge_index = clof_ext.newton.fully_connected(N_PARTICLES, N_SYSTEMS)
    batch = torch.randint(2, (n_nodes, 1)) * 2.0 - 1, torch.randn(n_nodes, 3), edge_index
    before = seconds(model, batch)

    # The two lines: clof_ext compares outputs and gradients before and after, and raises an error if they differ.
    report = clof_ext.replace_layers(model, verify=batch)
    print(report)

    after = seconds(model, batch)
    print(f"forward and backward: {1e3 * before:.1f} ms before, {1e3 * after:.1f} ms after")


if __name__ == "__main__":
    main()
