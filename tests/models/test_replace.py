"""Replacing published layers: what is recognised, what is left and why, what stays, what is undone."""

import copy
import json
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

import clof_ext
from clof_ext.bench.published import E_GCL, EGNN, Clof_GCL, ClofNet_vel, E_GCL_vel
from clof_ext.nn import FrameAttention, families
from clof_ext.nn.activation import MODULES
from clof_ext.nn.edge_pair import joined
from clof_ext.nn.families import FusedForward
from tests import plain_egnn
from tests.systems import make_system

H, D = 8, 3


def randomized(made: nn.Module) -> nn.Module:
    """In float64, with coefficients of order one, so that no difference hides behind a small gain."""
    nn.init.normal_(made.double().coord_mlp[2].weight)
    return made


def layer(kind=Clof_GCL, **options) -> nn.Module:
    torch.manual_seed(0)
    return randomized(kind(H, H, H, edges_in_d=D, **options))


def arguments(module: nn.Module) -> tuple:
    system = make_system(H, D)
    velocity = (system.vel,) if hasattr(module, "coord_mlp_vel") else ()
    return system.h, system.edge_index, system.pos, *velocity, system.edge_attr


def call(module: nn.Module):
    """Features and positions; positions are copied, because the plain layers write into them."""
    return module(*[value.clone() for value in arguments(module)])[:2]


def assert_same(actual, expected, **tolerance) -> None:
    for value, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, wanted, **(tolerance or {"rtol": 1e-10, "atol": 1e-10}))


def network() -> ClofNet_vel:
    torch.manual_seed(0)
    return ClofNet_vel(1, 2, H, 2)


def batch(n_graphs: int = 2) -> tuple:
    torch.manual_seed(1)
    edges = [(5 * g + i, 5 * g + j) for g in range(n_graphs) for i in range(5) for j in range(5) if i != j]
    n = 5 * n_graphs
    return torch.rand(n, 1), torch.randn(n, 3), torch.tensor(edges).T, torch.randn(n, 3), torch.randn(len(edges), 2)


SETTINGS = {
    **{f"{kind.__name__}": (kind, {}) for kind in (Clof_GCL, E_GCL, E_GCL_vel)},
    **{f"{kind.__name__} soft": (kind, {"norm_diff": True}) for kind in (Clof_GCL, E_GCL, E_GCL_vel)},
    "gated": (E_GCL, {"attention": True}),
    "tanh": (E_GCL_vel, {"tanh": True}),
    "not recurrent": (E_GCL, {"recurrent": False}),
    "weighted": (Clof_GCL, {"coords_weight": 0.3}),
    **{name: (E_GCL_vel, {"act_fn": make()}) for name, make in MODULES.items()},
    "in place": (E_GCL_vel, {"act_fn": nn.ReLU(inplace=True)}),
}


@pytest.mark.parametrize(("kind", "options"), SETTINGS.values(), ids=SETTINGS)
def test_replaced_layer_computes_the_same(kind, options):
    module = layer(kind, **options)
    expected = call(module)
    report = clof_ext.replace_layers(module)
    assert report.replaced == {"(the model itself)": kind.__name__}
    assert not report.left
    assert_same(call(module), expected)
    clof_ext.restore_layers(module)
    assert all(torch.equal(a, b) for a, b in zip(call(module), expected, strict=True))


@pytest.mark.parametrize("attributes", [0, 1, 3, 12])
@pytest.mark.parametrize("columns", [0, 1, 2, 7])
@pytest.mark.parametrize("options", [{}, {"recurrent": False}], ids=str)
@pytest.mark.parametrize("kind", [Clof_GCL, E_GCL, E_GCL_vel])
def test_attributes_of_nodes_and_edges(kind, columns, attributes, options):
    module = randomized(kind(H, H, H, edges_in_d=columns, nodes_att_dim=attributes, **options))
    system = make_system(H, columns)
    velocity = (system.vel,) if hasattr(module, "coord_mlp_vel") else ()
    edge_attr = system.edge_attr if columns else None
    node_attr = torch.randn(len(system.h), attributes).double() if attributes else None

    def results() -> list[torch.Tensor]:
        return module(system.h, system.edge_index, system.pos.clone(), *velocity, edge_attr, node_attr)[:2]

    expected = results()
    assert clof_ext.replace_layers(module).replaced
    assert_same(results(), expected)


