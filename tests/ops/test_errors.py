"""Bad input gets a sentence that names the argument, what was expected and what came; it never crashes."""

import pytest
import torch

from clof_ext import _backends, backend, ops, prepare_graph

POS = torch.randn(4, 3)
EDGES = torch.tensor([[0, 1, 2], [1, 2, 0]])
TENSOR = torch.randn(4, 2, 3)
SCALARS = torch.randn(3, 2, 3)
FEATURES, WEIGHT = torch.randn(4, 2), torch.randn(8, 5)


def frame_message(**change):
    call = {"h": FEATURES, "pos": POS, "edge_index": EDGES, "edge_mlp": [WEIGHT, WEIGHT[:, 0]]}
    return ops.frame_message(**{**call, "coord_mlp": [torch.randn(3, 8)], **change})


def attention(heads):
    nodes = torch.randn(4, 6)
    return ops.edge_attention(nodes, nodes, nodes, torch.randn(3, 2), torch.randn(6, 2), EDGES, heads=heads)


CASES = [
    (lambda: ops.edge_frame([[0.0]], EDGES), TypeError, "pos must be a torch.Tensor; got list"),
    (lambda: ops.edge_frame(POS.long(), EDGES), TypeError, "pos must be float32 or float64; got int64"),
    (lambda: ops.edge_frame(POS.bfloat16(), EDGES), TypeError, "pos must be float32 or float64; got bfloat16"),
    (lambda: ops.edge_frame(POS[:, :2], EDGES), ValueError, r"pos must have shape \(N, 3\); got \(4, 2\)"),
    (lambda: ops.edge_frame(POS, EDGES, mode="hard"), ValueError, "mode must be one of 'soft', 'raw', 'orthonormal'; got 'hard'"),
    (lambda: ops.edge_frame(POS, EDGES.float()), TypeError, "edge_index must be int64 or int32; got float32"),
    (lambda: ops.edge_frame(POS, EDGES[0]), ValueError, r"edge_index must have shape \(2, E\); got \(3,\)"),
    (lambda: ops.edge_frame(POS, EDGES + 2), ValueError, "edge_index must hold numbers from 0 to 3; got 4"),
    (lambda: ops.edge_frame(POS, EDGES - 1), ValueError, "edge_index must hold numbers from 0 to 3; got -1"),
    (lambda: ops.edge_frame(POS, EDGES.int() - 1), ValueError, "edge_index must hold numbers from 0 to 3; got -1"),
    (lambda: ops.edge_frame(POS[:0], EDGES), ValueError, "edge_index must hold numbers from 0 to -1; got 0"),
    (lambda: ops.edge_frame(POS, prepare_graph(EDGES, 5)), ValueError, "edge_index is a plan for 5 nodes; got 4 positions"),
    (lambda: ops.edge_frame(POS.to("meta"), EDGES), ValueError, "edge_index must be on the device of pos, meta; got cpu"),
    (lambda: ops.edge_scalars(POS, EDGES, POS[:2]), ValueError, r"vel must have shape \(4, 3\); got \(2, 3\)"),
    (lambda: ops.edge_scalars(POS, EDGES, POS.double()), TypeError, "vel must be float32 like pos; got float64"),
    (lambda: ops.edge_scalars(POS, EDGES, POS.to("meta")), ValueError, "vel must be on the device of pos, cpu; got meta"),
    (lambda: ops.project(TENSOR, POS, EDGES, order=4), ValueError, "order must be one of 0, 1, 2, 3; got 4"),
    (lambda: ops.project(TENSOR, POS, EDGES, order=2), ValueError, r"tensor must have shape \(4, K, 3, 3\); got \(4, 2, 3\)"),
    (lambda: ops.project(TENSOR, POS, EDGES, source="edge"), ValueError, r"tensor must have shape \(3, K, 3\); got \(4, 2, 3\)"),
    (lambda: ops.project(TENSOR, POS, EDGES, source="node"), ValueError, "source must be one of 'receiver', 'sender', 'edge'; got 'node'"),
    (lambda: ops.project(TENSOR.double(), POS, EDGES), TypeError, "tensor must be float32 or bfloat16 or float16 where pos is float32; got float64"),
    (lambda: ops.project(TENSOR.bfloat16(), POS.double(), EDGES), TypeError, "tensor must be float64 where pos is float64; got bfloat16"),
    (lambda: ops.aggregate(SCALARS, POS, EDGES, 5), ValueError, "num_nodes must be the number of positions, 4; got 5"),
    (lambda: ops.aggregate(SCALARS, POS, EDGES, reduce="max"), ValueError, "reduce must be one of 'sum', 'mean'; got 'max'"),
    (lambda: ops.aggregate(SCALARS[:2], POS, EDGES), ValueError, r"scalars must have shape \(3, K, 3\); got \(2, 2, 3\)"),
    (lambda: ops.aggregate(SCALARS, POS, EDGES, order=2), ValueError, r"scalars must have shape \(3, K, 9\); got \(3, 2, 3\)"),
    (lambda: ops.segment_sum(SCALARS, EDGES[0]), ValueError, "num_segments must be given where index is a tensor; got None"),
    (lambda: ops.segment_sum(SCALARS, EDGES[0], 2), ValueError, "index must hold numbers from 0 to 1; got 2"),
    (lambda: ops.segment_sum(SCALARS, EDGES[0, :2], 3), ValueError, "values must have a row for each entry of index, 2; got 3"),
    (lambda: ops.segment_sum(SCALARS.long(), EDGES[0], 3), TypeError, "values must be float32 or float64 or bfloat16 or float16; got int64"),
    (lambda: ops.segment_sum(torch.tensor(1.0), EDGES[0], 3), ValueError, "values must have at least one axis, its rows; got a scalar"),
    (lambda: ops.segment_sum(SCALARS, EDGES[0].double(), 3), TypeError, "index must be int64 or int32; got float64"),
    (lambda: ops.segment_sum(SCALARS, prepare_graph(EDGES, 4), 3), ValueError, "num_segments must be the plan's number of nodes, 4; got 3"),
    (lambda: ops.edge_frame(POS, EDGES, backend="fast"), ValueError, "backend must be one of 'reference', 'cpu', 'cuda', 'triton'; got 'fast'"),
    (lambda: ops.edge_frame(POS.to_sparse(), EDGES), TypeError, "pos must be a dense torch.Tensor; got one of layout sparse_coo"),
    (lambda: ops.edge_frame(POS, EDGES.to_sparse()), TypeError, "edge_index must be a dense torch.Tensor; got one of layout"),
    (lambda: ops.project(TENSOR, POS, EDGES, order=1.0), ValueError, "order must be one of 0, 1, 2, 3; got 1.0"),
    (lambda: prepare_graph(EDGES, 4.5), ValueError, "num_nodes must be a whole number from 0 to 2147483646; got 4.5"),
    (lambda: prepare_graph(EDGES, None), ValueError, "num_nodes must be a whole number from 0 to 2147483646; got None"),
    (lambda: prepare_graph(EDGES, -1), ValueError, "num_nodes must be a whole number from 0 to 2147483646; got -1"),
    (lambda: ops.segment_sum(SCALARS, EDGES[0], -2), ValueError, "num_segments must be a whole number from 0 to .* got -2"),
    (lambda: frame_message(clamp=None), ValueError, "clamp must be a number above 0; got None"),
    (lambda: frame_message(clamp=-1.0), ValueError, "clamp must be a number above 0; got -1.0"),
    (lambda: frame_message(tanh="yes"), ValueError, "tanh must be one of True, False; got 'yes'"),
    (lambda: frame_message(edge_mlp=None), TypeError, "edge_mlp must be a sequence of tensors; got NoneType"),
    (lambda: frame_message(h=FEATURES.to_sparse()), TypeError, "h must be a dense torch.Tensor; got one of layout sparse_coo"),
    (lambda: frame_message(edge_mlp=[WEIGHT.to_sparse(), WEIGHT[:, 0]]), TypeError, r"edge_mlp\[0\] weight must be a dense"),
    (lambda: ops.mlp([FEATURES], None), TypeError, "weights must be a sequence of tensors; got NoneType"),
    (lambda: ops.mlp([FEATURES.to(torch.float8_e4m3fn)], [WEIGHT, WEIGHT[0]]), TypeError, r"inputs\[0\] must be float32 or .* got float8_e4m3fn"),
    (lambda: attention(heads=None), ValueError, "heads must be a whole number from 1; got None"),
    (lambda: attention(heads=2.0), ValueError, "heads must be a whole number from 1; got 2.0"),
    (lambda: attention(heads=4), ValueError, "heads must divide the 6 columns of query; got 4"),
    (lambda: backend("fast").__enter__(), ValueError, "backend must be one of"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "error", "sentence"), CASES, ids=range(len(CASES)))
