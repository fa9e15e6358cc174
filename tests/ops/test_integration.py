"""The ops inside PyTorch: opcheck, torch.compile with dynamic shapes, export, autocast, third derivatives."""

import pytest
import torch

from clof_ext import _backends, ops, prepare_graph
from tests.conformance import CALLS, GRAPHS, Graph, points, random_edges

needs_binary = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")


def plan_tensors(graph: Graph):
    plan = graph.plan()
    return plan.edges, plan.offsets


def operator_cases():
    """Each operator of the library with arguments for opcheck."""
    graph = GRAPHS["unsorted_with_isolated_node"]()
    edges, offsets = plan_tensors(graph)
    nodes, count = graph.pos.shape[0], graph.edge_index.shape[1]

    def leaf(*shape):
        return torch.randn(shape, dtype=torch.float64, requires_grad=True)

    pos, vel = leaf(nodes, 3), leaf(nodes, 3)
    constants = (edges, offsets, "soft")
    yield "prepare_graph", (graph.edge_index, nodes, "edge_index")
    yield "edge_frame", (pos, *constants)
    yield "edge_frame_backward", (leaf(count, 3, 3), pos, *constants)
    yield "edge_frame_double_backward", (leaf(nodes, 3), leaf(count, 3, 3), pos, *constants)
    yield "edge_scalars", (pos, vel, *constants)
    yield "edge_scalars", (pos, None, *constants)
    yield "edge_scalars_backward", (leaf(count, 14), pos, vel, *constants)
    yield "edge_scalars_backward", (leaf(count, 8), pos, None, *constants)
    yield "edge_scalars_double_backward", (leaf(nodes, 3), leaf(nodes, 3), leaf(count, 14), pos, vel, *constants)
    tensor, scalars = leaf(nodes, 2, 3), leaf(count, 2, 3)
    project = (edges, offsets, 1, "sender", "soft")
    yield "project", (tensor, pos, *project)
    yield "project_backward", (scalars, tensor, pos, *project)
    yield "project_double_backward", (leaf(nodes, 2, 3), leaf(nodes, 3), scalars, tensor, pos, *project)
    aggregate = (edges, offsets, 1, "mean", "soft")
    yield "aggregate", (scalars, pos, *aggregate)
    yield "aggregate_backward", (tensor, scalars, pos, *aggregate)
    yield "aggregate_double_backward", (leaf(count, 2, 3), leaf(nodes, 3), tensor, scalars, pos, *aggregate)
    query, key, value, edge, weight = leaf(nodes, 6), leaf(nodes, 6), leaf(nodes, 6), leaf(count, 5), leaf(6, 5)
    for keep in (None, torch.rand(count, 3, dtype=torch.float64)):
        attention = (query, key, value, edge, weight, keep, edges, offsets, 3)
        yield "edge_attention", attention
        yield "edge_attention_backward", (leaf(nodes, 6), *attention)
    table, first, share = leaf(9, 5), torch.arange(count * 2, dtype=torch.int32).view(count, 2) % 7, leaf(count, 2, 3)
    yield "table_sum", (table, first, share, leaf(count, 5), True)
    yield "table_sum", (table, first, share, None, False)
    yield "table_sum_backward", (leaf(count, 5), table, first, share, True)
    yield "table_sum_backward", (leaf(count, 5), table, first, share, False)
    segments = (edges[0], edges[2], offsets[0], "mean")
    yield "segment_reduce", (leaf(count, 5), *segments)
    yield "segment_gather", (leaf(nodes, 5), *segments)
    systems = torch.randn(2, 4, 3, dtype=torch.float64)
    states = systems, systems + 1, torch.ones(2, 4, dtype=torch.float64), torch.ones(2, 4, 4, dtype=torch.float64)
    yield "newton_simulate", (*states, True, [0.0] * 3, [0.0] * 3, 1e-6, 100.0, 1e-3, 7, 2)


CASES = list(operator_cases()) if _backends.binary() else []


@needs_binary
@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[name for name, _ in CASES])
def test_opcheck(name: str, arguments: tuple):
    if name.endswith("double_backward"):  # has no derivative: test_third_derivative_is_refused_in_words
        arguments = tuple(value.detach() if isinstance(value, torch.Tensor) else value for value in arguments)
    torch.library.opcheck(getattr(torch.ops.clof_ext, name).default, arguments)


