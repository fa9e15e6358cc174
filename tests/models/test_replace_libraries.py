"""Replacing layers of graph libraries."""

import sys

import pytest
import torch
from torch import Tensor, nn

import clof_ext
from clof_ext.nn.families import FusedForward
from tests.lookalikes import dgl
from tests.systems import make_system

F, H, OUT, D = 4, 6, 5, 2


@pytest.fixture
def with_dgl(monkeypatch):
    monkeypatch.setitem(sys.modules, "dgl", dgl)


def conv(edge_feat_size: int = D) -> nn.Module:
    torch.manual_seed(0)
    return dgl.EGNNConv(F, H, OUT, edge_feat_size).double()


def results(layer: nn.Module, *, n_axes: int = 3) -> list[Tensor]:
    """Features, positions and all gradients of a combination of both."""
    system = make_system(F, D)
    graph = dgl.graph((system.edge_index[1], system.edge_index[0]), len(system.pos))
    leaves = [value.clone().requires_grad_() for value in (system.h, system.pos[:, :n_axes], system.edge_attr)]
    h, pos = layer(graph, *leaves)
    loss = h.cos().sum() + pos.square().sum()
    variables = [*leaves, *layer.parameters()]
    return [h, pos, *torch.autograd.grad(loss, variables, allow_unused=True, materialize_grads=True)]


def assert_same(actual: list[Tensor], expected: list[Tensor]) -> None:
    for value, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.usefixtures("with_dgl")
@pytest.mark.parametrize("edge_feat_size", [0, D])
def test_layer_of_dgl(edge_feat_size):
    layer = conv(edge_feat_size)
    expected = results(layer)
    assert clof_ext.replace_layers(layer).replaced == {"(the model itself)": "EGNNConv"}
    assert_same(results(layer), expected)
    assert isinstance(layer.forward, FusedForward)


@pytest.mark.usefixtures("with_dgl")
def test_positions_in_a_plane_run_the_own_forward():
    layer = conv()
    expected = results(layer, n_axes=2)
    clof_ext.replace_layers(layer)
    assert all(torch.equal(a, b) for a, b in zip(results(layer, n_axes=2), expected, strict=True))


def test_layer_of_dgl_without_dgl():
    assert "dgl" not in sys.modules
    assert "dgl is not imported" in clof_ext.replace_layers(conv()).left["(the model itself)"]


class Squared(dgl.EGNNConv):
    def forward(self, graph, node_feat, coord_feat, edge_feat=None):
        h, pos = super().forward(graph, node_feat, coord_feat, edge_feat)
        return h.square(), pos


def changed(kind: type = dgl.EGNNConv, **parts: nn.Module) -> nn.Module:
    layer = type("EGNNConv", (kind,), {})(F, H, OUT, D)
    for name, part in parts.items():
        setattr(layer, name, part)
    return layer


LEFT = {
    "features": (lambda: changed(Squared), "its new features differ"),
    "part": (lambda: changed(norm=nn.LayerNorm(OUT)), "parts that the published layer has not: norm"),
    "pattern": (lambda: changed(coord_mlp=nn.Sequential(nn.Linear(H, 1))), "coord_mlp is not built as published"),
    "attribute": (lambda: changed_attribute(), "not built as published.*edge_feat_size"),
}


def changed_attribute() -> nn.Module:
    layer = changed()
    del layer.edge_feat_size
    return layer


@pytest.mark.usefixtures("with_dgl")
@pytest.mark.parametrize(("make", "reason"), LEFT.values(), ids=LEFT)
def test_left_with_a_reason(make, reason):
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(clof_ext.replace_layers(make()).left["(the model itself)"])
