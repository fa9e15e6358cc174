"""Layers that are changed after they were replaced: they run as their class says, never as they were before."""

import copy
import pickle
from types import MethodType

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

import clof_ext
from benchmarks import diffusion as edm
from clof_ext.bench.published import E_GCL, Clof_GCL
from clof_ext.nn.families.made import is_still
from clof_ext.nn.mlp import weights_to_read
from tests.lookalikes import egnn_pytorch
from tests.models.test_replace import H, arguments, assert_same, batch, layer, network
from tests.models.test_replaced_in_torch import MODELS, plain
from tests.models.test_replaced_in_torch import batch as small_batch


class Adapted(nn.Linear):
    """A Linear with a low-rank update, in its place."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__(base.in_features, base.out_features)
        self.weight, self.bias = base.weight, base.bias
        self.down, self.up = nn.Linear(base.in_features, 2).double(), nn.Linear(2, base.out_features).double()

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.up(self.down(x))


class Wrapped(nn.Module):
    """The same around a Linear."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base, self.down = base, nn.Linear(base.in_features, 2).double()
        self.up = nn.Linear(2, base.out_features).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x))


class Doubled(nn.SiLU):
    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


def exchanged(path: str, make) -> object:
    """A change of the module at a path."""

    def change(module: nn.Module) -> None:
        owner, name = path.rsplit(".", 1)
        setattr(module.get_submodule(owner), name, make(module.get_submodule(path)))

    return change


def doubled_forward(path: str) -> object:
    def change(module: nn.Module) -> None:
        part = module.get_submodule(path)
        part.forward = lambda *values: 2 * type(part).forward(part, *values)

    return change


def doubled_features(module: nn.Module) -> None:
    module.features = MethodType(lambda self, *values: 2 * type(self).features(self, *values), module)


def option(name: str, value: object, path: str = "") -> object:
    return lambda module: setattr(module.get_submodule(path), name, value)


def normed(path: str) -> object:
    return lambda module: module.get_submodule(path).append(nn.LayerNorm(H).double()) and None


def relu(module: nn.Module) -> None:
    for name, part in [*module.named_modules()]:
        if type(part) is nn.SiLU:
            exchanged(name, lambda _: nn.ReLU())(module)


CHANGES = {
    "recurrent": option("recurrent", False),
    "coords_weight": option("coords_weight", 3.0),
    "norm_diff": option("norm_diff", True),
    "activation": exchanged("edge_mlp.1", lambda _: nn.ReLU()),
    "activations": relu,
    "derived activation": exchanged("edge_mlp.1", lambda _: Doubled()),
    "activation of nodes": exchanged("node_mlp.1", lambda _: nn.ReLU()),
    "part": exchanged("edge_mlp.0", lambda old: Wrapped(old)),
    "part of nodes": lambda module: setattr(
        module, "node_mlp", nn.Sequential(nn.Linear(2 * H, H), nn.Tanh(), nn.Linear(H, H)).double()
    ),
    "norm behind edge_mlp": normed("edge_mlp"),
    "norm behind node_mlp": normed("node_mlp"),
    **{f"adapted {name}": exchanged(name, Adapted) for name in ("edge_mlp.0", "coord_mlp.0", "node_mlp.2")},
    **{f"wrapped {name}": exchanged(name, Wrapped) for name in ("edge_mlp.2", "coord_mlp.0", "node_mlp.0")},
    **{f"forward of {name}": doubled_forward(name) for name in ("edge_mlp", "edge_mlp.0", "edge_mlp.1", "node_mlp.2")},
    "method": doubled_features,
    "no bias": lambda module: module.edge_mlp[0].register_parameter("bias", None),
    "no bias in nodes": lambda module: module.node_mlp[0].register_parameter("bias", None),
    "class": lambda module: setattr(module.edge_mlp[1], "__class__", Doubled),
}
KINDS = {"Clof_GCL": Clof_GCL, "E_GCL": E_GCL}


def own(module: nn.Module, values) -> list[Tensor]:
    return type(module).forward(module, *(value.clone() for value in values))[:2]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_changed_layer(kind, change):
    module = layer(kind)
    values = arguments(module)
    assert clof_ext.replace_layers(module).replaced
    before = module(*values)
    change(module)
    expected = own(module, values)
    assert any((new - old).abs().max() > 1e-3 for new, old in zip(expected, before))
    assert_same(module(*values)[:2], expected)


def test_option_of_an_activation():
    module = layer(E_GCL, act_fn=nn.LeakyReLU(0.2))
    assert clof_ext.replace_layers(module).replaced
    for part in module.modules():
        if isinstance(part, nn.LeakyReLU):
            part.negative_slope = 0.5
    values = arguments(module)
    expected = own(module, values)
    assert_same(module(*values)[:2], expected)


