"""The networks of the task, by name."""

import math
from dataclasses import replace

import pytest
import torch

from clof_ext.bench import published
from clof_ext.newton import fully_connected, make_batch, make_network, make_samples, predict, simulate
from clof_ext.newton.networks import NETWORKS
from clof_ext.newton.pair_features import pair_features
from clof_ext.training import OptionError


@pytest.fixture(scope="module")
def batch():
    loc, vel = torch.randn(2, 3, 41, 4, 3, generator=torch.Generator().manual_seed(2))
    charges = torch.tensor([[1.0, -1, 1, 1], [-1, -1, 1, 1], [1, 1, 1, -1]])
    return make_batch(make_samples(loc, vel, charges), slice(None), fully_connected(4, 3))


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_predicts_positions_and_learns(name, batch):
    network = make_network(name, 8, 2)
    predicted = predict(network, batch)
    assert predicted.shape == batch.target.shape
    (predicted - batch.target).square().mean().backward()
    assert any(weight.grad is not None and weight.grad.abs().max() > 0 for weight in network.parameters())


@pytest.mark.parametrize("name", ["clofnet", "egnn"])
@pytest.mark.parametrize("option", [{"frame": "orthonormal"}, {"attention": True}, {"tanh": True}])
def test_options_change_the_network(name, option, batch):
    if name == "egnn" and "frame" in option:
        option = {"frame": "raw"}
    results = []
    for options in ({}, option):
        torch.manual_seed(0)
        network = make_network(name, 8, 2, **options)
        for weight in network.parameters():
            # New weights hardly move positions.
            weight.data *= 4
        results.append(predict(network, batch))
    assert not torch.allclose(*results, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "plain"),
    [
        ("clofnet", lambda: published.ClofNet_vel(1, 2, 16)),
        ("clofnet-positions", lambda: published.ClofNet(1, 2, 16)),
        ("clofnet-gaussian", lambda: published.ClofNet_vel_gbf(1, 2, 16)),
        ("egnn", lambda: published.EGNN_vel(1, 2, 16, norm_diff=True, recurrent=True)),
    ],
)
def test_published_weights_load_and_predict_the_same(name, plain, batch):
    original, network = plain().double(), make_network(name, 16).double()
    network.load_state_dict(original.state_dict(), strict=True)
    h, pos, vel, edge_attr = (value.double() for value in (batch.h, batch.pos, batch.vel, batch.edge_attr))
    options = {} if name == "egnn" else {"n_nodes": 4}
    expected = original(h, pos.clone(), list(batch.edge_index), vel, edge_attr, **options)
    found = network(h, pos, batch.edge_index, edge_attr, vel, batch=batch.batch)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6 if name == "clofnet-gaussian" else 1e-10)


def test_pair_features_of_a_pair():
    """A unit charge at rest at the origin and one at (3, 4, 0) with velocity (0, 1, 2)."""
    pos, vel = torch.tensor([[0.0, 0, 0], [3, 4, 0]]), torch.tensor([[0.0, 0, 0], [0, 1, 2]])
    features = pair_features(pos, vel, torch.tensor([0, 1]), torch.tensor([1, 0]), torch.tensor([-1.0, -1.0]))
    momentum = torch.linalg.cross(pos[1], vel[1]).norm().item()
    expected = torch.tensor([-1 / 5.05, math.log(5.05), 5, 4 / 5.05, momentum])
    torch.testing.assert_close(features, expected.expand(2, 5))


def test_pair_features_of_coincident_particles_have_finite_derivatives():
    pos, vel = torch.zeros(2, 3, requires_grad=True), torch.randn(2, 3)
    features = pair_features(pos, vel, torch.tensor([0, 1]), torch.tensor([1, 0]), torch.ones(2))
    features.sum().backward()
    assert features.isfinite().all() and pos.grad.isfinite().all()


