"""The edge block on a GPU, in CUDA C++ and in Triton: values and gradients, precision, repeats, CUDA graphs, memory."""

from dataclasses import replace

import pytest
import torch

from clof_ext import _backends, ops, prepare_graph
from clof_ext._recompute import CHUNK_NUMBERS
from tests.conformance import GRAPHS, Graph, points, random_edges
from tests.ops.test_frame_message import LARGE, OPTIONS, Block, assert_agree, block, relative_errors

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none"),
]

# Of the largest value, for three products of TF32 numbers; then relative, of norms, for products of rounded numbers.
FLOAT32_TOLERANCE = 1e-4
ROUNDED_TOLERANCE = {"TF32": 5e-3, torch.bfloat16: 2e-2, torch.float16: 5e-3}
SIZES = [(1, 1, 0), (7, 3, 1), (33, 5, 30), (64, 64, 32)]
WIDE = [(33, 5, 70), (96, 10, 0), (128, 128, 64)]


@pytest.fixture(params=["cuda", "triton"])
def backend(request):
    reason = _backends.unavailable(request.param, "frame_message")
    if reason:
        pytest.skip(f"backend {request.param}: {reason}")
    return request.param


def leaves_on_gpu(case: Block, dtype: torch.dtype) -> list[torch.Tensor]:
    return [leaf.detach().cuda().requires_grad_() for leaf in case.leaves(dtype)]


def results(case: Block, backend: str | None, dtype: torch.dtype = torch.float32) -> list[torch.Tensor]:
    """Messages, vectors and gradients from the GPU, for the cotangents of ``Block.results``."""
    leaves = leaves_on_gpu(case, dtype)
    outputs = replace(case, edge_index=case.edge_index.cuda()).run(leaves, backend)
    cotangents = [torch.linspace(-1, 1, out.numel()).sin().reshape(out.shape).to(out) for out in outputs]
    grads = torch.autograd.grad(outputs, leaves, cotangents, allow_unused=True, materialize_grads=True)
    return [value.detach().cpu() for value in (*outputs, *grads)]


def check(case: Block, backend: str | None, tolerance: float = FLOAT32_TOLERANCE) -> None:
    assert_agree(results(case, backend), case.results(torch.float32, "reference"), tolerance)


@pytest.mark.parametrize("name", OPTIONS)
def test_options(name: str, backend: str, precision):
    precision("highest")
    check(block(**OPTIONS[name]), backend)


@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), SIZES)
def test_sizes(hidden: int, node_dim: int, edge_dim: int, backend: str, precision):
    precision("highest")
    check(block(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, depth=2), backend)


@pytest.mark.parametrize(("hidden", "node_dim", "edge_dim"), WIDE)
def test_wide_layers(hidden: int, node_dim: int, edge_dim: int, precision):
    """What the CUDA kernels do not hold goes to Triton's; without gradients wide layers are theirs too."""
    precision("highest")
    case = block(hidden=hidden, node_dim=node_dim, edge_dim=edge_dim, depth=2)
    check(case, None)
    case = replace(case, edge_index=case.edge_index.cuda())
    with torch.no_grad():
        leaves = leaves_on_gpu(case, torch.float32)
        found, expected = (case.run(leaves, name) for name in ("cuda", "reference"))
    assert_agree([*found], [*expected], FLOAT32_TOLERANCE)


def test_what_cuda_does_not_hold_is_said():
    case = block(hidden=128, node_dim=4)
    with pytest.raises(RuntimeError, match="'cuda' cannot run frame_message .* at most 64 hidden features; got 128"):
        results(case, "cuda")


@pytest.mark.parametrize("mode", ["soft", "raw", "orthonormal"])
@pytest.mark.parametrize("graph", GRAPHS)
def test_graphs_in_float64(graph: str, mode: str):
    case = block(GRAPHS[graph](), hidden=5, mode=mode)
    assert_agree(results(case, None, torch.float64), case.results(backend="reference"), 1e-11)


@pytest.mark.parametrize("name", LARGE)
def test_large_graphs(name: str, backend: str, precision, monkeypatch):
    """Many programs; and many chunks, since a buffer of 100 kB stands for that of a larger GPU."""
    precision("highest")
    nodes, edges = LARGE[name]
    case = block(Graph(points(nodes), edges), hidden=9, edge_dim=2, weighted=True)
    check(case, backend, 10 * FLOAT32_TOLERANCE)
    if backend != "triton":
        return
    from clof_ext.triton import frame_message

    monkeypatch.setattr(frame_message, "CHUNK_BYTES", 10**5)
    check(case, backend, 10 * FLOAT32_TOLERANCE)


def test_many_chunks(precision):
    """More edges than the CUDA kernels take at a time."""
    precision("highest")
    case = block(Graph(points(20_000), random_edges(20_000, 800_000)), hidden=16, edge_dim=2, node_dim=4)
    check(case, "cuda", 10 * FLOAT32_TOLERANCE)


@pytest.mark.parametrize("name", ["published ClofNet", "published EGNN", "gated"])
@pytest.mark.parametrize("kind", ROUNDED_TOLERANCE, ids=str)
def test_rounded_products(name: str, kind, backend: str, precision):
    precision("high")
    dtype = torch.float32 if kind == "TF32" else kind
    case = block(hidden=64, node_dim=64, edge_dim=32, **OPTIONS[name])
    errors = relative_errors(results(case, backend, dtype), case.results(dtype, "reference"))
    assert errors.max() < ROUNDED_TOLERANCE[kind]


