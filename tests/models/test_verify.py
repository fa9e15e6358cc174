"""Replacing layers with a comparison of the model before and after."""

import threading
from collections.abc import Callable
from types import SimpleNamespace
from typing import NamedTuple

import pytest
import torch
from torch import nn

import clof_ext
from clof_ext.bench.published import E_GCL, EGNN, ClofNet_vel
from tests.models.test_replace import H, batch, network


@pytest.mark.parametrize("as_keywords", [False, True])
def test_verify(as_keywords):
    model, values = network(), batch()
    names = ("h", "x", "edges", "vel", "edge_attr")
    report = clof_ext.replace_layers(model, verify=dict(zip(names, values, strict=True)) if as_keywords else values)
    assert set(report.replaced) == {"(the model itself)", "gcl_0", "gcl_1"}
    assert 0 < report.verified.outputs < 1e-5
    assert 0 < report.verified.gradients < 1e-4
    assert "Verified: outputs differ by at most" in str(report)
    assert report.as_dict()["verified"]["outputs"] == report.verified.outputs


def test_verify_leaves_arguments_gradients_and_buffers():
    class Counting(EGNN):
        def __init__(self, *sizes):
            super().__init__(*sizes)
            self.register_buffer("calls", torch.zeros(()))

        def forward(self, *values):
            self.calls += 1
            return super().forward(*values)

    model = Counting(1, 2, H, 2)
    h, pos, edges, _, edge_attr = batch()
    before = pos.clone()
    clof_ext.replace_layers(model, verify=(h, pos, edges, edge_attr))
    assert torch.equal(pos, before)
    assert not pos.requires_grad
    assert model.calls == 0
    assert all(parameter.grad is None for parameter in model.parameters())


def test_verify_repeats_random_numbers():
    class Dropping(ClofNet_vel):
        def edge_features(self, *values):
            return nn.functional.dropout(super().edge_features(*values))

    model, values = Dropping(1, 2, H, 2), batch()
    state = torch.random.get_rng_state()
    assert clof_ext.replace_layers(model, verify=values).replaced
    assert torch.equal(torch.random.get_rng_state(), state)


def test_verify_of_a_model_that_cannot_be_differentiated():
    model = network().requires_grad_(False)
    with torch.no_grad():
        assert clof_ext.replace_layers(model, verify=batch()).verified.outputs < 1e-5


class Inconsistent(nn.Module):
    """A network that reads the positions which its layer wrote into."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = E_GCL(1, 1, H, edges_in_d=2, coords_weight=100.0)

    def forward(self, h, x, edges, edge_attr):
        self.layer(h, edges, x, edge_attr)
        return x


def test_verify_finds_a_difference_and_undoes():
    model = Inconsistent()
    h, pos, edges, _, edge_attr = batch()
    with pytest.raises(RuntimeError, match="do not agree with the published ones: output differs by"):
        clof_ext.replace_layers(model, verify=(h, pos, edges, edge_attr))
    assert "forward" not in vars(model.layer)


def test_verify_with_a_tolerance():
    model, values = network(), batch()
    with pytest.raises(RuntimeError, match=r"differs by .*, allowed are 1.0e-12"):
        clof_ext.replace_layers(model, verify=values, tolerance=1e-12)
    assert "forward" not in vars(model.gcl_0)
    with clof_ext.replaced(model, verify=values, tolerance=1e-4) as report:
        assert report.verified.outputs < 1e-4


class Fields(NamedTuple):
    h: torch.Tensor
    pos: torch.Tensor
    edges: torch.Tensor
    edge_attr: torch.Tensor


class OfObject(nn.Module):
    """A network whose argument and result hold their tensors in any way."""

    def __init__(self, result: Callable) -> None:
        super().__init__()
        self.layer, self.result = E_GCL(1, 1, H, edges_in_d=2), result

    def forward(self, given):
        return self.result(*self.layer(given.h, given.edges, given.pos, given.edge_attr)[:2])


def fields() -> Fields:
    h, pos, edges, _, edge_attr = batch()
    return Fields(h, pos, edges, edge_attr)


RESULTS = {"tuple": lambda h, pos: (h, pos), "object": lambda h, pos: SimpleNamespace(h=h, pos=pos)}


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
@pytest.mark.parametrize("kind", [Fields, SimpleNamespace])
def test_verify_of_tensors_inside_objects(kind, result):
    """The published layer writes into the positions that it is given: not into the caller's."""
    given, pos = kind(**fields()._asdict()), fields().pos
    report = clof_ext.replace_layers(OfObject(result), verify=(given,))
    assert report.replaced
    assert 0 < report.verified.outputs < 1e-5
    assert 0 < report.verified.gradients < 1e-4
    assert torch.equal(given.pos, pos)


def test_verify_of_tensors_with_a_history_inside_objects():
    scale = torch.ones((), requires_grad=True)
    given = SimpleNamespace(**{**fields()._asdict(), "pos": fields().pos * scale})
    assert clof_ext.replace_layers(OfObject(RESULTS["tuple"]), verify=(given,)).replaced
    assert torch.equal(given.pos, fields().pos)
    assert scale.grad is None


def test_verify_of_what_cannot_be_copied():
    given, model = SimpleNamespace(**fields()._asdict(), lock=threading.Lock()), OfObject(RESULTS["tuple"])
    with pytest.raises(TypeError, match=r"verify needs what copy.deepcopy can copy; got for \[0\] a SimpleNamespace: "):
        clof_ext.replace_layers(model, verify=(given,))


def test_verify_in_inference_mode():
    model = OfObject(RESULTS["tuple"])
    with torch.inference_mode():
        assert clof_ext.replace_layers(model, verify=(fields(),)).verified.outputs < 1e-5


def test_verify_of_a_model_that_returns_nothing_to_compare():
    model = OfObject(lambda h, pos: "done")
    with pytest.raises(ValueError, match=r"verify needs a model that returns floating tensors; got str\."):
        clof_ext.replace_layers(model, verify=(fields(),))
    assert "forward" not in vars(model.layer)
