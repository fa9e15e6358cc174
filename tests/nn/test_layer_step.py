"""A layer as one step of autograd gives what its ops give one by one."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from clof_ext import _backends
from clof_ext.nn import FrameConv, frame_conv, layer_step
from tests.systems import DEVICES, make_system

pytestmark = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
HIDDEN, EDGE_DIM = 8, 3
OPTIONS = {
    "ClofNet": {"velocity": True},
    "EGNN": {"basis": "radial"},
    "EGNN with velocities": {"basis": "radial", "velocity": True, "frame": "raw"},
    "gate": {"attention": True, "tanh": True, "velocity": True},
    "nothing added": {"recurrent": False, "layer_norm": False, "mlp_depth": 1},
    "weighted vectors": {"coords_weight": 0.3, "velocity": True},
    "attributes of nodes": {"node_attr_dim": 2, "velocity": True, "activation": "tanh"},
    "no edge features": {"edge_dim": 0},
}
# Largest difference in units of the largest value: of float32, one order of sums from another; of bfloat16, a rounding.
TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 2e-2}


class Case:
    """A layer and what it is called with: h, pos and the rest that may want gradients."""

    def __init__(self, name: str, dtype: torch.dtype = torch.float64, device: str = "cpu") -> None:
        torch.manual_seed(0)
        options = dict(OPTIONS[name])
        self.layer = FrameConv(HIDDEN, HIDDEN, options.pop("edge_dim", EDGE_DIM), **options).to(device, dtype)
        torch.nn.init.normal_(self.layer.coord_mlp[2].weight)
        system = make_system(HIDDEN, EDGE_DIM)
        self.edges = system.edge_index.to(device)
        given = {"h": system.h, "pos": system.pos}
        given |= {"edge_attr": system.edge_attr} if self.layer.edge_dim else {}
        given |= {"vel": system.vel} if hasattr(self.layer, "coord_mlp_vel") else {}
        given |= {"node_attr": torch.randn(len(system.pos), 2)} if self.layer.node_attr_dim else {}
        self.given = {key: value.to(device, dtype).requires_grad_() for key, value in given.items()}

    def __call__(self) -> tuple[Tensor, Tensor]:
        return self.layer(edge_index=self.edges, **self.given)

    def leaves(self) -> list[Tensor]:
        return [*self.given.values(), *self.layer.parameters()]

    def first(self) -> list[Tensor | None]:
        """Results and all gradients of them."""
        out = self()
        loss = sum(
            value.float().square().sum() if value.dtype != torch.float64 else value.square().sum() for value in out
        )
        return [*out, *torch.autograd.grad(loss, self.leaves())]

    def second(self) -> list[Tensor | None]:
        """The gradients of a force's square, which reach every leaf but biases that the force does not depend on."""
        h, pos = self()
        (force,) = torch.autograd.grad(h.square().sum() + pos.square().sum(), self.given["pos"], create_graph=True)
        return [force, *torch.autograd.grad(force.square().sum(), self.leaves(), allow_unused=True)]


@contextmanager
def op_by_op(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with monkeypatch.context() as patch:
        patch.setattr(frame_conv, "layer_step", lambda *_: None)
        yield


def is_one_step(result: Tensor) -> bool:
    return type(result.grad_fn).__qualname__ == f"{layer_step._Recorded.__name__}Backward"


def assert_same(found: list[Tensor | None], expected: list[Tensor | None], tolerance: float) -> None:
    for number, (one, two) in enumerate(zip(found, expected, strict=True)):
        assert (one is None) == (two is None) and (one is None or one.dtype == two.dtype)
        if one is not None:
            error = (one.double() - two.double()).abs().max().item()
            assert error <= tolerance * two.abs().max().item(), f"array {number} is off by {error:.1e}"


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", OPTIONS)
def test_values_and_gradients(name: str, device: str, monkeypatch):
    # In float64 GPUs leave the perceptrons to torch's own ops: there is no step.
    dtype = torch.float64 if device == "cpu" else torch.float32
    case = Case(name, dtype, device)
    assert is_one_step(case()[1])
    with op_by_op(monkeypatch):
        assert not is_one_step(case()[1])
        expected = case.first()
    assert_same(case.first(), expected, TOLERANCE[dtype])
    with torch.no_grad():
        assert_same(list(case()), expected[:2], 0 if device == "cpu" else TOLERANCE[dtype])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ["ClofNet", "attributes of nodes", "EGNN"])
def test_autocast(name: str, device: str, monkeypatch):
    case = Case(name, torch.float32, device)
    with torch.autocast(device, torch.bfloat16):
        with op_by_op(monkeypatch):
            expected = case.first()
        found = case.first()
    assert_same(found, expected, TOLERANCE[torch.bfloat16])


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", OPTIONS)
def test_second_derivatives(name: str, device: str, monkeypatch):
    dtype = torch.float64 if device == "cpu" else torch.float32
    case = Case(name, dtype, device)
    with op_by_op(monkeypatch):
        expected = case.second()
    assert_same(case.second(), expected, 1e-11 if device == "cpu" else 1e-4)


