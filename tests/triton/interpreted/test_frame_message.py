"""frame_message of the Triton backend in the interpreter: values and gradients against the reference.

A tile takes the interpreter a second, so that graphs are small and options are combined instead of multiplied out; on
a GPU the tests in tests/cuda run the whole table.
"""

import pytest
import torch

from clof_ext.bench.run import matmul_precision
from clof_ext.triton import frame_message, frame_message_config
from tests.conformance import GRAPHS, Graph, points, random_edges
from tests.ops.test_frame_message import Block, assert_agree, block, relative_errors, second_derivatives, tiny

EXACT = 1e-11
# Of the largest value; without a GPU every precision of float32 multiplies exactly.
FLOAT32_TOLERANCE = 2e-5
# Relative, of norms. The interpreter cuts bfloat16 off where a GPU rounds it.
HALF_TOLERANCE = {torch.bfloat16: 3e-2, torch.float16: 2e-3}

# Every value of every option, and every kind of neighbour in the kernels, at least once.
OPTIONS = {
    "published ClofNet": {},
    "published EGNN": {"basis": "radial", "mode": "raw", "depth": 2},
    "all that multiplies": {
        **{"attention": True, "weighted": True, "tanh": True, "last_bias": True, "mode": "orthonormal"},
        **{"message_reduce": "mean", "activation": "gelu"},
    },
    "as shallow as can be": {"depth": 1, "coord_depth": 1, "activation": "softplus", "vector_reduce": "sum"},
    "gated and shallow": {
        **{"attention": True, "depth": 1, "coord_depth": 1, "basis": "radial", "mode": "orthonormal"},
        **{"last_bias": True, "activation": "leaky_relu"},
    },
    "clamped": {"clamp": 0.05, "weighted": True, "activation": "relu", "depth": 2, "edge_dim": 0},
    "gated, no Linear before the head": {
        **{"attention": True, "coord_depth": 1, "activation": "tanh", "tanh": True, "mode": "raw", "clamp": 0.3},
    },
}
# Hidden features, node features, edge features: below and at a block, one more than it, two blocks, no features at all.
SIZES = [(1, 1, 0), (16, 2, 16), (17, 0, 65), (70, 3, 1)]
NAMED = ["no_edges", "no_nodes", "one_edge", "duplicate_edge", "non_contiguous", "int32"]
# The others trace the operator in many ways, each of which runs the kernels; on a GPU all of them are made.
QUICK_CHECKS = ("test_schema", "test_autograd_registration", "test_faketensor")
SINGULAR = ["self_loop", "coincident", "collinear_with_centroid", "at_centroid"]


def small(**settings) -> Block:
    """Two tiles, the second one partial; the last node has no edges."""
    return block(Graph(points(9), random_edges(9, 40)), **{"hidden": 5, "node_dim": 3, "edge_dim": 2, **settings})


def check(case: Block, dtype: torch.dtype = torch.float64, tolerance: float = EXACT) -> None:
    assert_agree(case.results(dtype, "triton"), case.results(dtype, "reference"), tolerance)


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str):
    check(small(**OPTIONS[name]))


@pytest.fixture
def split(monkeypatch):
    """Every Linear has a kernel of its own in the backward pass, as on a GPU wide features have."""
    tile = frame_message_config.OTHER
    found = {"forward": tile, "backward": frame_message_config.SplitTiles(*[tile] * 4)}
    monkeypatch.setattr(frame_message, "ways", lambda direction, *_: (found[direction],))


@pytest.mark.parametrize("name", OPTIONS)
def test_options_with_a_kernel_for_each_linear(name: str, split):
    check(small(**OPTIONS[name]))


@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), SIZES)
def test_sizes_with_a_kernel_for_each_linear(hidden: int, node_dim: int, edge_dim: int, split):
    check(small(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, depth=2))


@pytest.mark.parametrize("dtype", HALF_TOLERANCE, ids=str)
def test_half_precision_features_with_a_kernel_for_each_linear(dtype: torch.dtype, split):
    case = small(**OPTIONS["all that multiplies"])
    found, exact = case.results(dtype, "triton"), case.results(dtype, "reference")
    assert relative_errors(found, exact).max() < HALF_TOLERANCE[dtype]


def test_chunks_with_a_kernel_for_each_linear(monkeypatch, split):
    """Sums of weights' gradients that go on from chunk to chunk, and programs with several tiles."""
    case = block(Graph(points(18), random_edges(18, 150)), hidden=4, node_dim=2, edge_dim=1, depth=2, weighted=True)
    monkeypatch.setattr(frame_message, "SPLIT_CHUNK_BYTES", 64 * 3 * 4 * 8)
    check(case)


@pytest.mark.parametrize("hidden", [64, 128])
@pytest.mark.parametrize("precision", ["half", "tf32"])
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_every_way_of_a_pass(monkeypatch, direction: str, precision: str, hidden: int):
    """All that a GPU may choose from, on few features and the tiles that it would have."""
    monkeypatch.setattr(frame_message_config, "keeps_weights", lambda device: True)
    case, seen = small(depth=2), []
    for way in frame_message_config.ways(direction, precision, hidden, torch.device("cuda")):
        others = {"forward": frame_message_config.OTHER, "backward": frame_message_config.OTHER, direction: way}
        monkeypatch.setattr(frame_message, "ways", lambda direction, *_, others=others: (others[direction],))
        check(case)
        assert way not in seen
        seen.append(way)
    assert len(seen) >= 2


