"""Gradients by what lives on nodes, on CPUs: for whole graphs by one worker, both nodes of an edge at once, and where
graphs are too large for that once for the receiver of each edge and once for its sender."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from clof_ext import EdgePlan, _backends, ops, prepare_graph
from clof_ext.bench.run import threads
from tests.conformance import random_edges
from tests.ops.test_frame_message import INSTRUCTION_SETS, selected

pytestmark = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")

# A worker has so many edges at least, and at most twice its share.
EDGES_OF_A_WORKER = 4096


def batch() -> EdgePlan:
    """Many small graphs, edges in no order."""
    nodes, graphs = 7, 600
    edges = torch.cat([random_edges(nodes, 31, seed) + nodes * seed for seed in range(graphs)], 1)
    return prepare_graph(edges[:, torch.randperm(edges.shape[1])], nodes * graphs)


def one_graph() -> EdgePlan:
    return prepare_graph(random_edges(300, 5 * EDGES_OF_A_WORKER), 300)


GRAPHS = {"batch": batch, "one graph": one_graph}
# Of a plan, positions and features on nodes and edges, of so many channels.
OPS: dict[str, tuple[int, Callable[..., Tensor]]] = {
    "edge_frame": (1, lambda plan, pos, nodes, edges, **to: ops.edge_frame(pos, plan, **to)),
    "edge_scalars": (1, lambda plan, pos, nodes, edges, **to: ops.edge_scalars(pos, plan, pos.sin(), **to)),
    "project, sender": (2, lambda plan, pos, nodes, edges, **to: ops.project(nodes, pos, plan, source="sender", **to)),
    "project, receiver": (
        17,
        lambda plan, pos, nodes, edges, **to: ops.project(nodes, pos, plan, source="receiver", **to),
    ),
    "project, sender, channels": (
        17,
        lambda plan, pos, nodes, edges, **to: ops.project(nodes, pos, plan, source="sender", **to),
    ),
    "project, edge": (17, lambda plan, pos, nodes, edges, **to: ops.project(edges, pos, plan, source="edge", **to)),
    "aggregate": (2, lambda plan, pos, nodes, edges, **to: ops.aggregate(edges, pos, plan, **to)),
    "aggregate, mean, channels": (
        17,
        lambda plan, pos, nodes, edges, **to: ops.aggregate(edges, pos, plan, reduce="mean", **to),
    ),
}


def derivatives(plan: EdgePlan, name: str, backend: str) -> list[Tensor]:
    """First derivatives of a loss and of the square of its force, by all inputs."""
    channels, op = OPS[name]
    generator = torch.Generator().manual_seed(0)
    shapes = (plan.num_nodes, 3), (plan.num_nodes, channels, 3), (plan.num_edges, channels, 3)
    leaves = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    out = op(plan, *leaves, backend=backend)
    loss = (out * torch.linspace(-1, 2, out.numel(), dtype=out.dtype).reshape(out.shape)).sum()
    first = torch.autograd.grad(loss, leaves, create_graph=True, materialize_grads=True)
    second = torch.autograd.grad(first[0].square().sum(), leaves, allow_unused=True, materialize_grads=True)
    return [grad.detach() for grad in (*first, *second)]


@pytest.mark.parametrize("instruction_set", INSTRUCTION_SETS)
@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_derivatives(graph: str, name: str, instruction_set: str):
    plan = GRAPHS[graph]()
    assert plan.num_edges >= 4 * EDGES_OF_A_WORKER  # four workers
    expected = derivatives(plan, name, "reference")
    with selected(instruction_set):
        found = derivatives(plan, name, "cpu")
    assert expected[0].abs().max() > 0
    for one, two in zip(found, expected, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-9, atol=1e-9 * float(two.abs().max()))


@pytest.mark.parametrize("name", OPS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_the_same_bits_for_any_number_of_threads(graph: str, name: str):
    plan, found = GRAPHS[graph](), []
    for count in (1, 2, 5):
        with threads(count):
            found.append(derivatives(plan, name, "cpu"))
    assert all(torch.equal(one, two) for other in found[1:] for one, two in zip(found[0], other, strict=True))