@pytest.mark.parametrize("options", [{}, {"coords_agg": "sum"}, {"residual": False}, {"tanh": True}], ids=str)
def test_layer_of_the_stand_alone_program(options):
    torch.manual_seed(0)
    module = plain_egnn.E_GCL(H, H, D, **options).double()
    # Large enough to show that these layers have no bound.
    module.coord_mlp[2].weight.data.mul_(1e4)
    expected = call(module)
    assert clof_ext.replace_layers(module).replaced
    assert options.get("tanh") or expected[1].abs().max() > 200
    assert_same(call(module), expected, rtol=1e-10, atol=1e-8)


def test_keywords_and_a_pair_of_index_tensors():
    module = layer()
    system = make_system(H, D)
    expected = call(module)
    clof_ext.replace_layers(module)
    edges = list(system.edge_index)
    named = {"edge_index": edges, "coord": system.pos, "vel": system.vel, "edge_attr": system.edge_attr}
    h, pos, edge_attr = module(h=system.h, node_attr=None, **named)
    assert edge_attr is system.edge_attr
    assert_same((h, pos), expected)


def test_networks_that_pass_a_pair():
    model = EGNN(1, 2, H, 2)
    h, pos, edges, _, edge_attr = batch()
    expected = model(h, pos.clone(), edges, edge_attr)
    clof_ext.replace_layers(model)
    assert_same([model(h, pos, list(edges), edge_attr)], [expected], rtol=1e-4, atol=1e-5)


def test_autocast():
    model, (h, pos, *rest) = network(), batch()
    exact = model(h, pos.clone(), *rest)
    with torch.autocast("cpu", torch.bfloat16):
        plain = model(h, pos.clone(), *rest)
        clof_ext.replace_layers(model)
        fused = model(h, pos, *rest)
    assert fused.dtype == plain.dtype == torch.float32
    assert (fused - exact).abs().max() < 2 * (plain - exact).abs().max()


def test_second_derivatives():
    """Forces are often a gradient, and are trained on."""
    model, (h, pos, *rest) = network().double(), batch()
    values = [value.double() if value.is_floating_point() else value for value in rest]

    def curvature() -> torch.Tensor:
        leaf = pos.double().requires_grad_()
        (force,) = torch.autograd.grad(model(h.double(), leaf.clone(), *values).square().sum(), leaf, create_graph=True)
        return torch.autograd.grad(force.square().sum(), leaf)[0]

    expected = curvature()
    clof_ext.replace_layers(model)
    assert_same([curvature()], [expected], rtol=1e-8, atol=1e-8)


def test_pair_is_joined_once_and_again_after_a_change():
    row, col = torch.tensor([0, 1]), torch.tensor([1, 0])
    first = joined([row, col])
    assert joined((row, col)) is first
    row[0] = 1
    assert joined((row, col)).tolist() == [[1, 1], [1, 0]]


def test_positions_are_not_written():
    module = layer()
    clof_ext.replace_layers(module)
    h, edge_index, pos, vel, edge_attr = arguments(module)
    before = pos.clone()
    module(h, edge_index, pos, vel, edge_attr)
    assert torch.equal(pos, before)


def test_half_precision_positions():
    module = layer().float()
    expected = call_in(torch.float32, module)
    clof_ext.replace_layers(module)
    h, pos = call_in(torch.bfloat16, module.bfloat16())
    assert h.dtype == pos.dtype == torch.bfloat16
    assert_same((h.float(), pos.float()), expected, rtol=0.1, atol=0.1)


