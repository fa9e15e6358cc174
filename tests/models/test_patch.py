"""Patching published classes before a model is built."""

import copy
import inspect
import types

import pytest
import torch
from torch import nn

import clof_ext
from benchmarks import diffusion as edm
from clof_ext.bench import published
from clof_ext.nn.families import FusedForward
from tests.models.test_replace_diffusion import MASKS, assert_same, batch, network, results


def is_replaced(layer: nn.Module) -> bool:
    return isinstance(vars(layer).get("forward"), FusedForward)


def test_layers_are_replaced_as_they_are_made():
    expected = results(network(), batch(**MASKS))
    with clof_ext.patch(edm) as report:
        model = network()
    assert report.replaced == {"EquivariantBlock 0": "EquivariantBlock", "EquivariantBlock 1": "EquivariantBlock"}
    assert "Replaced 2 of 2 published layers." in str(report)
    assert_same(results(model, batch(**MASKS)), expected)
    clof_ext.restore_layers(model)
    assert not any(map(is_replaced, model.modules()))


def test_new_instances_are_plain_after_the_block():
    init = edm.EquivariantBlock.__init__
    with clof_ext.patch(edm.EquivariantBlock):
        assert edm.EquivariantBlock.__init__ is not init
        assert inspect.signature(edm.EquivariantBlock) == inspect.signature(init.__get__(edm.EquivariantBlock))
    assert edm.EquivariantBlock.__init__ is init
    assert not any(map(is_replaced, network().modules()))


def test_patch_until_restored():
    patch = clof_ext.patch(edm.EquivariantBlock)
    try:
        assert is_replaced(edm.EquivariantBlock(4))
    finally:
        patch.restore()
    assert patch.report.replaced == {"EquivariantBlock 0": "EquivariantBlock"}
    assert not is_replaced(edm.EquivariantBlock(4))


def test_inherited_constructors_are_inherited_again():
    before = "__init__" in vars(published.E_GCL)
    kind = type("E_GCL", (published.E_GCL,), {})
    with clof_ext.patch(kind):
        assert is_replaced(kind(4, 4, 4))
        assert not is_replaced(published.E_GCL(4, 4, 4))
    assert "__init__" not in vars(kind)
    assert before == ("__init__" in vars(published.E_GCL))


def test_derived_classes_are_not_touched():
    with clof_ext.patch(published.E_GCL) as report:
        assert not is_replaced(published.E_GCL_vel(4, 4, 4))
    assert not report.replaced
    assert not report.left


def test_what_is_not_as_published_is_left():
    with clof_ext.patch(published) as report:
        layer = published.Clof_GCL(4, 4, 4, act_fn=nn.Mish())
        published.EGNN(1, 2, 4, n_layers=1)
    assert not is_replaced(layer)
    assert "its activations, Mish()" in report.left["Clof_GCL 0"]
    assert report.replaced == {"E_GCL 0": "E_GCL"}


def test_block_restores_after_an_error():
    init = edm.EquivariantBlock.__init__
    with pytest.raises(KeyError), clof_ext.patch(edm):
        raise KeyError
    assert edm.EquivariantBlock.__init__ is init


def test_copies_of_what_was_made_work_afterwards():
    with clof_ext.patch(edm):
        model = network()
    twin = copy.deepcopy(model)
    assert twin.e_block_0.forward.layer is twin.e_block_0
    for value, wanted in zip(twin(**batch()), model(**batch()), strict=True):
        assert torch.equal(value, wanted)


def test_errors():
    with pytest.raises(
        TypeError, match=r"target must be a class derived from torch.nn.Module, or a Python module; got"
    ):
        clof_ext.patch(nn.Linear(1, 1))
    with pytest.raises(ValueError, match=r"target must be or hold a class of a published name \(.*\); Linear is none"):
        clof_ext.patch(nn.Linear)
    with pytest.raises(ValueError, match=r"; empty is none"):
        clof_ext.patch(types.ModuleType("empty"))
    with clof_ext.patch(edm), pytest.raises(ValueError, match=r"twice; patched already: EquivariantBlock, EGNN"):
        clof_ext.patch(edm)
