"""Replacing ClofNet's own networks: their edge features, beside their layers."""

import copy

import pytest
import torch
from torch import Tensor, nn

import clof_ext
from clof_ext.bench.published import ClofNet, ClofNet_vel, ClofNet_vel_gbf

N_NODES, N_GRAPHS, H = 5, 3, 8
NETWORKS = {
    "with velocities": (ClofNet_vel, {}),
    "without": (ClofNet, {}),
    "without, raw frames": (ClofNet, {"norm_diff": False}),
    "raw frames in the layers": (ClofNet_vel, {"norm_diff": False}),
    "Gaussian": (ClofNet_vel_gbf, {}),
    "leaky": (ClofNet_vel, {"act_fn": nn.LeakyReLU(0.2)}),
    "gated": (ClofNet_vel, {"attention": True}),
}
ITSELF = "(the model itself)"


def make(name: str) -> nn.Module:
    torch.manual_seed(0)
    kind, options = NETWORKS[name]
    return kind(1, 2, H, n_layers=2, **options).double()


def batch() -> dict[str, Tensor | list[Tensor] | int]:
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    one = torch.ones(N_NODES, N_NODES).fill_diagonal_(0).nonzero().T
    edges = torch.cat([one + N_NODES * k for k in range(N_GRAPHS)], 1)
    nodes = N_NODES * N_GRAPHS
    types = random(edges.shape[1], 1).sign()
    return {
        "h": random(nodes, 1),
        "x": random(nodes, 3),
        "edges": list(edges),
        "vel": random(nodes, 3),
        "edge_attr": torch.cat([types, random(edges.shape[1], 1)], 1),
        "n_nodes": N_NODES,
    }


def results(model: nn.Module) -> list[Tensor]:
    """Positions, and the gradients of positions, velocities and weights."""
    inputs = batch()
    leaves = [inputs[name].requires_grad_() for name in ("x", "vel")]
    out = model(**{**inputs, "x": inputs["x"] * 1})
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    loss = (out * torch.linspace(0.5, 2, out.numel(), dtype=out.dtype).reshape(out.shape)).sum()
    return [out, *torch.autograd.grad(loss, [*leaves, *weights], allow_unused=True, materialize_grads=True)]


def assert_same(found: list[Tensor], expected: list[Tensor]) -> None:
    for value, truth in zip(found, expected, strict=True):
        torch.testing.assert_close(value, truth, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("name", NETWORKS)
def test_replaced_network_computes_the_same(name):
    model = make(name)
    expected = results(model)
    report = clof_ext.replace_layers(model)
    assert report.replaced[ITSELF] == type(model).__name__
    assert {*report.replaced} == {ITSELF, "gcl_0", "gcl_1"} and not report.left
    assert_same(results(model), expected)
    clof_ext.restore_layers(model)
    assert all(torch.equal(one, two) for one, two in zip(results(model), expected, strict=True))


def test_a_network_whose_layers_were_replaced_before():
    model = make("with velocities")
    expected = results(model)
    clof_ext.replace_layers(model.gcl_0)
    report = clof_ext.replace_layers(model)
    assert {*report.replaced} == {ITSELF, "gcl_1"} and {*report.left} == {"gcl_0"}
    assert_same(results(model), expected)


def test_patched_classes_make_replaced_networks():
    from clof_ext.bench import published

    expected = results(make("with velocities"))
    with clof_ext.patch(published) as report:
        model = make("with velocities")
    assert {*report.replaced} == {"ClofNet_vel 0", "Clof_GCL 0", "Clof_GCL 1"} and not report.left
    assert_same(results(model), expected)


def test_layers_are_replaced_where_the_network_is_left():
    class Scaled(ClofNet_vel):
        def edge_features(self, *arguments):
            return 2 * super().edge_features(*arguments)

    Scaled.__name__ = "ClofNet_vel"
    torch.manual_seed(0)
    model = Scaled(1, 2, H, n_layers=2).double()
    expected = results(model)
    report = clof_ext.replace_layers(model)
    assert {*report.replaced} == {"gcl_0", "gcl_1"}
    assert "positions differ" in report.left[ITSELF]
    assert_same(results(model), expected)


def test_a_derived_network_is_left():
    model = type("Mine", (ClofNet_vel,), {})(1, 2, H, n_layers=1)
    report = clof_ext.replace_layers(model)
    assert "Mine is derived from a published one" in report.left[ITSELF]
    assert {*report.replaced} == {"gcl_0"}


def test_hooks_on_the_edge_features_are_called():
    model, seen = make("with velocities"), []
    expected = results(model)
    clof_ext.replace_layers(model)
    model.fuse_edge.register_forward_hook(lambda *_: seen.append(True))
    assert_same(results(model), expected)
    assert seen


def test_the_packages_own_network_is_no_candidate():
    report = clof_ext.replace_layers(clof_ext.models.ClofNet(1, 2, H))
    assert not report.replaced and not report.left


def test_copies_use_their_own_weights():
    model = make("with velocities")
    clof_ext.replace_layers(model)
    twin = copy.deepcopy(model)
    before = results(model)[0]
    with torch.no_grad():
        for weight in twin.parameters():
            weight.mul_(1.5)
    assert torch.equal(results(model)[0], before)
    assert not torch.allclose(results(twin)[0], before)
    clof_ext.restore_layers(model)
    assert_same(results(model)[:1], [before])
