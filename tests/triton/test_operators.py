"""The operators of the Triton library: the schemas of the compiled ones, and errors in words where nothing can run."""

import pytest
import torch

pytest.importorskip("triton")

from clof_ext import _backends, ops, prepare_graph, triton
from tests.conformance import points

OPS = ("edge_frame", "edge_scalars", "project", "aggregate")
OPERATORS = [f"{op}{stage}" for op in OPS for stage in ("", "_backward", "_double_backward")]
OPERATORS += ["segment_reduce", "segment_gather", "frame_message", "frame_message_backward"]

not_interpreted = pytest.mark.skipif(triton.interpreted(), reason="in the interpreter CPU tensors are served")


@pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
@pytest.mark.parametrize("name", OPERATORS)
def test_schema_is_that_of_the_compiled_operator(name: str):
    schemas = [getattr(library, name).default._schema for library in (torch.ops.clof_ext, torch.ops.clof_ext_triton)]
    compiled, triton = ([(a.name, str(a.type)) for a in schema.arguments] for schema in schemas)
    assert triton == compiled
    assert len(schemas[0].returns) == len(schemas[1].returns)


@not_interpreted
def test_operator_without_a_gpu_says_what_it_needs():
    plan = prepare_graph(torch.tensor([[0], [1]]), 2)
    with pytest.raises(RuntimeError, match=r"need tensors on a GPU; got tensors on cpu\. Set TRITON_INTERPRET=1"):
        torch.ops.clof_ext_triton.edge_frame(points(2), plan.edges, plan.offsets, "soft")


@not_interpreted
def test_backend_without_a_gpu_is_refused():
    with pytest.raises(RuntimeError, match="'triton' cannot run edge_frame here: it does not serve cpu tensors"):
        ops.edge_frame(points(2), torch.tensor([[0], [1]]), backend="triton")


def test_wrong_arguments_are_refused_in_words():
    plan = prepare_graph(torch.tensor([[0], [1]]), 2)
    run = torch.ops.clof_ext_triton
    with pytest.raises(ValueError, match=r"offsets must have shape \(3, 4\); got \(3, 3\)"):
        run.edge_frame(points(3), plan.edges, plan.offsets, "soft")
    with pytest.raises(ValueError, match=r"mode must be one of 'soft', 'raw', 'orthonormal'; got 'hard'"):
        run.edge_frame(points(2), plan.edges, plan.offsets, "hard")
    with pytest.raises(ValueError, match=r"grad_scalars must have shape \(1, 2, 3\); got \(1, 4, 3\)"):
        run.project_backward(
            torch.zeros(1, 4, 3).double(), torch.zeros(2, 2, 3).double(), points(2), plan.edges, plan.offsets,
            1, "sender", "soft",
        )  # fmt: skip
    with pytest.raises(TypeError, match=r"index must be int32; got int64"):
        run.segment_reduce(points(1), plan.edges[0].long(), plan.edges[2], plan.offsets[0], "sum")
