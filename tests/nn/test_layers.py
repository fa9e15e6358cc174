"""Layers beyond the golden arrays: options, defaults, symmetry, errors."""

import pytest
import torch
from torch.nn.utils import parametrizations

from clof_ext.nn import FrameAttention, FrameConv
from clof_ext.nn.frame_attention import segment_softmax
from tests.systems import System, make_system, rotation


def conv(**options) -> FrameConv:
    torch.manual_seed(0)
    return FrameConv(8, 8, 3, **options).double()


def test_defaults_of_the_bases():
    complete, radial = conv(), conv(basis="radial")
    assert len(complete.edge_mlp) == 6
    assert len(radial.edge_mlp) == 4
    assert hasattr(complete, "layer_norm")
    assert not hasattr(radial, "layer_norm")
    assert complete.coord_mlp[2].out_features == 3
    assert radial.coord_mlp[2].out_features == 1
    assert not hasattr(complete, "coord_mlp_vel")
    assert hasattr(conv(velocity=True), "coord_mlp_vel")


def test_published_names():
    names = set(dict(conv(velocity=True, attention=True).named_parameters()))
    linears = {"edge_mlp": (0, 2, 4), "node_mlp": (0, 2), "coord_mlp": (0,), "coord_mlp_vel": (0, 2), "att_mlp": (0,)}
    expected = {f"{part}.{k}.{kind}" for part, ks in linears.items() for k in ks for kind in ("weight", "bias")}
    assert names == expected | {"coord_mlp.2.weight", "layer_norm.weight", "layer_norm.bias"}


def test_coordinates_start_almost_unmoved():
    system = make_system(8, 3)
    layer = conv()
    _, pos = layer(system.h, system.pos, system.edge_index, system.edge_attr)
    assert 0 < (pos - system.pos).abs().max() < 1e-2


def test_widths_may_change():
    layer = FrameConv(4, 8, 3, recurrent=False, layer_norm=False).double()
    system = make_system(4, 3)
    h, _ = layer(system.h, system.pos, system.edge_index, system.edge_attr)
    assert h.shape == (len(system.pos), 8)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_depth(depth):
    layer = conv(mlp_depth=depth)
    system = make_system(8, 3)
    layer(system.h, system.pos, system.edge_index, system.edge_attr)[0].sum().backward()
    linears = [module for module in layer.edge_mlp if isinstance(module, torch.nn.Linear)]
    assert len(linears) == depth
    assert all(linear.weight.grad.any() for linear in linears)


def test_coords_weight_scales_the_move():
    system = make_system(8, 3)
    call = (system.h, system.pos, system.edge_index, system.edge_attr)
    moves = [conv(coords_weight=weight)(*call)[1] - system.pos for weight in (1.0, 0.5)]
    torch.testing.assert_close(moves[1], 0.5 * moves[0])


def apply(layer, system: System):
    if isinstance(layer, FrameAttention):
        return layer(system.h, system.pos, system.edge_index, system.edge_attr)[:2]
    h, pos = layer(system.h, system.pos, system.edge_index, system.edge_attr, system.vel)
    return pos, h


def strong(layer: torch.nn.Module) -> torch.nn.Module:
    """With coordinate weights of order one, so that a broken symmetry cannot hide behind a small gain."""
    if hasattr(layer, "coord_mlp"):
        torch.nn.init.normal_(layer.coord_mlp[2].weight)
    return layer


