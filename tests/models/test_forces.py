"""A force model: energies are differentiated for forces, and forces for their training."""

import pytest
import torch
from torch import Tensor

import clof_ext
from benchmarks import diffusion as edm
from clof_ext.newton import fully_connected
from examples import forces

N = forces.N_PARTICLES


def model() -> forces.Energy:
    """A network whose layers move positions, and whose forces are of order one."""
    torch.manual_seed(0)
    network = forces.Energy(hidden=8).double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=1.5 * parameter.shape[-1] ** -0.5)
    return network


def positions(n_systems: int = 1) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(n_systems, N, 3, generator=generator, dtype=torch.float64)


def force_of(network, pos: Tensor) -> Tensor:
    return forces.forces(network, pos, fully_connected(N, pos.shape[0]))[1]


def test_the_jacobian_of_forces_is_symmetric():
    """It is minus the Hessian of the energy; two derivatives through the fused block agree with differences."""
    network, pos = model(), positions()
    jacobian = torch.autograd.functional.jacobian(lambda x: force_of(network, x), pos).reshape(3 * N, 3 * N)
    assert jacobian.abs().max() > 0.01
    torch.testing.assert_close(jacobian, jacobian.T, rtol=1e-10, atol=1e-12)
    step = 1e-5
    along = torch.eye(3 * N, dtype=torch.float64).reshape(-1, 1, N, 3) * step
    columns = [(force_of(network, pos + d) - force_of(network, pos - d)).flatten() / (2 * step) for d in along]
    torch.testing.assert_close(jacobian, torch.stack(columns, 1), rtol=1e-6, atol=1e-8)


def test_forces_turn_with_the_system_and_sum_to_zero():
    network, pos = model(), positions()
    force = force_of(network, pos)
    assert force.abs().max() > 0.01
    turn = torch.linalg.qr(positions()[0, :3]).Q
    torch.testing.assert_close(force_of(network, pos @ turn.T + 1.0), force @ turn.T, rtol=1e-9, atol=1e-11)
    torch.testing.assert_close(force.sum(1), torch.zeros(1, 3, dtype=torch.float64), rtol=0, atol=1e-12)


def test_weights_get_the_gradients_of_the_reference():
    """Training on forces differentiates the backward pass in the weights."""

    def gradients() -> list[Tensor]:
        network, pos = model(), positions(2)
        loss = (force_of(network, pos) - forces.true_forces(pos)).square().mean()
        return list(torch.autograd.grad(loss, list(network.parameters()), materialize_grads=True, allow_unused=True))

    fused = gradients()
    with clof_ext.backend("reference"):
        expected = gradients()
    assert max(value.abs().max() for value in expected) > 0.01
    torch.testing.assert_close(fused, expected, rtol=1e-9, atol=1e-10)


def test_training_on_forces_learns():
    torch.manual_seed(0)
    network, pos = forces.Energy(hidden=8), 1.2 * torch.randn(64, N, 3)

    def error() -> float:
        return (force_of(network, pos) - forces.true_forces(pos)).square().mean().item()

    before = error()
    forces.train(network, 40, n_systems=16, lr=1e-2)
    assert error() < 0.7 * before


def test_dynamics_conserve_energy():
    """Velocity Verlet's error falls with the square of the step, if forces are the energy's gradient."""
    network, pos = model(), positions(2)
    assert force_of(network, pos).abs().max() > 0.1
    drifts = []
    for time_step in (0.01, 0.005):
        totals = forces.run_dynamics(network, pos, torch.zeros_like(pos), time_step, round(0.2 / time_step))
        drifts.append((totals - totals[0]).abs().max())
    assert drifts[0] < 1e-2
    assert drifts[1] < drifts[0] / 3


@pytest.mark.parametrize("sin_embedding", [False, True])
def test_second_derivatives_of_a_replaced_diffusion_block(sin_embedding):
    torch.manual_seed(0)
    network = edm.EGNN(2, 4, 1, sin_embedding=sin_embedding, normalization_factor=1).double()
    row, col = fully_connected(N, 1)
    h = torch.randn(N, 2, dtype=torch.float64)

    def trained() -> list[Tensor]:
        pos = positions()[0].requires_grad_()
        features, moved = network(h, pos, [row, col])
        (force,) = torch.autograd.grad(features.sum() + moved.square().sum(), pos, create_graph=True)
        loss = force.square().sum()
        return list(torch.autograd.grad(loss, [pos, *network.parameters()], materialize_grads=True, allow_unused=True))

    expected = trained()
    assert clof_ext.replace_layers(network).replaced
    torch.testing.assert_close(trained(), expected, rtol=1e-8, atol=1e-9)