def call_in(dtype: torch.dtype, module: nn.Module):
    """Call with floating arguments in another dtype."""
    values = [value.to(dtype) if value.is_floating_point() else value for value in arguments(module)]
    return module(*[value.clone() for value in values])[:2]


class Derived(Clof_GCL):
    def move(self, coord, edge_index, message):
        return coord


def with_extra_part() -> nn.Module:
    module = layer()
    module.gru = nn.GRUCell(H, H)
    return module


def with_extra_parameter() -> nn.Module:
    module = layer()
    module.scale = nn.Parameter(torch.ones(1))
    return module


def with_part(name: str, part: nn.Module | None) -> nn.Module:
    module = layer()
    if part is None:
        delattr(module, name)
    else:
        setattr(module, name, part)
    return module


def with_linear(linear: nn.Module) -> nn.Module:
    module = layer()
    module.edge_mlp[2] = linear.double()
    return module


def with_hook() -> nn.Module:
    module = layer()
    module.edge_mlp[0].register_forward_hook(lambda *_: None)
    return module


def with_own_forward() -> nn.Module:
    module = layer()
    module.forward = lambda *_: None
    return module


def without_attribute() -> nn.Module:
    module = layer()
    del module.norm_diff
    return module


class Widened(nn.Linear):
    """A Linear that computes something else."""

    def forward(self, input):
        return super().forward(input) + 1


def lookalike(name: str, **methods) -> nn.Module:
    """A layer of a class of the published name in which some methods differ."""
    return layer(type(name, (Clof_GCL,), methods))


def summed(self, h, edge_index, coord, vel, edge_attr=None, node_attr=None):
    moved = Clof_GCL.forward(self, h, edge_index, coord.clone(), vel, edge_attr, node_attr)[1]
    return h, moved, edge_attr


def unbounded(self, coord, edge_index, message):
    row, col = edge_index
    coefficients = self.coord_mlp(message)
    vector = sum(a * coefficients[:, k : k + 1] for k, a in enumerate(self.axes(coord[row], coord[col])))
    total = torch.zeros_like(coord).index_add(0, row, vector)
    count = torch.zeros_like(coord[:, :1]).index_add(0, row, torch.ones_like(vector[:, :1]))
    return coord + self.coords_weight * total / count.clamp(min=1)


def only_when(training: bool):
    """A forward that halves the features in one mode."""

    def forward(self, *values):
        h, coord, edge_attr = Clof_GCL.forward(self, *values)
        return (h / 2 if self.training == training else h), coord, edge_attr

    return forward


def with_attention() -> nn.Module:
    """ClofNet's attention layer, which bears the name of EGNN's."""
    return type("E_GCL_vel", (FrameAttention,), {})(H, D, heads=2).double()


