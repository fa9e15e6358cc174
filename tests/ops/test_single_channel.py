"""Tensors without an axis of channels: as with an axis of one."""

import pytest
import torch

from clof_ext import ops
from tests.systems import make_system

ORDERS = (0, 1, 2, 3)


def drawn(*shape: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("source", ["receiver", "edge"])
def test_project(order, source):
    system = make_system(1, 1)
    rows = len(system.edge_attr) if source == "edge" else len(system.pos)
    tensor = drawn(rows, *[3] * order)
    call = (system.pos, system.edge_index)
    scalars = ops.project(tensor, *call, order=order, source=source)
    assert scalars.shape == (len(system.edge_attr), 3**order)
    assert torch.equal(scalars, ops.project(tensor[:, None], *call, order=order, source=source)[:, 0])


@pytest.mark.parametrize("order", ORDERS)
def test_aggregate(order):
    system = make_system(1, 1)
    scalars = drawn(len(system.edge_attr), 3**order)
    call = (system.pos, system.edge_index)
    tensor = ops.aggregate(scalars, *call, order=order)
    assert tensor.shape == (len(system.pos), *[3] * order)
    assert torch.equal(tensor, ops.aggregate(scalars[:, None], *call, order=order)[:, 0])


def test_velocities():
    """The scalars F v_i of every edge, as ``edge_scalars`` has them."""
    system = make_system(1, 1)
    along = ops.project(system.vel, system.pos, system.edge_index)
    torch.testing.assert_close(along, ops.edge_scalars(system.pos, system.edge_index, system.vel)[:, 8:11])


def test_errors():
    system = make_system(1, 1)
    with pytest.raises(ValueError, match=r"tensor must have shape \(7, 3\); got \(5, 3\)"):
        ops.project(system.vel[:5], system.pos, system.edge_index)
    with pytest.raises(ValueError, match=r"tensor must have shape \(7, K\); got \(\)"):
        ops.project(torch.ones(()).double(), system.pos, system.edge_index, order=0)
    with pytest.raises(ValueError, match=r"scalars must have shape \(12, 3\); got \(5, 3\)"):
        ops.aggregate(drawn(5, 3), system.pos, system.edge_index)