@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), SIZES)
def test_sizes(hidden: int, node_dim: int, edge_dim: int):
    check(small(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, depth=2))


@pytest.mark.parametrize("graph", NAMED)
def test_graphs(graph: str):
    check(block(GRAPHS[graph](), hidden=3, node_dim=2, edge_dim=1, depth=1, coord_depth=1))


@pytest.mark.parametrize("mode", ["soft", "orthonormal"])
@pytest.mark.parametrize("graph", SINGULAR)
def test_singular_edges(graph: str, mode: str):
    check(tiny(graph, mode))


def test_many_programs_tiles_and_chunks(monkeypatch):
    """More receivers than a program owns, programs with several tiles, and node sums that go on from chunk to chunk."""
    case = block(Graph(points(18), random_edges(18, 100)), hidden=4, node_dim=2, edge_dim=1, depth=1, weighted=True)
    whole = case.results(torch.float64, "triton")
    assert_agree(whole, case.results(torch.float64, "reference"), EXACT)
    monkeypatch.setattr(frame_message, "CHUNK_BYTES", 32 * 4 * 8)
    monkeypatch.setattr(frame_message, "multiprocessors", lambda device: 1)
    check(case)


@pytest.mark.parametrize("name", ["published ClofNet", "all that multiplies"])
@pytest.mark.parametrize("precision", ["highest", "high"])
def test_float32(name: str, precision: str):
    with matmul_precision(precision):
        check(small(**OPTIONS[name]), torch.float32, FLOAT32_TOLERANCE)


@pytest.mark.parametrize("dtype", HALF_TOLERANCE, ids=str)
def test_half_precision_features(dtype: torch.dtype):
    case = small(**OPTIONS["published ClofNet"], weighted=True)
    found, exact = case.results(dtype, "triton"), case.results(dtype, "reference")
    assert [value.dtype for value in found[:4]] == [dtype, torch.float32, dtype, torch.float32]
    assert relative_errors(found, exact).max() < HALF_TOLERANCE[dtype]


def test_large_arguments_of_activations():
    """Where the exponential of the argument, or of its negative, is not finite in float32."""
    for activation in ("silu", "softplus", "tanh", "gelu", "leaky_relu"):
        case = small(depth=1, coord_depth=1, activation=activation)
        leaves = [leaf.detach() * (1000 if k == 0 else 1) for k, leaf in enumerate(case.leaves(torch.float32))]
        found, expected = (case.run(leaves, backend) for backend in ("triton", "reference"))
        assert_agree(list(found), list(expected), FLOAT32_TOLERANCE)


def test_second_derivatives():
    """They come from the reference, whatever backend ran before."""
    case = tiny("unsorted_with_isolated_node", "soft")
    assert_agree(second_derivatives(case, "triton", 2), second_derivatives(case, "reference", 2), 1e-9)


def operator_arguments() -> tuple:
    case = block(GRAPHS["one_edge"](), hidden=2, node_dim=1, edge_dim=1, depth=1, coord_depth=1, weighted=True)
    h, pos, edge_attr, edge_weight, *weights = case.leaves()
    constants = (1, 1, False, "radial", "raw", "relu", False, 9.0, "sum", "sum")
    weights[2:] = [weights[2][:1].detach().requires_grad_()]
    return h, pos, edge_attr, edge_weight, weights, case.plan.edges, case.plan.offsets, *constants


def test_opcheck():
    arguments = operator_arguments()
    cotangents = [torch.ones(3, width, dtype=torch.float64, requires_grad=True) for width in (2, 3)]
    run = torch.ops.clof_ext_triton
    torch.library.opcheck(run.frame_message.default, arguments, test_utils=QUICK_CHECKS)
    torch.library.opcheck(run.frame_message_backward.default, (*cotangents, *arguments), test_utils=QUICK_CHECKS)


def test_wrong_arguments_of_the_operator_are_refused_in_words():
    h, pos, edge_attr, edge_weight, weights, *rest = operator_arguments()
    run = torch.ops.clof_ext_triton.frame_message
    with pytest.raises(ValueError, match=r"weights must hold 4 tensors, or one less; got 2 tensors"):
        run(h, pos, edge_attr, edge_weight, weights[:2], *rest)
    with pytest.raises(ValueError, match=r"weights\[2\] must have shape \(1, 2\); got \(2, 3\)"):
        run(h, pos, edge_attr, edge_weight, [*weights[:2], torch.zeros(2, 3, dtype=h.dtype)], *rest)
    with pytest.raises(ValueError, match=r"edge_attr must have shape \(1, D\); got \(2, 1\)"):
        run(h, pos, edge_attr.expand(2, 1), edge_weight, weights, *rest)


def test_a_backward_pass_under_autocast_has_the_dtypes_of_the_forward_pass():
    case = small()
    leaves = case.leaves(torch.float32)
    loss = sum(out.square().sum() for out in case.run(leaves, "triton"))
    expected = torch.autograd.grad(loss, leaves, retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        found = torch.autograd.grad(loss, leaves)
    assert all(map(torch.equal, found, expected))
