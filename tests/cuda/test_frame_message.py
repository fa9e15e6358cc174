"""The Triton edge block on a GPU: values and gradients, precision, repeats, CUDA graphs, memory."""

from dataclasses import replace

import pytest
import torch

from clof_ext import ops, prepare_graph
from tests.conformance import GRAPHS, Graph, points, random_edges
from tests.ops.test_frame_message import LARGE, OPTIONS, Block, assert_agree, block, relative_errors

pytest.importorskip("triton")

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none"),
]

# Of the largest value, for three products of TF32 numbers; then relative, of norms, for products of rounded numbers.
FLOAT32_TOLERANCE = 1e-4
ROUNDED_TOLERANCE = {"TF32": 5e-3, torch.bfloat16: 2e-2, torch.float16: 5e-3}
SIZES = [(1, 1, 0), (7, 3, 1), (33, 5, 70), (64, 64, 32), (96, 10, 0), (128, 128, 64)]


@pytest.fixture
def precision():
    """Sets torch's precision of float32 products for one test."""
    before = torch.get_float32_matmul_precision()
    yield torch.set_float32_matmul_precision
    torch.set_float32_matmul_precision(before)


def leaves_on_gpu(case: Block, dtype: torch.dtype) -> list[torch.Tensor]:
    return [leaf.detach().cuda().requires_grad_() for leaf in case.leaves(dtype)]


def results(case: Block, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Messages, vectors and gradients from the GPU, for the cotangents of ``Block.results``."""
    leaves = leaves_on_gpu(case, dtype)
    outputs = replace(case, edge_index=case.edge_index.cuda()).run(leaves, "triton")
    cotangents = [torch.linspace(-1, 1, out.numel()).sin().reshape(out.shape).to(out) for out in outputs]
    grads = torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True, materialize_grads=True)
    return [value.detach().cpu() for value in (*outputs, *grads)]


def check(case: Block, tolerance: float = FLOAT32_TOLERANCE) -> None:
    assert_agree(results(case), case.results(torch.float32, "reference"), tolerance)


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str, precision):
    precision("highest")
    check(block(**OPTIONS[name]))


@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), SIZES)
def test_sizes(hidden: int, node_dim: int, edge_dim: int, precision):
    precision("highest")
    check(block(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, depth=2))


@pytest.mark.parametrize("mode", ["soft", "raw", "orthonormal"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs_in_float64(graph: str, mode: str):
    case = block(GRAPHS[graph](), hidden=5, mode=mode)
    assert_agree(results(case, torch.float64), case.results(backend="reference"), 1e-11)


@pytest.mark.parametrize("name", LARGE)
def test_large_graphs(name: str, precision, monkeypatch):
    """Many programs; and many chunks, since a buffer of 100 kB stands for that of a larger GPU."""
    from clof_ext.triton import frame_message

    precision("highest")
    nodes, edges = LARGE[name]
    case = block(Graph(points(nodes), edges), hidden=9, edge_dim=2, weighted=True)
    check(case, 10 * FLOAT32_TOLERANCE)
    monkeypatch.setattr(frame_message, "CHUNK_BYTES", 10**5)
    check(case, 10 * FLOAT32_TOLERANCE)


@pytest.mark.parametrize("name", ["published ClofNet", "published EGNN", "gated"])
@pytest.mark.parametrize("kind", ROUNDED_TOLERANCE, ids=str)
def test_rounded_products(name: str, kind, precision):
    precision("high")
    dtype = torch.float32 if kind == "TF32" else kind
    case = block(hidden=64, node_dim=64, edge_dim=32, **OPTIONS[name])
    errors = relative_errors(results(case, dtype), case.results(dtype, "reference"))
    assert errors.max() < ROUNDED_TOLERANCE[kind]


def test_same_bits_again():
    case = block(Graph(points(500), random_edges(500, 9000)), hidden=64)
    torch.use_deterministic_algorithms(True)
    try:
        first, again = results(case), results(case)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one, two) for one, two in zip(first, again))


def test_opcheck():
    case = replace(block(hidden=8), edge_index=block().edge_index.cuda())
    h, pos, edge_attr, *weights = leaves_on_gpu(case, torch.float32)
    constants = (3, 2, False, "complete", "soft", "silu", False, 9.0, "sum", "mean", "highest")
    arguments = (h, pos, edge_attr, None, weights, case.plan.edges, case.plan.offsets, *constants)
    torch.library.opcheck(torch.ops.clof_ext_triton.frame_message.default, arguments)


def test_cuda_graphs():
    """Forward and backward are captured, and replayed on new numbers."""
    case = block(hidden=64, node_dim=64, edge_dim=32)
    plan = prepare_graph(case.edge_index.cuda(), case.pos.shape[0])

    def run(*leaves):
        h, pos, edge_attr, *weights = leaves
        return ops.frame_message(h, pos, plan, edge_attr, edge_mlp=weights[:6], coord_mlp=weights[6:], backend="triton")

    sample = tuple(leaves_on_gpu(case, torch.float32))
    graphed = torch.cuda.make_graphed_callables(run, sample)
    leaves = [(leaf.detach() * 1.1).requires_grad_() for leaf in sample]
    found = []
    for call in (graphed, run):
        message, vector = call(*leaves)
        grads = torch.autograd.grad(message.square().sum() + vector.square().sum(), leaves)
        # A replay writes over the results of the one before.
        found.append([value.detach().clone() for value in (message, vector, *grads)])
    assert all(torch.equal(one, two) for one, two in zip(*found))


def test_peak_memory_is_small():
    """Beside what the plain ops take: gradients of edge features are in both."""
    pair = torch.arange(400)
    one = torch.stack((pair // 20, pair % 20))[:, pair // 20 != pair % 20]
    edges = torch.cat([one + 20 * k for k in range(600)], 1)
    case = replace(block(Graph(points(12000), edges), hidden=64, node_dim=64, edge_dim=32), edge_index=edges.cuda())
    peaks = {}
    for backend in ("triton", "reference"):
        leaves = leaves_on_gpu(case, torch.float32)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        message, vector = case.run(leaves, backend)
        (message.sum() + vector.sum()).backward()
        peaks[backend] = torch.cuda.max_memory_allocated() - before
        del message, vector, leaves
    assert peaks["triton"] < peaks["reference"] / 5, peaks