def test_sentences(call, error, sentence):
    with pytest.raises(error, match=sentence):
        call()


def test_sentences_without_the_binary(monkeypatch):
    """Edges are checked the same way where torch's own ops sort them."""
    monkeypatch.setattr(_backends, "plan_devices", set())
    with pytest.raises(ValueError, match="edge_index must hold numbers from 0 to 3; got 4"):
        prepare_graph(EDGES + 2, 4)


needs_binary = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")


def compiled_cases():
    """What a caller of torch.ops can get wrong past the public functions' checks."""
    plan = prepare_graph(EDGES, 4)
    edges, offsets = plan.edges, plan.offsets
    wrong_dtype, frames = edges.long(), torch.randn(3, 3, 3)
    return [
        ("edge_frame", (POS[:, :2], edges, offsets, "soft"), r"pos must have shape \(any, 3\); got \(4, 2\)"),
        ("edge_frame", (POS.half(), edges, offsets, "soft"), "pos must be float32 or float64; got float16"),
        ("edge_frame", (POS[:3], edges, offsets, "soft"), r"offsets must have shape \(3, 4\); got \(3, 5\)"),
        ("edge_frame", (POS, edges[:, :2], offsets, "soft"), "offsets must be those of the same plan as the edges and end with 2; got 3"),
        ("aggregate", (SCALARS[:2], POS, edges[:, :2], offsets, 1, "sum", "soft"), "of the same plan as the edges and end with 2; got 3"),
        ("segment_reduce", (SCALARS[:2], edges[0, :2], edges[2, :2], offsets[0], "sum"), "and end with 2; got 3"),
        ("edge_frame", (POS, edges[:2], offsets, "soft"), r"edges must have shape \(4, any\); got \(2, 3\)"),
        ("edge_frame", (POS, wrong_dtype, offsets, "soft"), "edges must be int32; got int64"),
        ("edge_frame", (POS, edges, offsets, "hard"), "mode must be one of 'soft', 'raw', 'orthonormal'; got 'hard'"),
        ("edge_frame_backward", (frames[:2], POS, edges, offsets, "soft"), "grad_frame must have shape"),
        ("edge_frame_backward", (frames.double(), POS, edges, offsets, "soft"), "grad_frame must be float32; got float64"),
        ("edge_scalars", (POS, POS[:2], edges, offsets, "soft"), r"vel must have the shape of pos, \(4, 3\); got \(2, 3\)"),
        ("project", (TENSOR, POS, edges, offsets, 5, "sender", "soft"), "order must be one of 0, 1, 2, 3; got 5"),
        ("project", (TENSOR, POS, edges, offsets, 2, "sender", "soft"), r"and then 2 axes of size 3; got \(4, 2, 3\)"),
        ("project", (TENSOR, POS, edges, offsets, 1, "node", "soft"), "source must be one of"),
        ("project", (TENSOR.double(), POS, edges, offsets, 1, "sender", "soft"), "tensor must be float32; got float64"),
        ("project_backward", (SCALARS[:, :1], TENSOR, POS, edges, offsets, 1, "sender", "soft"), "must have the channels of tensor, 2; got 1"),
        ("aggregate", (SCALARS, POS, edges, offsets, 1, "max", "soft"), "reduce must be one of 'sum', 'mean'; got 'max'"),
        ("segment_reduce", (SCALARS[:2], edges[0], edges[2], offsets[0], "sum"), "values must have 3 rows; got 2"),
        ("segment_reduce", (SCALARS, edges[0], edges[2], offsets[0][:0], "sum"), "offsets must have an entry more"),
        ("segment_gather", (SCALARS, edges[0], edges[2], offsets[0], "sum"), "grad must have 4 rows; got 3"),
        ("prepare_graph", (EDGES, -1, "edge_index"), "num_nodes must be from 0"),
        ("prepare_graph", (EDGES.float(), 4, "edge_index"), "edge_index must be int32; got float32"),
    ]  # fmt: skip


COMPILED = compiled_cases()


@needs_binary
@pytest.mark.parametrize(("name", "arguments", "sentence"), COMPILED, ids=range(len(COMPILED)))
def test_sentences_of_the_compiled_checks(name, arguments, sentence):
    with pytest.raises(RuntimeError, match=sentence):
        getattr(torch.ops.clof_ext, name)(*arguments)


def test_a_backend_that_is_not_there_says_why():
    with backend("cuda"), pytest.raises(RuntimeError, match="backend 'cuda' cannot run edge_frame here: "):
        ops.edge_frame(POS, EDGES)