LEFT = {
    "attention": (
        with_attention,
        "it is ClofNet's attention layer, which is not fused; nn.FrameAttention is that layer",
    ),
    "changed training": (lambda: lookalike("Clof_GCL", forward=only_when(True)), "its new features differ"),
    "changed evaluation": (lambda: lookalike("Clof_GCL", forward=only_when(False)), "its new features differ"),
    "empty part": (lambda: with_part("coord_mlp", nn.Sequential()), "coord_mlp is not built as published"),
    "unused gate": (lambda: with_part("att_mlp", nn.Sequential(nn.Linear(H, 1), nn.Sigmoid())), "features differ"),
    "derived class": (lambda: layer(Derived), "its class Derived is derived from a published one"),
    "extra part": (with_extra_part, "parts that the published layer has not: gru"),
    "extra parameter": (with_extra_parameter, "parts that the published layer has not: scale"),
    "missing part": (lambda: with_part("layer_norm", None), "lacks parts of the published layer: layer_norm"),
    "other container": (lambda: with_part("coord_mlp", nn.ModuleList()), "coord_mlp must be a Sequential"),
    "other pattern": (lambda: with_part("coord_mlp", nn.Sequential(nn.Linear(H, 3))), "coord_mlp is not built as"),
    "derived Linear": (lambda: with_linear(Widened(H, H)), "edge_mlp is not built as published"),
    "other width": (lambda: with_linear(nn.Linear(H, H + 1)), "fails on a trial graph"),
    "no bias": (lambda: with_linear(nn.Linear(H, H, bias=False)), "fails on a trial graph"),
    "activation": (lambda: layer(act_fn=nn.Mish()), r"its activations, Mish\(\), are not one that"),
    "slope": (lambda: layer(act_fn=nn.LeakyReLU(0.1)), "its activations, LeakyReLU"),
    "two activations": (
        lambda: with_part("coord_mlp", nn.Sequential(nn.Linear(H, H), nn.ReLU(), nn.Linear(H, 3, bias=False))),
        "its activations",
    ),
    "hooks": (with_hook, "edge_mlp has hooks"),
    "own forward": (with_own_forward, "its forward was exchanged by other code"),
    "no attribute": (without_attribute, "fails on a trial graph: .* has no attribute 'norm_diff'"),
    "normalize": (lambda: plain_egnn.E_GCL(H, H, D, normalize=True), "normalize=True"),
    "changed features": (lambda: lookalike("Clof_GCL", forward=summed), "its new features differ"),
    "changed bound": (lambda: lookalike("Clof_GCL", move=unbounded), "its new positions differ"),
    "changed result": (
        lambda: lookalike("Clof_GCL", forward=lambda self, *a, **k: Clof_GCL.forward(self, *a, **k)[:2]),
        "does not return features, positions and edge_attr",
    ),
    "failing": (lambda: lookalike("Clof_GCL", axes=lambda self, *_: 1 / 0), "fails on a trial graph: division by zero"),
}


@pytest.mark.parametrize(("make", "reason"), LEFT.values(), ids=LEFT)
def test_left_with_a_reason(make, reason):
    module = nn.ModuleDict({"one": make(), "two": layer()})
    own = vars(module["one"]).get("forward")
    report = clof_ext.replace_layers(module)
    assert set(report.left) == {"one"}
    assert set(report.replaced) == {"two"}
    with pytest.raises(AssertionError, match=reason):
        raise AssertionError(report.left["one"])
    assert vars(module["one"]).get("forward") is own


def test_parametrized_node_parts():
    module = layer()
    parametrizations.weight_norm(module.node_mlp[0])
    expected = call(module)
    assert clof_ext.replace_layers(module).replaced
    assert_same(call(module), expected)


def test_whatever_goes_wrong_in_a_layer_it_is_left():
    model = nn.Sequential(layer(), layer())
    model[1].node_mlp[0] = nn.LazyLinear(H)
    report = clof_ext.replace_layers(model)
    assert set(report.replaced) == {"0"}
    assert set(report.left) == {"1"}


