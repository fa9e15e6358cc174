"""The layer of egnn-pytorch at the same sizes.

Its formulas are others: every system is a dense square of pairs, a particle's pair with itself among them, there are no
velocities, and its perceptrons are wider. So its results are not compared with the published layer's.
"""

import torch
from egnn_pytorch import EGNN
from torch import Tensor, nn

from clof_ext.bench.one_layer import Inputs, Layer

from .program import Program, torch_program


class Dense(nn.Module):
    """The layer on dense systems, called as ``one_layer.Layer`` is."""

    def __init__(self, hidden: int, edge_dim: int) -> None:
        super().__init__()
        self.layer = EGNN(dim=hidden, edge_dim=edge_dim, m_dim=hidden)

    def forward(self, h: Tensor, pos: Tensor, edge_attr: Tensor, vel: Tensor, edge_index: Tensor):
        return self.layer(h, pos, edges=edge_attr)


def build(layer: Layer, inputs: Inputs) -> Program:
    dense = dense_inputs(inputs)
    module = Dense(dense.leaves["h"].shape[-1], dense.leaves["edge_attr"].shape[-1])
    return Program(torch_program(module, dense).calls, arrays=None)


def dense_inputs(inputs: Inputs) -> Inputs:
    """Fully connected systems of n particles as (S, n, ...) nodes and (S, n, n, ...) edges; 0 at pairs with oneself."""
    n_nodes, edge_attr = len(inputs.vel), inputs.leaves["edge_attr"].detach()
    n = len(edge_attr) // n_nodes + 1
    pairs = edge_attr.new_zeros(n_nodes, n, edge_attr.shape[1])
    receiver, sender = inputs.edge_index
    pairs[receiver, sender % n] = edge_attr
    leaves = {name: systems_of(n, value.detach()) for name, value in (inputs.leaves | {"edge_attr": pairs}).items()}
    cotangents = systems_of(n, inputs.cotangents[0]), systems_of(n, inputs.cotangents[1])
    wanted = {name: value.requires_grad_() for name, value in leaves.items()}
    return Inputs(wanted, systems_of(n, inputs.vel), inputs.edge_index, cotangents)


def systems_of(n: int, nodes: Tensor) -> Tensor:
    return torch.unflatten(nodes, 0, (-1, n)).clone()
