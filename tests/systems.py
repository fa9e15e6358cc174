"""Small random systems that layers and networks are tried on."""

from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from clof_ext import EdgePlan, prepare_graph

# What a test of any device is run on, one after another.
DEVICES = [
    "cpu",
    pytest.param(
        "cuda",
        marks=[
            pytest.mark.gpu,
            pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none"),
        ],
    ),
]

# Receivers and senders of an irregular graph of seven nodes; node 6 only sends.
RECEIVERS = (0, 0, 1, 2, 2, 2, 3, 4, 5, 5, 1, 4)
SENDERS = (1, 2, 0, 3, 4, 6, 5, 2, 6, 0, 4, 3)


@dataclass(frozen=True)
class System:
    """Positions, velocities and features of one system, in float64."""

    h: Tensor
    pos: Tensor
    vel: Tensor
    edge_attr: Tensor
    edge_index: Tensor

    def plan(self) -> EdgePlan:
        return prepare_graph(self.edge_index, len(self.pos))

    def mapped(self, matrix: Tensor, shift: float = 0.0) -> "System":
        """The system turned or mirrored by a matrix, then moved."""
        return replace(self, pos=self.pos @ matrix.T + shift, vel=self.vel @ matrix.T)

    def permuted(self, order: Tensor, edge_order: Tensor) -> "System":
        """The same system with node ``order[k]`` as node k, and its edges in another order."""
        edges = order.argsort()[self.edge_index][:, edge_order]
        nodes = {name: getattr(self, name)[order] for name in ("h", "pos", "vel")}
        return replace(self, **nodes, edge_attr=self.edge_attr[edge_order], edge_index=edges)


def make_system(node_dim: int, edge_dim: int, seed: int = 1) -> System:
    generator = torch.Generator().manual_seed(seed)
    sizes = ((7, node_dim), (7, 3), (7, 3), (len(SENDERS), edge_dim))
    tensors = [torch.randn(size, generator=generator, dtype=torch.float64) for size in sizes]
    return System(*tensors, torch.tensor((RECEIVERS, SENDERS)))


def rotation() -> Tensor:
    """A rotation about no special axis."""
    generator = torch.Generator().manual_seed(2)
    q, _ = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=torch.float64))
    return q * torch.linalg.det(q).sign()