def test_interrupted(monkeypatch):
    """The model is as it was."""
    model = nn.Sequential(layer(), layer())
    probe = families.probe

    def interrupted(forward: FusedForward) -> None:
        if forward.layer is model[1]:
            raise KeyboardInterrupt
        probe(forward)

    monkeypatch.setattr(families, "probe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        clof_ext.replace_layers(model)
    assert not any("forward" in vars(one) for one in model)


def test_state_hooks_and_optimizers_stay():
    model = network()
    seen = []
    model.gcl_0.register_forward_hook(lambda *_: seen.append("layer"))
    model.gcl_0.node_mlp.register_forward_hook(lambda *_: seen.append("part"))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    names, parameters = list(model.state_dict()), list(model.parameters())
    model.eval()
    assert clof_ext.replace_layers(model).replaced
    assert not seen, "recognising a layer must not call its hooks"
    assert list(model.state_dict()) == names
    assert not model.training
    assert all(a is b for a, b in zip(model.parameters(), parameters, strict=True))
    before = model(*batch())
    assert seen == ["part", "layer"]
    before.square().sum().backward()
    optimizer.step()
    assert not torch.allclose(model(*batch()), before)


def test_hooks_that_come_later_are_called():
    module = layer()
    expected = call(module)
    clof_ext.replace_layers(module)
    seen = []
    handle = module.edge_mlp.register_forward_hook(lambda *_: seen.append(1))
    assert_same(call(module), expected)
    assert seen == [1]
    handle.remove()
    assert_same(call(module), expected)
    assert seen == [1]


def test_recognising_leaves_weights_gradients_and_random_numbers():
    module = layer(tanh=True)
    call(module)[0].sum().backward()
    state = {
        name: (value.clone(), value.grad.clone()) for name, value in module.named_parameters() if value.grad is not None
    }
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    assert clof_ext.replace_layers(module).replaced
    assert torch.equal(torch.rand(1), expected)
    for name, (value, gradient) in state.items():
        assert torch.equal(module.get_parameter(name), value)
        assert torch.equal(module.get_parameter(name).grad, gradient)


@pytest.mark.parametrize("duplicate", [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_use_their_own_weights(duplicate):
    model = network()
    clof_ext.replace_layers(model)
    twin = duplicate(model)
    assert twin.gcl_0.forward.layer is twin.gcl_0
    expected = model(*batch())
    for parameter in model.parameters():
        parameter.data.zero_()
    torch.testing.assert_close(twin(*batch()), expected)
    clof_ext.restore_layers(twin)
    assert "forward" not in vars(twin.gcl_0)


def test_meta_layers_can_be_replaced_before_they_get_memory():
    with torch.device("meta"):
        module = Clof_GCL(H, H, H, edges_in_d=D)
    assert clof_ext.replace_layers(module).replaced
    module.to_empty(device="cpu").double().load_state_dict(layer().state_dict())
    assert_same(call(module), call(layer()))


def test_replaced_in_a_block():
    model = nn.ModuleList([layer(), layer()])
    clof_ext.replace_layers(model[0])
    with clof_ext.replaced(model) as report:
        assert report.replaced == {"1": "Clof_GCL"}
        assert report.left == {"0": "Clof_GCL: it was replaced before"}
        assert isinstance(model[1].forward, FusedForward)
    assert isinstance(model[0].forward, FusedForward)
    assert "forward" not in vars(model[1])


def test_block_restores_after_an_error():
    model = network()
    with pytest.raises(KeyError), clof_ext.replaced(model):
        raise KeyError
    assert "forward" not in vars(model.gcl_0)


def test_report():
    model = nn.ModuleDict({"a": layer(), "b": layer(Derived)})
    report = clof_ext.replace_layers(model)
    text = str(report)
    assert "Replaced 1 of 2 published layers." in text
    assert "replaced a: Clof_GCL" in text
    assert "left b: Derived: its class Derived is derived" in text
    assert json.loads(json.dumps(report.as_dict())) == {
        "replaced": {"a": "Clof_GCL"},
        "left": report.left,
        "verified": None,
    }


def test_report_of_nothing():
    report = str(clof_ext.replace_layers(nn.Linear(1, 1)))
    assert report.startswith("No layer of a published class (Clof_GCL, E_GCL, E_GCL_vel, EquivariantBlock, EGNNConv, ")
    assert report.endswith(") was found; nothing was replaced.")


def test_errors():
    for options in ({"tolerance": 1e-3}, {"verify": batch(), "tolerance": 0.0}):
        with pytest.raises(ValueError, match=r"tolerance must be above 0, beside verify; got"):
            clof_ext.replace_layers(network(), **options)
    with pytest.raises(TypeError, match=r"model must be a torch.nn.Module; got list"):
        clof_ext.replace_layers([])
    with pytest.raises(TypeError, match=r"verify must be the arguments of a call of the model, .* got Tensor"):
        clof_ext.replace_layers(network(), verify=torch.ones(1))