LAYERS = {
    "complete": lambda: strong(conv(velocity=True)),
    "complete raw": lambda: strong(conv(velocity=True, frame="raw")),
    "complete orthonormal": lambda: strong(conv(velocity=True, frame="orthonormal")),
    "radial": lambda: strong(conv(velocity=True, basis="radial")),
    "attention": lambda: FrameAttention(8, 3, heads=2).double(),
}


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_rotation(make):
    layer, system, turn = make(), make_system(8, 3), rotation()
    vector, scalar = apply(layer, system)
    turned_vector, turned_scalar = apply(layer, system.mapped(turn))
    torch.testing.assert_close(turned_vector, vector @ turn.T, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(turned_scalar, scalar, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", LAYERS)
def test_only_complete_frames_see_a_reflection(name):
    layer, system = LAYERS[name](), make_system(8, 3)
    mirror = torch.diag(torch.tensor([1.0, 1.0, -1.0])).double()
    difference = apply(layer, system.mapped(mirror))[0] - apply(layer, system)[0] @ mirror.T
    assert (difference.abs().max() > 1e-4) == (name != "radial")


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_permutation(make):
    layer, system = make(), make_system(8, 3)
    order = torch.randperm(len(system.pos))
    edge_order = torch.randperm(system.edge_index.shape[1])
    for value, permuted in zip(apply(layer, system), apply(layer, system.permuted(order, edge_order)), strict=True):
        torch.testing.assert_close(permuted, value[order], rtol=1e-9, atol=1e-9)


def test_softmax_sums_to_one_over_any_number_of_edges():
    system = make_system(8, 3)
    scores = 100 * torch.randn(system.edge_index.shape[1], 2).double()
    weights = segment_softmax(scores, system.plan())
    for node in range(len(system.pos)):
        mine = system.edge_index[0] == node
        torch.testing.assert_close(weights[mine], scores[mine].softmax(0))


def test_attention_options():
    system = make_system(8, 3)
    torch.manual_seed(0)
    layer = FrameAttention(8, 3, heads=2, attention=False, recurrent=False, coords_weight=0.5).double()
    assert not hasattr(layer, "att_mlp")
    acc, h, _ = layer(system.h, system.pos, system.edge_index, system.edge_attr)
    layer.coords_weight, layer.recurrent = 1.0, True
    full_acc, full_h, _ = layer(system.h, system.pos, system.edge_index, system.edge_attr)
    torch.testing.assert_close(layer.norm2(system.h + h), full_h)
    # The accelerations read the updated features, so only the plain layer's can be compared.
    layer.recurrent = False
    plain_acc = layer(system.h, system.pos, system.edge_index, system.edge_attr)[0]
    torch.testing.assert_close(acc, 0.5 * plain_acc)
    assert not torch.allclose(full_acc, plain_acc)


def test_attention_reads_attributes_of_nodes():
    """They stand last in what node_mlp reads, as in the other layers."""
    system = make_system(8, 3)
    torch.manual_seed(0)
    layer = FrameAttention(8, 3, heads=2, node_attr_dim=2).double()
    node_attr = torch.randn(7, 2).double()
    seen = []
    layer.node_mlp.register_forward_pre_hook(lambda module, values: seen.append(values[0]))
    call = (system.h, system.pos, system.edge_index, system.edge_attr)
    _, h, _ = layer(*call, node_attr)
    assert torch.equal(seen[0][:, :8], system.h)
    assert torch.equal(seen[0][:, 16:], node_attr)
    # Without weights for them they are nothing.
    plain = FrameAttention(8, 3, heads=2).double()
    weight = layer.node_mlp[0].weight.detach()
    weight[:, 16:] = 0
    plain.load_state_dict({**layer.state_dict(), "node_mlp.0.weight": weight[:, :16]})
    for value, wanted in zip(layer(*call, node_attr), plain(*call), strict=True):
        torch.testing.assert_close(value, wanted)
    assert not torch.allclose(h, plain(*call)[1])
    with pytest.raises(ValueError, match=r"node_attr must have shape \(7, 2\); got None"):
        layer(*call)
    with pytest.raises(TypeError, match="node_attr must be float64 where pos is float64; got float32"):
        layer(*call, node_attr.float())


CONSTRUCTIONS = {
    "basis": ({"basis": "full"}, "basis must be one of"),
    "frame": ({"frame": "hard"}, "frame must be one of"),
    "activation": ({"activation": "mish"}, "activation must be one of"),
    "depth": ({"mlp_depth": 4}, "mlp_depth must be one of 1, 2, 3; got 4"),
    "widths": ({"in_dim": 4}, "in_dim must equal hidden_dim, 8, .* got 4"),
}


@pytest.mark.parametrize(("change", "sentence"), CONSTRUCTIONS.values(), ids=CONSTRUCTIONS)
def test_construction_errors(change, sentence):
    with pytest.raises(ValueError, match=sentence):
        FrameConv(**{"in_dim": 8, "hidden_dim": 8, "edge_dim": 3, **change})


def test_attention_construction_errors():
    with pytest.raises(ValueError, match="hidden_dim must be a multiple of heads, 3; got 8"):
        FrameAttention(8, 3)
    with pytest.raises(ValueError, match="heads must be a whole number from 1; got None"):
        FrameAttention(8, 3, heads=None)
    with pytest.raises(ValueError, match="frame must be one of"):
        FrameAttention(9, 3, frame="hard")


CALLS = {
    "no vel": ({"velocity": True}, {}, "vel must be given to a layer with velocity=True; got None"),
    "vel": ({}, {"vel": torch.zeros(7, 3).double()}, "vel must be None for a layer with velocity=False; got a tensor"),
    "vel shape": ({"velocity": True}, {"vel": torch.zeros(6, 3).double()}, r"vel must have shape \(7, 3\)"),
    "vel dtype": ({"velocity": True}, {"vel": torch.zeros(7, 3)}, "vel must be float64 like pos; got float32"),
    "no edge_attr": ({}, {"edge_attr": None}, r"edge_attr must have shape \(\d+, 3\); got None"),
    "edge_attr": ({}, {"edge_attr": torch.zeros(2, 3).double()}, r"edge_attr must have shape \(\d+, 3\); got \(2, 3\)"),
    "node_attr": ({"node_attr_dim": 2}, {}, r"node_attr must have shape \(7, 2\); got None"),
}


@pytest.mark.parametrize(("options", "change", "sentence"), CALLS.values(), ids=CALLS)
def test_call_errors(options, change, sentence):
    system = make_system(8, 3)
    call = {"h": system.h, "pos": system.pos, "edge_index": system.edge_index, "edge_attr": system.edge_attr}
    with pytest.raises((ValueError, TypeError), match=sentence):
        conv(**options)(**{**call, **change})


def test_exchanged_modules_of_what_is_read():
    """Weights of parts on edges are read: another module there cannot be called, and is not ignored."""
    system = make_system(8, 3)
    relu = torch.nn.ReLU()
    changes = {
        "edge_mlp": lambda layer: layer.edge_mlp.__setitem__(1, relu),
        "coord_mlp": lambda layer: layer.coord_mlp.append(torch.nn.Tanh()),
        "att_mlp": lambda layer: layer.att_mlp.append(relu),
    }
    for name, change in changes.items():
        layer = conv(attention=True)
        change(layer)
        with pytest.raises(
            ValueError, match=rf"^{name} of FrameConv must be Linears with silu between them and .* got"
        ):
            layer(system.h, system.pos, system.edge_index, system.edge_attr)
    layer = conv()
    layer.edge_mlp[2] = torch.nn.Linear(8, 8).double()
    parametrizations.weight_norm(layer.edge_mlp[0])
    layer(system.h, system.pos, system.edge_index, system.edge_attr)
    layer.edge_mlp[2].forward = torch.tanh
    with pytest.raises(ValueError, match=r"^edge_mlp of FrameConv must be"):
        layer(system.h, system.pos, system.edge_index, system.edge_attr)


@pytest.mark.parametrize("part", ["node_mlp", "coord_mlp_vel"])
def test_exchanged_modules_of_nodes_are_called(part):
    system = make_system(8, 3)
    values = (system.h, system.pos, system.edge_index, system.edge_attr, system.vel)
    layer = conv(velocity=True)
    before = layer(*values)
    layer._modules[part][1] = torch.nn.Tanh()
    expected = []
    layer._modules[part].register_forward_hook(lambda module, given, result: expected.append(result))
    hooked = layer(*values)
    assert expected
    layer._modules[part]._forward_hooks.clear()
    for value, wanted in zip(layer(*values), hooked, strict=True):
        torch.testing.assert_close(value, wanted)
    assert any((new - old).abs().max() > 1e-3 for new, old in zip(hooked, before, strict=True))
