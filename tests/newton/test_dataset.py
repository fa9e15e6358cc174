"""The prediction task: frames, graphs and batches."""

import pytest
import torch

from clof_ext import prepare_graph
from clof_ext.newton import fully_connected, make_batch, make_samples


def trajectories(n_systems=4, n_particles=3, frames=41):
    generator = torch.Generator().manual_seed(1)
    loc, vel = torch.randn(2, n_systems, frames, n_particles, 3, dtype=torch.float64, generator=generator)
    charges = torch.randint(2, (n_systems, n_particles), generator=generator).double() * 2 - 1
    return loc, vel, charges


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_samples_are_frame_30_and_the_positions_of_frame_40(dtype):
    loc, vel, charges = trajectories()
    samples = make_samples(loc, vel, charges, dtype=dtype)
    assert len(samples) == 4
    for tensor, expected in (
        (samples.pos, loc[:, 30]),
        (samples.vel, vel[:, 30]),
        (samples.target, loc[:, 40]),
        (samples.charges, charges),
    ):
        assert tensor.dtype == dtype and torch.equal(tensor, expected.to(dtype))


def test_fully_connected_graphs():
    assert fully_connected(3, 2).tolist() == [
        [0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5],
        [1, 2, 0, 2, 0, 1, 4, 5, 3, 5, 3, 4],
    ]
    assert fully_connected(1, 5).shape == (2, 0)
    plan = prepare_graph(fully_connected(5, 7), 35)
    assert torch.equal(plan.edges[2], torch.arange(140, dtype=torch.int32))
    # No edge joins two systems.
    assert not plan.offsets[2, ::5].any() and plan.offsets[2].any()


@pytest.mark.parametrize("systems", [torch.tensor([2, 0]), slice(1, 3)])
def test_a_batch_is_the_chosen_systems_as_one_graph(systems):
    samples = make_samples(*trajectories(), dtype=torch.float64)
    edge_index = fully_connected(3, 2)
    batch = make_batch(samples, systems, edge_index)
    chosen = systems.tolist() if isinstance(systems, torch.Tensor) else [1, 2]
    assert batch.edge_index is edge_index
    assert batch.batch.tolist() == [0, 0, 0, 1, 1, 1]
    for node in range(6):
        system, particle = chosen[node // 3], node % 3
        assert torch.equal(batch.pos[node], samples.pos[system, particle])
        assert torch.equal(batch.vel[node], samples.vel[system, particle])
        assert torch.equal(batch.target[node], samples.target[system, particle])
        torch.testing.assert_close(batch.h[node, 0], samples.vel[system, particle].norm())
    charges = samples.charges[chosen].flatten()
    for (i, j), (product, squared) in zip(edge_index.T.tolist(), batch.edge_attr, strict=True):
        assert product == charges[i] * charges[j]
        torch.testing.assert_close(squared, (batch.pos[i] - batch.pos[j]).norm() ** 2)


def test_wrong_arguments_are_named():
    loc, vel, charges = trajectories()
    with pytest.raises(ValueError, match="loc must have more than 40 frames, the target's number; got 40."):
        make_samples(loc[:, :40], vel[:, :40], charges)
    with pytest.raises(ValueError, match=r"charges must have shape \(4, 3\); got \(3, 4\)."):
        make_samples(loc, vel, charges.T)
    with pytest.raises(TypeError, match="vel must be a torch.Tensor; got ndarray."):
        make_samples(loc, vel.numpy(), charges)
    with pytest.raises(ValueError, match="n_systems must be at least 1; got 0."):
        fully_connected(3, 0)
    with pytest.raises(ValueError, match=r"edge_index must have shape \(2, 12\); got \(2, 6\)."):
        make_batch(make_samples(loc, vel, charges), slice(0, 2), fully_connected(3, 1))