@needs_binary
def test_every_operator_is_checked():
    defined = {name.split("::")[1] for name in torch._C._dispatch_get_all_op_names() if name.startswith("clof_ext::")}
    # cast_all's results share memory, which opcheck forbids: it is called where nothing traces.
    elsewhere = {name for name in defined if name.startswith(("add_layer_norm", "cast_all", "frame_message", "mlp"))}
    assert defined - elsewhere == {name for name, _ in CASES}


def model(pos, edge_index, vel, features):
    """Every op once, with edges given as a tensor."""
    scalars = ops.edge_scalars(pos, edge_index, vel)
    along = ops.project(features, pos, edge_index, order=1, source="sender")
    weighted = along * (scalars[:, None, :3] + scalars[:, None, 8:11])
    back = ops.aggregate(weighted, pos, edge_index, order=1, reduce="mean")
    frames = ops.edge_frame(pos, edge_index, mode="orthonormal").flatten(1)
    return back.sum(1) + ops.segment_sum(frames, edge_index[0], pos.shape[0])[:, :3]


def arguments(nodes: int, count: int):
    pos, vel, features = points(nodes).float(), points(nodes).float() + 1, torch.randn(nodes, 2, 3)
    return pos.requires_grad_(), random_edges(nodes, count), vel.requires_grad_(), features.requires_grad_()


def test_compile_fullgraph_with_dynamic_shapes():
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for nodes, count in ((6, 20), (9, 31), (14, 50)):
        given = arguments(nodes, count)
        out, expected = compiled(*given), model(*given)
        torch.testing.assert_close(out, expected, rtol=1e-5, atol=1e-5)
        leaves = [value for value in given if value.requires_grad]
        found = torch.autograd.grad(out.square().sum(), leaves)
        for one, two in zip(found, torch.autograd.grad(expected.square().sum(), leaves)):
            assert two.abs().max() > 0
            torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-4)


def test_compile_with_inductor_and_a_plan():
    given = arguments(6, 20)
    plan = prepare_graph(given[1], 6)
    compiled = torch.compile(lambda pos: ops.edge_frame(pos, plan).sin().sum(), fullgraph=True)
    torch.testing.assert_close(compiled(given[0]), ops.edge_frame(given[0], plan).sin().sum())


@needs_binary
def test_export():
    class Module(torch.nn.Module):
        def forward(self, pos, edge_index, vel, features):
            return model(pos, edge_index, vel, features)

    given = tuple(value.detach() for value in arguments(6, 20))
    program = torch.export.export(Module(), given)
    called = {str(node.target) for node in program.graph.nodes if node.op == "call_function"}
    assert {"clof_ext.edge_frame.default", "clof_ext.aggregate.default"} <= called
    torch.testing.assert_close(program.module()(*given), model(*given))


def test_autocast_leaves_geometry_in_float32():
    graph = GRAPHS["three_edges"]()
    pos, tensor = graph.pos.float(), torch.randn(3, 2, 3)
    with torch.autocast("cpu", torch.bfloat16):
        assert ops.edge_frame(pos, graph.plan()).dtype == torch.float32
        found = ops.project(tensor, pos, graph.plan())
    assert found.dtype == torch.float32
    assert torch.equal(found, ops.project(tensor, pos, graph.plan()))


@needs_binary
def test_third_derivative_is_refused_in_words():
    graph = GRAPHS["three_edges"]()
    pos = graph.pos.clone().requires_grad_()
    value = ops.edge_frame(pos, graph.plan()).pow(2).sum()
    for _ in range(2):
        value = torch.autograd.grad(value, pos, create_graph=True)[0].pow(2).sum()
    with pytest.raises(NotImplementedError, match="no third; use backend='reference'"):
        value.backward()


@pytest.mark.parametrize("name", ["edge_frame-soft", "aggregate-1-mean-raw"])
def test_inputs_that_need_no_gradient(name: str):
    call, graph = CALLS[name], GRAPHS["three_edges"]()
    inputs = [value.detach() for value in call.inputs(graph)]
    assert not call.run(graph, None, *inputs).requires_grad
    with torch.inference_mode():
        assert call.run(graph, None, *inputs).isfinite().all()
