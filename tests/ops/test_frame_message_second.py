"""The kernels of second derivatives on CPUs against the definition, differentiated twice."""

from importlib import import_module

import pytest
import torch
from torch import Tensor

from clof_ext import _backends
from clof_ext._recompute import CHUNK_NUMBERS, double_backward
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.run import threads
from clof_ext.reference import frame_message as plain
from tests.conformance import GRAPHS, Graph, points, random_edges
from tests.ops.test_frame_message import (
    LARGE,
    OPTIONS,
    SIZES,
    UNEQUAL_WIDTHS,
    Block,
    assert_agree,
    block,
    instruction_set,  # noqa: F401
)

pytestmark = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")

OP = import_module("clof_ext.ops.frame_message")
TOLERANCE = {torch.float64: 1e-11, torch.float32: 5e-5}
# h, pos, edge_attr and edge_weight have directions.
N_INPUTS = 4


def arguments(case: Block, dtype: torch.dtype) -> tuple[list, list, list, list, tuple]:
    """Directions, cotangents, tensors before the weights, weights, and constants of the operator."""
    rest = [leaf.detach() for leaf in case.leaves(dtype)]
    inputs = [rest.pop(0), rest.pop(0), rest.pop(0) if case.edge_dim else None, rest.pop(0) if case.weighted else None]
    generator = torch.Generator().manual_seed(2)

    def random(like: Tensor | None) -> Tensor | None:
        return (
            None if like is None else torch.randn(like.shape, generator=generator, dtype=torch.float64).to(like.dtype)
        )

    h, pos = inputs[:2]
    cotangents = [random(h.new_empty(h.shape[0], case.hidden)), random(pos)]
    options = {
        **{"basis": "complete", "mode": "soft", "activation": "silu", "tanh": False, "clamp": float("inf")},
        **{"message_reduce": "sum", "vector_reduce": "mean"},
        **case.options,
    }
    depths = case.depth, case.coord_depth, case.attention
    constants = (case.plan.edges, case.plan.offsets, *depths, *options.values())
    return [random(value) for value in inputs], cotangents, inputs, rest, constants


def by_kernels(case: Block, dtype: torch.dtype, precision: str = "highest") -> list[Tensor]:
    directions, cotangents, inputs, weights, constants = arguments(case, dtype)
    *results, grad_weights = torch.ops.clof_ext.frame_message_double_backward(
        *directions, *cotangents, *inputs, weights, *constants, precision
    )
    kept = [value for value, given in zip(results, [*cotangents, *inputs]) if given is not None]
    return [*kept, *grad_weights]


def by_definition(case: Block, dtype: torch.dtype) -> list[Tensor]:
    """In float64, from the numbers as they are rounded to the dtype."""
    directions, cotangents, inputs, weights, constants = arguments(case, dtype)
    there = [value is not None for value in inputs]
    wide = [[x.double() for x in some if x is not None] for some in (directions, cotangents, inputs, weights)]
    directions, cotangents, inputs, weights = wide

    def run(tensors: list[Tensor]) -> tuple[Tensor, Tensor]:
        remade = iter(tensors)
        return plain(*[next(remade) if one else None for one in there], list(remade), *constants)

    tensors = [*inputs, *weights]
    results = double_backward(run, cotangents, tensors, [*directions, *[None] * len(weights)])
    return [torch.zeros_like(like) if value is None else value for value, like in zip(results, [*cotangents, *tensors])]


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", OPTIONS | UNEQUAL_WIDTHS)
def test_options(name: str, dtype: torch.dtype, instruction_set: str):  # noqa: F811
    case = block(**(OPTIONS | UNEQUAL_WIDTHS)[name])
    assert_agree(by_kernels(case, dtype), by_definition(case, dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", TOLERANCE, ids=str)
@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), SIZES)
def test_sizes(hidden: int, node_dim: int, edge_dim: int, dtype: torch.dtype, instruction_set: str):  # noqa: F811
    case = block(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, depth=2)
    assert_agree(by_kernels(case, dtype), by_definition(case, dtype), TOLERANCE[dtype])