UNCHANGED = {
    "as it was": lambda module: None,
    "evaluation": lambda module: module.eval() and None,
    "attribute": lambda module: setattr(module, "tag", "mine"),
    "weights": lambda module: module.edge_mlp[0].register_parameter("weight", copy.deepcopy(module.edge_mlp[0].weight)),
    "frozen": lambda module: module.requires_grad_(False) and None,
    "precision": lambda module: module.float().double() and None,
    "parametrization": lambda module: parametrizations.weight_norm(module.edge_mlp[0]) and None,
}


@pytest.mark.parametrize("change", UNCHANGED.values(), ids=UNCHANGED)
@pytest.mark.parametrize("duplicate", [lambda module: module, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_what_changes_no_formula_stays_fused(change, duplicate):
    module = layer()
    clof_ext.replace_layers(module)
    module = duplicate(module)
    change(module)
    assert is_still(module.forward.made)
    values = arguments(module)
    for value, wanted in zip(module(*values), own(module, values), strict=False):
        torch.testing.assert_close(value, wanted, rtol=1e-10, atol=1e-10)


def test_back_again():
    module = layer()
    clof_ext.replace_layers(module)
    module.recurrent = False
    assert not is_still(module.forward.made)
    module.recurrent = True
    assert is_still(module.forward.made)


IN_A_BLOCK = {
    "norm_constant": option("norm_constant", 0.5),
    "scaling": option("normalization_factor", 3.0, "gcl_0"),
    "update": option("normalization_factor", 3.0, "gcl_equiv"),
    "activation": exchanged("gcl_0.edge_mlp.1", lambda _: nn.ReLU()),
    "activation of nodes": exchanged("gcl_0.node_mlp.1", lambda _: nn.ReLU()),
    "adapted": exchanged("gcl_equiv.coord_mlp.0", Adapted),
    "method": option("bounded", torch.tanh, "gcl_equiv"),
}


@pytest.mark.parametrize("change", IN_A_BLOCK.values(), ids=IN_A_BLOCK)
def test_changed_block_of_diffusion(change):
    torch.manual_seed(0)
    block = edm.EquivariantBlock(H, n_layers=1, normalization_factor=1).double()
    for parameter in block.parameters():
        nn.init.normal_(parameter, std=parameter.shape[-1] ** -0.5)
    given = small_batch()
    named = {
        "h": torch.randn(len(given["x"]), H).double(),
        "x": given["x"],
        "edge_index": [given["row"], given["col"]],
        "edge_attr": torch.rand(len(given["row"]), 1).double(),
    }
    assert clof_ext.replace_layers(block).replaced
    before = block(**named)
    change(block)
    expected = type(block).forward(block, **named)
    assert any((new - old).abs().max() > 1e-3 for new, old in zip(expected, before))
    assert_same(block(**named), expected)


def test_changed_layer_of_egnn_pytorch():
    torch.manual_seed(0)
    module = egnn_pytorch.EGNN(H).double()
    values = torch.randn(2, 5, H).double(), torch.randn(2, 5, 3).double()
    assert clof_ext.replace_layers(module).replaced
    for change in (option("m_pool_method", "mean"), exchanged("edge_mlp.2", lambda _: nn.ReLU())):
        change(module)
        expected = type(module).forward(module, *values)
        assert_same(module(*values)[:2], expected)


def test_nodes_are_fused_where_nothing_has_changed():
    """The perceptrons of egnn-pytorch hold an Identity in the place of dropout."""
    for module in (egnn_pytorch.EGNN(H), layer(), edm.EquivariantBlock(H, n_layers=1).gcl_0):
        assert len(weights_to_read(module.node_mlp, "silu")) == 4


def test_changed_network():
    model = network()
    values = batch()
    assert "(the model itself)" in clof_ext.replace_layers(model).replaced
    model.fuse_edge[1] = nn.ReLU()
    assert not is_still(model.forward.made)
    assert is_still(model.gcl_0.forward.made)
    copies = [value.clone() for value in values]
    assert torch.equal(model(*values), type(model).forward(model, *copies))


@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_compiled_again_after_a_change(make):
    """What was traced is not what runs after the change."""
    torch._dynamo.reset()
    model = plain(make)
    clof_ext.replace_layers(model)
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    before = compiled(**small_batch())
    relu(model)
    expected = model(**small_batch())
    assert (expected - before).abs().max() > 1e-3
    torch.testing.assert_close(compiled(**small_batch()), expected, rtol=1e-9, atol=1e-9)
