"""EdgePlan: sorted, checked, cached."""

import gc
import weakref

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from clof_ext import _backends, graph, ops, prepare_graph

needs_binary = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")


def random_edges(nodes: int, count: int, dtype=torch.int64):
    return torch.randint(nodes, (2, count), generator=torch.Generator().manual_seed(count)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
@pytest.mark.parametrize(("nodes", "count"), [(5, 30), (1, 4), (7, 0), (0, 0), (300, 1000)])
def test_plan_by_its_definition(nodes: int, count: int, dtype: torch.dtype):
    edge_index = random_edges(max(nodes, 1), count, dtype)
    plan = prepare_graph(edge_index, nodes)
    assert plan.edges.dtype == plan.offsets.dtype == torch.int32
    assert (plan.num_nodes, plan.num_edges) == (nodes, count)
    for role in range(2):
        index = edge_index[role].long()
        assert torch.equal(plan.edges[role].long(), index)
        assert torch.equal(plan.edges[2 + role].long(), index.argsort(stable=True))
        starts = torch.cat((torch.zeros(1), torch.bincount(index, minlength=nodes).cumsum(0)))
        assert torch.equal(plan.offsets[role].double(), starts.double())
    low, high = edge_index.amin(0), edge_index.amax(0)
    for boundary in range(nodes + 1):
        assert plan.offsets[2, boundary] == ((low < boundary) & (boundary <= high)).sum()
    assert torch.equal(plan.degree().long(), torch.bincount(edge_index[0].long(), minlength=nodes)[:nodes])


@needs_binary
@pytest.mark.parametrize("count", [0, 1, 57])
def test_both_ways_of_sorting_agree(count: int):
    edge_index = random_edges(9, count)
    for one, two in zip(
        graph.sort_edges(edge_index, 9, "edge_index"), torch.ops.clof_ext.prepare_graph(edge_index, 9, "edge_index")
    ):
        assert torch.equal(one, two)


def test_crossings_are_zero_between_graphs():
    triangle = torch.tensor([[0, 1, 2, 1], [1, 2, 0, 0]])
    plan = prepare_graph(torch.cat((triangle, triangle + 3), 1), 6)
    assert (plan.offsets[2] == 0).nonzero().flatten().tolist() == [0, 3, 6]


def test_cached_until_changed_or_gone():
    edge_index = random_edges(5, 12)
    plan = prepare_graph(edge_index, 5)
    assert prepare_graph(edge_index, 5) is plan
    assert prepare_graph(edge_index, 6) is not plan
    assert prepare_graph(edge_index.clone(), 5) is not plan
    plan = prepare_graph(edge_index, 5)
    edge_index[0, 0] = (edge_index[0, 0] + 1) % 5
    changed = prepare_graph(edge_index, 5)
    assert changed is not plan
    assert changed.edges[0, 0] == edge_index[0, 0]
    number, gone = id(edge_index), weakref.ref(changed)
    del edge_index, plan, changed
    gc.collect()
    assert number not in graph._plans
    assert gone() is None


def test_a_change_to_a_bad_index_is_caught():
    edge_index = random_edges(5, 12)
    prepare_graph(edge_index, 5)
    edge_index[1, 3] = 5
    with pytest.raises(ValueError, match="got 5"):
        prepare_graph(edge_index, 5)


@pytest.mark.parametrize("count", [12, 15])
def test_other_memory_is_seen(count):
    edge_index = random_edges(5, 12)
    prepare_graph(edge_index, 5)
    other = random_edges(5, count).flip(1)
    edge_index.data = other
    assert torch.equal(prepare_graph(edge_index, 5).edges[:2].long(), other)


@pytest.mark.parametrize("made_in_inference_mode", [False, True])
def test_plans_of_inference_mode_serve_training(made_in_inference_mode):
    edge_index, pos = random_edges(5, 12), torch.randn(5, 3, requires_grad=True)
    with torch.inference_mode():
        plan = prepare_graph(edge_index.clone() if made_in_inference_mode else edge_index, 5)
    ops.edge_frame(pos, plan).sum().backward()
    assert pos.grad is not None
    assert not any(tensor.is_inference() for tensor in (plan.edge_index, plan.edges, plan.offsets))


def test_fake_tensors():
    with FakeTensorMode():
        edge_index = torch.zeros(2, 12, dtype=torch.int64)
        assert prepare_graph(edge_index, 5) is prepare_graph(edge_index, 5)


def test_inference_tensors_are_not_cached():
    with torch.inference_mode():
        edge_index = random_edges(5, 12)
        assert prepare_graph(edge_index, 5) is not prepare_graph(edge_index, 5)


def test_plan_moves_between_devices():
    moved = prepare_graph(random_edges(5, 12), 5).to("meta")
    assert moved.device.type == "meta"
    assert moved.num_nodes == 5