@pytest.mark.parametrize("mode", ["soft", "raw", "orthonormal"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs(graph: str, mode: str):
    case = block(GRAPHS[graph](), mode=mode, weighted=True, attention=True)
    assert_agree(by_kernels(case, torch.float64), by_definition(case, torch.float64), 1e-10)


@pytest.mark.parametrize("name", LARGE)
def test_large_graphs_with_the_same_bits_for_every_number_of_threads(name: str):
    nodes, edges = LARGE[name]
    case = block(Graph(points(nodes), edges), hidden=9, edge_dim=2, weighted=True)
    found = []
    for count in (1, 2, 3, 2):
        with threads(count):
            found.append(by_kernels(case, torch.float64))
    assert all(torch.equal(one, two) for other in found[1:] for one, two in zip(found[0], other))
    assert_agree(found[0], by_definition(case, torch.float64), 1e-10)


def test_directions_that_are_not_there_are_zero():
    case = block(weighted=True, hidden=8)
    directions, cotangents, inputs, weights, constants = arguments(case, torch.float64)
    run = torch.ops.clof_ext.frame_message_double_backward
    zeros = [*directions[:2], *(torch.zeros_like(value) for value in inputs[2:])]
    *found, found_weights = run(*directions[:2], None, None, *cotangents, *inputs, weights, *constants)
    *expected, expected_weights = run(*zeros, *cotangents, *inputs, weights, *constants)
    assert_agree([*found, *found_weights], [*expected, *expected_weights], 1e-13)
    assert all(float(value.abs().max()) > 0 for value in found)


def test_half_precision_and_high_precision():
    case = block(hidden=16)
    exact = by_definition(case, torch.bfloat16)
    found = by_kernels(case, torch.bfloat16)
    assert [value.dtype for value in found[:4]] == [torch.bfloat16, torch.float32] * 2
    errors = torch.stack([(one.double() - two).norm() / two.norm() for one, two in zip(found, exact)])
    assert errors.max() < 5e-2
    assert_agree(by_kernels(case, torch.float32, "high"), by_definition(case, torch.float32), 1e-4)


def test_a_force_field_trains_by_the_kernels(monkeypatch):
    """The loss holds a gradient by positions; gradients of weights have no cotangents."""

    def refuse(*arguments) -> None:
        raise AssertionError("the reference was run")

    case, found = block(hidden=8), []
    for backend in ("reference", "cpu"):
        leaves = case.leaves()
        energy = sum(out.square().sum() for out in case.run(leaves, backend))
        (force,) = torch.autograd.grad(energy, leaves[1], create_graph=True)
        if backend == "cpu":
            monkeypatch.setattr(OP, "_by_reference", refuse)
        found.append(torch.autograd.grad(force.square().sum(), leaves))
    assert_agree(list(found[1]), list(found[0]), 1e-11)


def force_gradients(case: Block, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Of a loss on gradients of positions, edge features and a weight, which kernels leave to the definition."""
    leaves = case.leaves(dtype)
    energy = sum(out.double().square().sum() for out in case.run(leaves, "cpu"))
    firsts = torch.autograd.grad(energy, [*leaves[1:3], leaves[-1]], create_graph=True)
    loss = sum((value.double() * torch.linspace(0.5, 1.5, value.numel()).view_as(value)).sum() for value in firsts)
    return [*torch.autograd.grad(loss, leaves, materialize_grads=True)]


@pytest.mark.parametrize("name", OPTIONS)
def test_the_definition_takes_some_edges_at_a_time(name: str, monkeypatch):
    case = block(Graph(points(9), random_edges(9, 40)), **{"edge_dim": 2, **OPTIONS[name]})
    whole = force_gradients(case)
    # Seven edges: the last chunk has fewer.
    monkeypatch.setitem(CHUNK_NUMBERS, "cpu", 7 * case.hidden)
    calls, plain_message = [], OP.plain_frame_message
    monkeypatch.setattr(OP, "plain_frame_message", lambda *given: calls.append(given) or plain_message(*given))
    assert_agree(force_gradients(case), whole, 1e-12)
    assert len(calls) == 6


def test_the_definition_of_halves_is_summed_in_float32(monkeypatch):
    case = block(Graph(points(20), random_edges(20, 300)), hidden=8, edge_dim=2)
    whole = force_gradients(case, torch.bfloat16)
    monkeypatch.setitem(CHUNK_NUMBERS, "cpu", 9 * case.hidden)
    for one, two in zip(force_gradients(case, torch.bfloat16), whole, strict=True):
        assert one.dtype == two.dtype
        assert (one.double() - two.double()).norm() <= 2e-2 * two.double().norm()


def test_the_definition_of_many_edges_needs_the_memory_of_some(monkeypatch):
    edges = 60_000
    case = block(Graph(points(300), random_edges(300, edges)), hidden=32, edge_dim=1)
    peaks = []
    for some in (edges, edges // 20):
        monkeypatch.setitem(CHUNK_NUMBERS, "cpu", some * case.hidden)
        peaks.append(peak_bytes(lambda: force_gradients(case, torch.float32), torch.device("cpu")))
    assert peaks[1] < peaks[0] / 4


def test_no_array_of_edges_by_hidden():
    nodes, edges = 400, random_edges(400, 120_000)
    case = block(Graph(points(nodes), edges), hidden=64, edge_dim=1)
    assert peak_bytes(lambda: by_kernels(case, torch.float32), torch.device("cpu")) < 4 * 120_000 * 64


def test_the_operator_is_well_declared():
    directions, cotangents, inputs, weights, constants = arguments(block(hidden=3, depth=2), torch.float64)
    operator = torch.ops.clof_ext.frame_message_double_backward.default
    torch.library.opcheck(operator, (*directions, *cotangents, *inputs, weights, *constants))
    with pytest.raises(RuntimeError, match="grad_grad_pos must have the shape of pos"):
        operator(directions[0], directions[1][:3], *directions[2:], *cotangents, *inputs, weights, *constants)
