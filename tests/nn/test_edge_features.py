"""ClofNet's edge features, made of some edges at a time where nothing is recorded."""

from contextlib import nullcontext
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import clof_ext
from clof_ext import _backends, models, prepare_graph
from clof_ext.bench.memory import peak_bytes
from clof_ext.nn import edge_features as module
from clof_ext.nn.edge_features import edge_features
from clof_ext.nn.mlp import activated_mlp, linear_tensors
from tests.conformance import random_edges
from tests.systems import DEVICES

NODES, EDGES, HIDDEN, EDGE_DIM = 9, 50, 8, 2
# Several parts, the last of them short.
AT_ONCE = 16
needs_binary = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")


@pytest.fixture
def in_parts(monkeypatch):
    """Parts of a few edges; counts them."""
    made, into = [], module.mlp_into

    def counted(out: Tensor, *arguments, **options) -> None:
        made.append(len(out))
        into(out, *arguments, **options)

    monkeypatch.setattr(module, "mlp_into", counted)
    monkeypatch.setattr(module, "EDGES_AT_ONCE", {"cpu": AT_ONCE, "cuda": AT_ONCE})
    return made


PARTS = [AT_ONCE, AT_ONCE, AT_ONCE, EDGES % AT_ONCE]


def features(
    device: str = "cpu", velocity: bool = True, attributes: bool = True, dtype: torch.dtype = torch.float32
) -> Tensor:
    torch.manual_seed(0)
    pos, vel = torch.randn(2, NODES, 3, dtype=dtype).to(device)
    n_in = (14 if velocity else 8) + EDGE_DIM * attributes
    fuse_edge = activated_mlp([n_in, HIDDEN, HIDDEN], "silu").to(device, dtype)
    edge_attr = torch.randn(EDGES, EDGE_DIM, dtype=dtype).to(device) if attributes else None
    plan = prepare_graph(random_edges(NODES, EDGES).to(device), NODES)
    return edge_features(
        *(pos, vel if velocity else None, plan, edge_attr, linear_tensors(fuse_edge)),
        mode="soft",
        activation="silu",
        dtype=dtype,
    )


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("backend", ["kernels", "reference"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("velocity", "attributes"), [(True, True), (False, True), (True, False)])
def test_parts_are_those_of_the_whole(velocity, attributes, dtype, backend, device, in_parts, monkeypatch):
    made = partial(features, device, velocity, attributes, dtype)
    with torch.no_grad(), nullcontext() if backend == "kernels" else clof_ext.backend(backend):
        found = made()
        assert in_parts == PARTS
        monkeypatch.setattr(module, "EDGES_AT_ONCE", {})
        torch.testing.assert_close(found, made())
    assert in_parts == PARTS


@pytest.mark.parametrize("device", DEVICES)
def test_under_autocast(device: str, in_parts, monkeypatch):
    with torch.no_grad(), torch.autocast(device, torch.bfloat16):
        found = features(device)
        assert in_parts == PARTS and found.dtype == torch.bfloat16
        monkeypatch.setattr(module, "EDGES_AT_ONCE", {})
        torch.testing.assert_close(found, features(device))


def network() -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    given = torch.randn(NODES, 1), torch.randn(NODES, 3), random_edges(NODES, EDGES), torch.randn(EDGES, EDGE_DIM)
    return models.ClofNet(1, EDGE_DIM, HIDDEN, n_layers=1), (*given, torch.randn(NODES, 3))


def test_what_is_recorded_is_made_at_once(in_parts):
    model, given = network()
    model(*given).sum().backward()
    assert not in_parts and model.fuse_edge[0].weight.grad.abs().max() > 0
    with torch.no_grad():
        model(*given)
    assert in_parts == PARTS


def test_what_is_traced_is_made_at_once(in_parts):
    model, given = network()
    expected = model(*given)
    with torch.no_grad():
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")(*given)
        # Kernels have no rules for batches.
        velocities = torch.stack([given[-1], 2 * given[-1]])
        batched = torch.func.vmap(lambda vel: model(*given[:-1], vel))(velocities)
    assert not in_parts
    torch.testing.assert_close(compiled, expected)
    torch.testing.assert_close(batched[0], expected)


@needs_binary
def test_scalars_of_all_edges_are_never_kept(monkeypatch):
    """The features' own memory, and scalars, edge numbers and scratch of a part."""
    torch.manual_seed(0)
    nodes, edges = 200, 40_000
    pos, plan = torch.randn(nodes, 3), prepare_graph(random_edges(nodes, edges), nodes)
    weights = linear_tensors(activated_mlp([8, 32, 32], "silu"))

    def call() -> None:
        with torch.no_grad():
            edge_features(pos, None, plan, None, weights, mode="soft", activation="silu", dtype=torch.float32)

    of_features, of_scalars = edges * 32 * 4, edges * 8 * 4
    monkeypatch.setattr(module, "EDGES_AT_ONCE", {})
    whole = peak_bytes(call, torch.device("cpu"))
    assert whole > of_features + of_scalars
    monkeypatch.setattr(module, "EDGES_AT_ONCE", {"cpu": edges // 40})
    assert peak_bytes(call, torch.device("cpu")) < whole - 0.9 * of_scalars
