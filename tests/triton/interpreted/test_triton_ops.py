"""Every op of the Triton backend in the interpreter: values, first and second derivatives against the reference.

The interpreter takes milliseconds for each program of a kernel, so graphs are small and only some ops see all of them;
on a GPU the tests in tests/ops run the whole table.
"""

import pytest
import torch
from torch import Tensor

from clof_ext import ops
from tests.conformance import (
    CALLS,
    FLOAT64_TOLERANCE,
    GRAPHS,
    SECOND_TOLERANCE,
    SINGULAR,
    Graph,
    assert_agree,
    derivatives,
    points,
    random,
    random_edges,
)

# Of the largest tensors, which take seconds each, one call of each kernel.
DERIVED = [name for name in CALLS if "-3-" not in name or name in ("project-3-sender-soft", "aggregate-3-mean-soft")]
GEOMETRY = [name for name in CALLS if name.startswith("edge_")]
FEATURES = ("project-1-sender-raw", "aggregate-1-mean-raw", "segment_mean")
ONE_EACH = ("edge_frame-orthonormal", "edge_scalars-velocities-raw", *FEATURES)
PLAIN = "unsorted_with_isolated_node"
SMALL = [name for name in GRAPHS if name not in SINGULAR and name != PLAIN]
# Of the largest value. The interpreter cuts bfloat16 off where a GPU rounds it.
HALF_TOLERANCE = {torch.bfloat16: 2**-6, torch.float16: 2**-9}


def check(name: str, graph: Graph, dtype: torch.dtype, tolerance: float, second_tolerance: float) -> None:
    call = CALLS[name]
    found = derivatives(call, graph, "triton", call.inputs(graph, dtype), second=True)
    expected = derivatives(call, graph, "reference", call.inputs(graph), second=True)
    assert_agree(found, expected, tolerance, second_tolerance)


def singular_graph() -> Graph:
    """A self-loop, coincident nodes, nodes collinear with the centroid, one at it: all in one graph."""
    pos = points(7)
    pos[1], pos[2], pos[3] = pos[0], -2 * pos[0], 0
    edges = torch.tensor([[4, 0, 1, 0, 2, 1, 3, 0, 3, 5], [4, 1, 0, 2, 0, 2, 0, 3, 3, 6]])
    return Graph(pos, edges, singular=True)


@pytest.mark.parametrize("name", DERIVED)
def test_values_and_both_derivatives(name: str):
    check(name, GRAPHS[PLAIN](), torch.float64, FLOAT64_TOLERANCE, SECOND_TOLERANCE)


@pytest.mark.parametrize("name", [*GEOMETRY, "project-1-sender-raw", "aggregate-2-sum-orthonormal"])
def test_singular_edges(name: str):
    check(name, singular_graph(), torch.float64, FLOAT64_TOLERANCE, SECOND_TOLERANCE)


@pytest.mark.parametrize("graph", SMALL)
@pytest.mark.parametrize("name", ONE_EACH)
def test_graph(name: str, graph: str):
    check(name, GRAPHS[graph](), torch.float64, FLOAT64_TOLERANCE, SECOND_TOLERANCE)


@pytest.mark.parametrize("name", ONE_EACH)
def test_float32(name: str):
    check(name, GRAPHS[PLAIN](), torch.float32, 2e-5, 2e-4)


@pytest.mark.parametrize("dtype", HALF_TOLERANCE)
@pytest.mark.parametrize("name", FEATURES)
def test_half_precision_features(name: str, dtype: torch.dtype):
    check(name, GRAPHS[PLAIN](), dtype, HALF_TOLERANCE[dtype], 8 * HALF_TOLERANCE[dtype])


@pytest.mark.parametrize("name", ["edge_frame-soft", "edge_scalars-soft", "segment_mean"])
def test_more_than_one_program(name: str):
    check(name, Graph(points(17), random_edges(17, 130)), torch.float64, FLOAT64_TOLERANCE, SECOND_TOLERANCE)


@pytest.mark.parametrize("name", GEOMETRY)
def test_singular_edges_stay_finite_in_float32(name: str):
    call, graph = CALLS[name], singular_graph()
    results = derivatives(call, graph, "triton", call.inputs(graph, torch.float32), second=True)
    assert all(value.isfinite().all() for value in results)


def test_more_channels_than_a_tile():
    """33 channels: one more than a program reads at once; 60 columns and 130: less and more than a program's."""
    graph = Graph(points(4), random_edges(4, 6))
    tensor, plan = random(4, 33, 3), graph.plan()

    def project(backend: str):
        inputs = [tensor.clone().requires_grad_(), graph.pos.clone().requires_grad_()]
        out = ops.project(*inputs, plan, source="sender", backend=backend)
        return [out.detach(), *torch.autograd.grad(out.sin().sum(), inputs)]

    assert_agree(project("triton"), project("reference"), FLOAT64_TOLERANCE)
    for width in (60, 130):
        rows = random(6, width)
        found = ops.segment_mean(rows, plan, backend="triton")
        assert_agree([found], [ops.segment_mean(rows, plan, backend="reference")], FLOAT64_TOLERANCE)


def operator_cases():
    """Operators of every kind with arguments: without and with an optional tensor, with integers, of every stage."""
    plan = GRAPHS["three_edges"]().plan()
    constants = (plan.edges, plan.offsets)
    pos, vectors = random(3, 3), random(3, 2, 3)
    yield "edge_scalars_double_backward", (pos, None, random(3, 8), pos, None, *constants, "raw")
    yield "project_backward", (vectors, vectors, pos, *constants, 1, "edge", "soft")
    yield "aggregate", (vectors, pos, *constants, 1, "mean", "soft")
    yield "segment_reduce", (vectors, plan.edges[0], plan.edges[2], plan.offsets[0], "mean")


@pytest.mark.parametrize(("name", "arguments"), list(operator_cases()))
def test_opcheck(name: str, arguments: tuple):
    if not name.endswith("double_backward"):  # which has no derivative
        arguments = [
            value.clone().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else value
            for value in arguments
        ]
    torch.library.opcheck(getattr(torch.ops.clof_ext_triton, name).default, arguments)