def test_second_derivatives_under_autocast(monkeypatch):
    case = Case("ClofNet", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        with op_by_op(monkeypatch):
            expected = case.second()
        found = case.second()
    assert_same(found, expected, 5e-2)


@pytest.mark.parametrize("name", ["weighted vectors", "attributes of nodes"])
def test_gradgradcheck(name: str):
    case = Case(name)
    keys = list(case.given)

    def run(*values: Tensor) -> tuple[Tensor, Tensor]:
        return case.layer(edge_index=case.edges, **dict(zip(keys, values, strict=True)))

    assert torch.autograd.gradgradcheck(run, list(case.given.values()))


@pytest.mark.parametrize("of", [0, 1])
def test_a_loss_of_one_result_alone(of: int, monkeypatch):
    case = Case("ClofNet")

    def grads() -> list[Tensor | None]:
        return list(torch.autograd.grad(case()[of].square().sum(), case.leaves(), allow_unused=True))

    with op_by_op(monkeypatch):
        expected = grads()
    found = grads()
    # Of the positions alone node_mlp and the norm have no gradient, of the features coord_mlp_vel has none.
    assert sum(grad is None for grad in found) == (6 if of else 5)
    # The op gives zeros to coord_mlp, which the features do not depend on.
    assert_same(found, expected, TOLERANCE[torch.float64])


def test_what_wants_no_gradient_gets_none():
    case = Case("ClofNet")
    case.given["vel"].requires_grad_(False)
    case.layer.node_mlp.requires_grad_(False)
    h, pos = case()
    (h.sum() + pos.sum()).backward()
    assert case.given["vel"].grad is None
    assert all(parameter.grad is None for parameter in case.layer.node_mlp.parameters())
    assert all(parameter.grad is not None for parameter in case.layer.edge_mlp.parameters())


def test_large_graphs_are_recorded_op_by_op_on_cpus(monkeypatch):
    case = Case("ClofNet")
    monkeypatch.setattr(layer_step, "MAX_RECORDED_EDGES_ON_CPUS", case.edges.shape[1])
    assert is_one_step(case()[1])
    monkeypatch.setattr(layer_step, "MAX_RECORDED_EDGES_ON_CPUS", case.edges.shape[1] - 1)
    assert not is_one_step(case()[1])


def test_a_graph_that_is_kept_is_gone_through_again():
    case = Case("ClofNet")
    loss = sum(value.square().sum() for value in case())
    first, second = (torch.autograd.grad(loss, case.leaves(), retain_graph=kept) for kept in (True, False))
    assert all(torch.equal(one, two) for one, two in zip(first, second))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        torch.autograd.grad(loss, case.leaves())


def test_hooks_of_the_nodes_perceptrons_are_called():
    case, seen = Case("ClofNet"), []
    handle = case.layer.node_mlp[0].register_forward_hook(lambda *_: seen.append("called"))
    with_hook = case()
    handle.remove()
    assert seen == ["called"]
    torch.testing.assert_close(with_hook, case())


def test_what_is_wrong_is_said_by_the_ops():
    case = Case("ClofNet")
    case.given["h"] = torch.randn(len(case.given["pos"]), HIDDEN + 1, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"edge_mlp\[0\] weight must have shape"):
        case()
    case = Case("ClofNet")
    case.given["edge_attr"] = case.given["edge_attr"].float()
    with pytest.raises(TypeError, match="edge_attr must be float64 like h; got float32"):
        case()
    case = Case("ClofNet")
    case.layer.node_mlp[0].weight = torch.nn.Parameter(torch.randn(HIDDEN, 3, dtype=torch.float64))
    with pytest.raises(ValueError, match=r"weights\[0\] must have shape \(out, 16\); got \(8, 3\)"):
        case()


@pytest.mark.parametrize("layer_norm", [False, True])
def test_what_a_hook_was_given_is_not_overwritten(layer_norm: bool):
    """Without gradients the sum of update and h takes the update's memory, if nobody else may hold that."""
    torch.manual_seed(0)
    layer, seen = FrameConv(HIDDEN, HIDDEN, 0, layer_norm=layer_norm), []
    system = make_system(HIDDEN, 0)
    h, pos = system.h.float(), system.pos.float()
    with torch.no_grad():
        expected = layer(h, pos, system.edge_index)
        layer.node_mlp.register_forward_hook(lambda *given: seen.extend((given[2], given[2].clone())))
        found = layer(h, pos, system.edge_index)
    assert_same(list(found), list(expected), TOLERANCE[torch.float32])
    assert torch.equal(*seen)