@pytest.mark.parametrize("name", ["clofnet", "clofnet-positions", "egnn"])
def test_with_pair_features_networks_stay_equivariant_and_change(name, batch):
    torch.manual_seed(0)
    network = make_network(name, 8, 2, pair_features=True)
    predicted = predict(network, batch)
    assert predicted.shape == batch.target.shape
    rotation = torch.linalg.qr(torch.randn(3, 3))[0]
    rotation = rotation * torch.linalg.det(rotation)
    turned = replace(batch, pos=batch.pos @ rotation.T, vel=batch.vel @ rotation.T)
    torch.testing.assert_close(predict(network, turned), predicted @ rotation.T, atol=1e-5, rtol=1e-5)
    faster = replace(batch, vel=batch.vel * torch.tensor([[2.0], [1], [1], [1]]).repeat(3, 1))
    assert not torch.equal(predict(network, faster), predicted)


def test_pair_features_need_a_network_that_reads_them():
    with pytest.raises(OptionError, match="pair features need a network of clofnet, clofnet-positions, egnn; got gnn."):
        make_network("gnn", pair_features=True)


@pytest.mark.parametrize("name", ["clofnet", "egnn", "gnn"])
def test_in_the_moving_frame_boosts_are_exact_and_momentum_is_kept(name, batch):
    network = make_network(name, 8, 2, moving_frame=True)
    boost = torch.randn(3, 3, generator=torch.Generator().manual_seed(0))[batch.batch]
    boosted = replace(batch, vel=batch.vel + boost, h=(batch.vel + boost).norm(dim=1, keepdim=True))
    predicted = predict(network, batch)
    torch.testing.assert_close(predict(network, boosted), predicted + boost, atol=1e-5, rtol=1e-5)
    center = (predicted - batch.pos - batch.vel).reshape(3, 4, 3).mean(1)
    torch.testing.assert_close(center, torch.zeros(3, 3), atol=1e-5, rtol=0)
    # Without it, a network answers a boost with something else.
    plain = make_network(name, 8, 2)
    assert (predict(plain, boosted) - predict(plain, batch) - boost).abs().max() > 0.01


def test_an_external_field_turns_with_its_systems(batch):
    torch.manual_seed(0)
    network = make_network("clofnet", 8, 2, external_field=True)
    with torch.no_grad():
        network.gravity.copy_(torch.tensor([0.0, 0.3, -0.2]))
        network.turn_before.copy_(torch.tensor([0.5, -0.1, 0.2]))
        network.turn_after.copy_(torch.tensor([-0.3, 0.2, 0.4]))
    predicted = predict(network, batch)
    rotation = torch.linalg.qr(torch.randn(3, 3))[0]
    rotation = rotation * torch.linalg.det(rotation)
    turned = replace(batch, pos=batch.pos @ rotation.T, vel=batch.vel @ rotation.T)
    assert (predict(network, turned) - predicted @ rotation.T).abs().max() > 0.01
    with torch.no_grad():
        network.gravity.copy_(rotation @ network.gravity)
        network.turn_before.copy_(rotation @ network.turn_before)
        network.turn_after.copy_(rotation @ network.turn_after)
    torch.testing.assert_close(predict(network, turned), predicted @ rotation.T, atol=1e-5, rtol=1e-5)


def test_without_weights_an_external_field_changes_nothing(batch):
    torch.manual_seed(0)
    plain = make_network("clofnet", 8, 2)
    torch.manual_seed(0)
    assert torch.equal(predict(make_network("clofnet", 8, 2, external_field=True), batch), predict(plain, batch))


def test_the_field_of_lone_charges_is_found():
    """Charges that nothing but B = (0.5, 0.5, 0.5) acts on: to first order they move by t v + t^2 / 2 q v x B."""
    loc, vel, charges = simulate("lorentz", n_particles=1, seeds=range(64))
    charged = make_batch(make_samples(loc, vel, charges), slice(None), fully_connected(1, 64))
    network = make_network("linear", external_field=True)
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=100, line_search_fn="strong_wolfe")

    def loss():
        optimizer.zero_grad()
        error = (predict(network, charged) - charged.target).square().mean()
        error.backward()
        return error

    optimizer.step(loss)
    assert loss() < 1e-3 < (charged.pos + charged.vel - charged.target).square().mean()
    turn = (network.turn_before + network.turn_after).detach()
    torch.testing.assert_close(turn, torch.full((3,), 0.25), atol=0.03, rtol=0)
    assert network.gravity.abs().max() < 0.02


def test_a_wrong_name_gets_a_sentence():
    with pytest.raises(ValueError, match="name must be one of 'clofnet', .*; got 'cnn'."):
        make_network("cnn")
