"""The CUDA edge block without a GPU: its kernels on an emulated one, against the definition, values and gradients."""

import pytest
import torch
from torch import Tensor

from tests.compiler import COMPILER
from tests.conformance import GRAPHS, Graph, points, random_edges
from tests.cuda.emulated import Call
from tests.ops.test_frame_message import LARGE, OPTIONS, Block, block

pytestmark = [
    pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler"),
    # One process compiles the kernels.
    pytest.mark.xdist_group("emulated_frame_message"),
]

# Largest relative error of norms by precision and dtype: three products of TF32 numbers, one, and 16-bit numbers. At
# the kinks of ReLU a rounded number has another slope.
TOLERANCE = {
    ("highest", torch.float32): 2e-5,
    ("high", torch.float32): 3e-3,
    ("highest", torch.bfloat16): 2e-2,
    ("highest", torch.float16): 3e-3,
}
KINKED = 5e-2
# Hidden, node and edge features: below, at and above the widths of groups and blocks.
SIZES = [(1, 1, 0), (7, 3, 1), (33, 5, 30), (64, 64, 32), (60, 0, 17)]
WIDE = [(96, 10, 0), (128, 128, 64), (65, 3, 200)]


def call(case: Block, dtype: torch.dtype, precision: str) -> Call:
    h, pos, *rest = (leaf.detach() for leaf in case.leaves(dtype))
    edge_attr = rest.pop(0) if case.edge_dim else None
    edge_weight = rest.pop(0) if case.weighted else None
    options = {"basis": "complete", "mode": "soft", "activation": "silu", "tanh": False, "clamp": float("inf")}
    options |= {"message_reduce": "sum", "vector_reduce": "mean"} | case.options
    plan = case.plan
    return Call(
        *(h, pos, edge_attr, edge_weight),
        weights=rest,
        edges=plan.edges,
        offsets=plan.offsets,
        options=(case.depth, case.coord_depth, case.attention, *options.values(), precision),
    )


def cotangents(outputs: list[Tensor]) -> list[Tensor]:
    return [torch.linspace(-1, 1, out.numel()).sin().reshape(out.shape).to(out.dtype) for out in outputs]


def expected(case: Block, dtype: torch.dtype, given: list[Tensor] | None = None) -> list[Tensor]:
    """By the definition in float64, of rounded inputs: outputs and, for cotangents, gradients."""
    leaves = [leaf.detach().double().requires_grad_() for leaf in case.leaves(dtype)]
    outputs = case.run(leaves, "reference")
    if given is None:
        return [out.detach() for out in outputs]
    wide = [value.double() for value in given]
    return list(torch.autograd.grad(outputs, leaves, wide, allow_unused=True, materialize_grads=True))


def assert_close(found: list[Tensor], truth: list[Tensor], tolerance: float) -> None:
    for number, (value, exact) in enumerate(zip(found, truth, strict=True)):
        error, size = float((value.double() - exact).norm()), float(exact.norm())
        assert error <= tolerance * size, f"array {number} is off by {error:.1e} of {size:.1e}"


def check(case: Block, kind: tuple = ("highest", torch.float32), tolerance: float | None = None, **launch) -> None:
    """Forward and backward pass."""
    precision, dtype = kind
    kinked = "relu" in case.options.get("activation", "") and kind != ("highest", torch.float32)
    tolerance = tolerance or (KINKED if kinked else TOLERANCE[kind])
    running = call(case, dtype, precision)
    forward = {key: value for key, value in launch.items() if key != "row_bytes"}
    found = list(running.forward(**forward))
    assert_close(found, expected(case, dtype), tolerance)
    given = cotangents(found)
    grads = [grad for grad in running.backward(*given, **launch) if grad is not None]
    assert_close(grads, expected(case, dtype, given), tolerance)


@pytest.mark.parametrize("kind", TOLERANCE, ids=str)
@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str, kind: tuple):
    check(block(**OPTIONS[name]), kind)


@pytest.mark.parametrize("kind", TOLERANCE, ids=str)
@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), SIZES)
def test_sizes(hidden: int, node_dim: int, edge_dim: int, kind: tuple):
    check(block(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, depth=2), kind)


@pytest.mark.parametrize("kind", TOLERANCE, ids=str)
@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), WIDE)
def test_forward_of_wide_layers(hidden: int, node_dim: int, edge_dim: int, kind: tuple):
    case = block(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, attention=True)
    found = call(case, kind[1], kind[0]).forward()
    assert_close(list(found), expected(case, kind[1]), TOLERANCE[kind])


@pytest.mark.parametrize("mode", ["soft", "raw", "orthonormal"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs(graph: str, mode: str):
    """With the lanes of a warp in the other order: a barrier that is missing shows."""
    check(block(GRAPHS[graph](), mode=mode), descending=True)


@pytest.mark.parametrize(("blocks", "row_bytes"), [(1, 2**26), (5, 2**19), (2, 2**10)])
@pytest.mark.parametrize("name", [name for name in LARGE if name != "many edges"])
def test_large_graphs(name: str, blocks: int, row_bytes: int):
    """Receivers that several warps share, and several chunks of edges."""
    nodes, edges = LARGE[name]
    case = block(Graph(points(nodes), edges), hidden=9, edge_dim=2, weighted=True)
    check(case, blocks=blocks, row_bytes=row_bytes)


def test_same_bits_in_any_order():
    """Threads that run in the other order change no bit."""
    case = block(Graph(points(60), random_edges(60, 900)), hidden=20)
    results = []
    for descending in (False, True):
        running = call(case, torch.float32, "high")
        outputs = [value.clone() for value in running.forward(descending=descending)]
        grads = running.backward(*cotangents(outputs), descending=descending)
        results.append([*outputs, *(grad for grad in grads if grad is not None)])
    assert all(torch.equal(one, two) for one, two in zip(*results))