@pytest.mark.parametrize("kind", ROUNDED_TOLERANCE, ids=str)
def test_rounded_products_of_wide_layers(kind, precision, monkeypatch):
    """Triton's backward pass of one kernel for each Linear, in several chunks."""
    from clof_ext.triton import frame_message

    precision("high")
    monkeypatch.setattr(frame_message, "SPLIT_CHUNK_BYTES", 2**21)
    dtype = torch.float32 if kind == "TF32" else kind
    case = block(Graph(points(300), random_edges(300, 4000)), hidden=128, node_dim=64, edge_dim=64)
    errors = relative_errors(results(case, None, dtype), case.results(dtype, "reference"))
    assert errors.max() < ROUNDED_TOLERANCE[kind]


def test_second_derivatives_of_some_edges_at_a_time(precision, monkeypatch):
    """A loss on forces, by the definition: the same numbers for chunks as for all edges at once."""
    precision("highest")
    case = block(Graph(points(300), random_edges(300, 4000)), hidden=32, edge_dim=2)
    case = replace(case, edge_index=case.edge_index.cuda())
    found = []
    for rows in (10_000, 700):
        monkeypatch.setitem(CHUNK_NUMBERS, "cuda", rows * case.hidden)
        leaves = leaves_on_gpu(case, torch.float32)
        energy = sum(out.square().sum() for out in case.run(leaves, None))
        (force,) = torch.autograd.grad(energy, leaves[1], create_graph=True)
        found.append([value.cpu() for value in torch.autograd.grad(force.square().sum(), leaves)])
    assert_agree(found[1], found[0], FLOAT32_TOLERANCE)


@pytest.mark.parametrize("hidden", [64, 128])
def test_same_bits_again(backend: str, hidden: int, precision):
    precision("high")
    if backend == "cuda" and hidden > 64:
        pytest.skip("its backward pass holds at most 64 hidden features")
    case = block(Graph(points(500), random_edges(500, 9000)), hidden=hidden)
    torch.use_deterministic_algorithms(True)
    try:
        first, again = results(case, backend), results(case, backend)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(torch.equal(one, two) for one, two in zip(first, again))


def test_rows_at_any_address(backend: str, precision):
    """Features that are whole vectors, in tensors that do not begin at one."""
    precision("highest")
    case = block(hidden=64, node_dim=64, edge_dim=32)
    leaves = leaves_on_gpu(case, torch.float32)
    case = replace(case, edge_index=case.edge_index.cuda())
    expected = case.run(leaves, backend)
    for k in (0, 2):
        flat = torch.zeros(leaves[k].numel() + 1, device="cuda")[1:]
        leaves[k] = flat.view(leaves[k].shape).copy_(leaves[k].detach()).requires_grad_()
    found = case.run(leaves, backend)
    assert all(torch.equal(one, two) for one, two in zip(found, expected))
    torch.autograd.grad(found[0].sum() + found[1].sum(), leaves, allow_unused=True)


def test_opcheck(backend: str):
    case = replace(block(hidden=8), edge_index=block().edge_index.cuda())
    h, pos, edge_attr, *weights = leaves_on_gpu(case, torch.float32)
    constants = (3, 2, False, "complete", "soft", "silu", False, 9.0, "sum", "mean", "highest")
    arguments = (h, pos, edge_attr, None, weights, case.plan.edges, case.plan.offsets, *constants)
    library = torch.ops.clof_ext if backend == "cuda" else torch.ops.clof_ext_triton
    torch.library.opcheck(library.frame_message.default, arguments)


def test_cuda_graphs(backend: str):
    """Forward and backward are captured, and replayed on new numbers."""
    case = block(hidden=64, node_dim=64, edge_dim=32)
    plan = prepare_graph(case.edge_index.cuda(), case.pos.shape[0])

    def run(*leaves):
        h, pos, edge_attr, *weights = leaves
        return ops.frame_message(h, pos, plan, edge_attr, edge_mlp=weights[:6], coord_mlp=weights[6:], backend=backend)

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


def test_peak_memory_is_small(backend: str):
    """Beside what the plain ops take: gradients of edge features are in both."""
    pair = torch.arange(400)
    one = torch.stack((pair // 20, pair % 20))[:, pair // 20 != pair % 20]
    edges = torch.cat([one + 20 * k for k in range(600)], 1)
    case = replace(block(Graph(points(12000), edges), hidden=64, node_dim=64, edge_dim=32), edge_index=edges.cuda())
    peaks = {}
    for name in (backend, "reference"):
        leaves = leaves_on_gpu(case, torch.float32)
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        message, vector = case.run(leaves, name)
        (message.sum() + vector.sum()).backward()
        peaks[name] = torch.cuda.max_memory_allocated() - before
        del message, vector, leaves
    assert peaks[backend] < peaks["reference"] / 5, peaks


@pytest.mark.parametrize("create_graph", [False, True])
def test_a_backward_pass_under_autocast_has_the_dtypes_of_the_forward_pass(backend: str, create_graph: bool):
    """Around a layer that was switched out of autocast, as much of a training step is written."""
    case = block(hidden=64, node_dim=64)
    leaves = leaves_on_gpu(case, torch.float32)
    outputs = replace(case, edge_index=case.edge_index.cuda()).run(leaves, backend)
    loss = sum(out.square().sum() for out in outputs)
    expected = torch.autograd.grad(loss, leaves, retain_graph=True, create_graph=create_graph)
    with torch.autocast("cuda", torch.bfloat16):
        found = torch.autograd.grad(loss, leaves, create_graph=create_graph)
    assert all(map(torch.equal, found, expected))
