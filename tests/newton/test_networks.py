"""The networks of the task, by name."""

import pytest
import torch

from benchmarks import published
from clof_ext.newton import fully_connected, make_batch, make_network, make_samples, predict
from clof_ext.newton.networks import NETWORKS


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


def test_a_wrong_name_gets_a_sentence():
    with pytest.raises(ValueError, match="name must be one of 'clofnet', .*; got 'cnn'."):
        make_network("cnn")
