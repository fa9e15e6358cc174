"""Tensors without memory: whole networks of them have shapes, and among others they are refused."""

import pytest
import torch
from torch import Tensor

from clof_ext import models, nn, ops
from tests.systems import make_system

H, D = 8, 2
NETWORKS = {
    "ClofNet": lambda: models.ClofNet(H, D, H, 2),
    "EGNN": lambda: models.EGNN(H, D, H, 2, velocity=True),
    "GNN": lambda: models.GNN(H, 2),
    "RadialField": lambda: models.RadialField(D, H, 2),
}


def system() -> dict[str, Tensor]:
    made = make_system(H, D)
    values = {name: getattr(made, name) for name in ("h", "pos", "edge_index", "edge_attr", "vel")}
    return {name: value.float() if value.is_floating_point() else value for name, value in values.items()}


def on_meta(values: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.to("meta") for name, value in values.items()}


@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
@pytest.mark.parametrize("recorded", [False, True])
def test_networks(make, recorded):
    with torch.device("meta"), torch.set_grad_enabled(recorded):
        model = make()
        result = model(**on_meta(system()))
        assert result.is_meta
        assert result.shape == (7, 3)
        if recorded:
            result.sum().backward()


def test_ops():
    x, weight, bias = (torch.ones(size, device="meta") for size in ((4, 6), (2, 6), (2,)))
    assert ops.mlp([x], [weight, bias]).shape == (4, 2)
    edges = torch.zeros(2, 3, dtype=torch.int64, device="meta")
    assert ops.edge_attention(x, x, x, torch.ones(3, 2, device="meta"), weight.T, edges, heads=2).shape == (4, 6)
    first = torch.zeros(5, 1, dtype=torch.int32, device="meta")
    assert ops.table_sum(x, first, torch.ones(5, 1, 2, device="meta")).shape == (5, 6)


def layer() -> tuple[nn.FrameConv, tuple]:
    made = nn.FrameConv(H, H, D, basis="radial", attention=True)
    values = system()
    return made, tuple(values[name] for name in ("h", "pos", "edge_index", "edge_attr"))


WEIGHTS = [name for name, _ in layer()[0].named_parameters()]


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("name", WEIGHTS)
def test_one_weight_without_memory(name, recorded):
    """As a checkpoint leaves it that is loaded with assign=True and lacks it."""
    made, values = layer()
    part, kind = name.rsplit(".", 1)
    parameter = made.get_parameter(name)
    setattr(made.get_submodule(part), kind, torch.nn.Parameter(parameter.to("meta")))
    with (
        torch.set_grad_enabled(recorded),
        pytest.raises(ValueError, match=r"must be on the device of .*, cpu; got meta"),
    ):
        made(*values)


def frame_message(**change: Tensor) -> tuple[Tensor, Tensor]:
    values = {"h": torch.ones(4, 5), "pos": torch.ones(4, 3), "edge_weight": torch.ones(4), **change}
    edges = torch.tensor([[0, 1, 2, 3], [1, 2, 3, 0]])
    weights = [torch.ones(8, 11), torch.ones(8)]
    return ops.frame_message(
        *(values["h"], values["pos"], edges),
        edge_mlp=weights,
        coord_mlp=[torch.ones(3, 8)],
        edge_weight=values["edge_weight"],
    )


@pytest.mark.parametrize("recorded", [False, True])
@pytest.mark.parametrize("name", ["h", "edge_weight"])
def test_one_argument_of_frame_message(name, recorded):
    value = {"h": torch.ones(4, 5), "edge_weight": torch.ones(4)}[name].to("meta").requires_grad_(recorded)
    with pytest.raises(ValueError, match=rf"{name} must be on the device of \w+, cpu; got meta"):
        frame_message(**{name: value})


@pytest.mark.parametrize("recorded", [False, True])
def test_one_argument_of_mlp(recorded):
    x, weight, bias = torch.ones(4, 5, requires_grad=recorded), torch.ones(2, 10), torch.ones(2)
    with pytest.raises(ValueError, match=r"inputs\[1\] must be on the device of inputs\[0\], cpu; got meta"):
        ops.mlp([x, x.to("meta")], [weight, bias])
    with pytest.raises(ValueError, match=r"weights\[1\] must be on the device of inputs\[0\], cpu; got meta"):
        ops.mlp([x, x], [weight, bias.to("meta")])


def test_a_cotangent_without_memory():
    x = torch.ones(4, 5, requires_grad=True)
    out = ops.mlp([x], [torch.ones(2, 5), torch.ones(2)])
    with pytest.raises((ValueError, RuntimeError), match="device"):
        torch.autograd.grad(out, x, torch.ones(4, 2, device="meta"))
