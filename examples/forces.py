"""A force model: the energy E(x) of a few particles, whose forces -dE/dx are trained on, and dynamics with them.

Run ``python -m examples.forces``; it takes less than a minute. Forces are a derivative of the network, and their
training is a derivative of that: the fused edge block is differentiated twice.
"""

import torch
from torch import Tensor, nn
from tqdm import trange

from clof_ext.newton import fully_connected
from clof_ext.nn import FrameConv

N_PARTICLES, HIDDEN = 5, 32
# The particles attract each other with a Morse potential (depth 1, width 1) whose lowest point is at this distance.
REST = 1.5


class Energy(nn.Module):
    """The potential energy of systems of particles, (S,), a sum of invariants of their nodes."""

    def __init__(self, hidden: int = HIDDEN, n_layers: int = 2) -> None:
        super().__init__()
        self.embedding = nn.Linear(1, hidden)
        self.layers = nn.ModuleList(FrameConv(hidden, hidden, 0, basis="radial") for _ in range(n_layers))
        self.readout = nn.Sequential(nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))

    def forward(self, pos: Tensor, edge_index: Tensor) -> Tensor:
        """Energies of positions (S, n, 3); ``edge_index`` joins the particles of each system."""
        x = pos.reshape(-1, 3)
        h = self.embedding(torch.ones_like(x[:, :1]))
        for layer in self.layers:
            h, x = layer(h, x, edge_index)
        return self.readout(h).reshape(pos.shape[:2]).sum(1)


def forces(model: Energy, pos: Tensor, edge_index: Tensor) -> tuple[Tensor, Tensor]:
    """Energies (S,) and forces (S, n, 3), whose graph is kept so that they can be trained on."""
    pos = pos if pos.requires_grad else pos.detach().requires_grad_()
    energy = model(pos, edge_index)
    (gradient,) = torch.autograd.grad(energy.sum(), pos, create_graph=True)
    return energy, -gradient


def true_forces(pos: Tensor) -> Tensor:
    """Forces (S, n, 3) of the Morse potential that the model learns."""
    pos = pos.detach().requires_grad_()
    first, second = torch.triu_indices(pos.shape[1], pos.shape[1], 1)
    stretch = (pos[:, first] - pos[:, second]).norm(dim=-1) - REST
    energy = (1 - torch.exp(-stretch)).square().sum()
    return -torch.autograd.grad(energy, pos)[0]


def train(model: Energy, n_steps: int, n_systems: int = 32, lr: float = 2e-3) -> list[float]:
    """Fit forces of random positions; the mean squared error of each step."""
    edge_index = fully_connected(N_PARTICLES, n_systems)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    dtype, losses = next(model.parameters()).dtype, []
    for _ in trange(n_steps, desc="training on forces", leave=False):
        pos = 1.2 * torch.randn(n_systems, N_PARTICLES, 3, dtype=dtype)
        loss = (forces(model, pos, edge_index)[1] - true_forces(pos)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def run_dynamics(model: Energy, pos: Tensor, vel: Tensor, time_step: float, n_steps: int) -> Tensor:
    """Total energies (n_steps + 1, S) along trajectories of unit masses, by velocity Verlet."""
    edge_index = fully_connected(pos.shape[1], pos.shape[0])

    def at(pos: Tensor) -> tuple[Tensor, Tensor]:
        energy, force = forces(model, pos, edge_index)
        return energy.detach(), force.detach()

    energy, force = at(pos)
    totals = [energy + vel.square().sum((1, 2)) / 2]
    for _ in trange(n_steps, desc="dynamics", leave=False):
        vel = vel + time_step / 2 * force
        pos = pos + time_step * vel
        energy, force = at(pos)
        vel = vel + time_step / 2 * force
        totals.append(energy + vel.square().sum((1, 2)) / 2)
    return torch.stack(totals)


def main() -> None:
    torch.manual_seed(0)
    model = Energy()
    losses = train(model, 400)
    print(f"mean squared error of the forces: {losses[0]:.3f} at the start, {sum(losses[-20:]) / 20:.3f} at the end")
    model = model.double()
    pos = torch.randn(4, N_PARTICLES, 3, dtype=torch.float64)
    for time_step in (0.02, 0.01):
        totals = run_dynamics(model, pos, torch.zeros_like(pos), time_step, round(2 / time_step))
        drift = (totals - totals[0]).abs().max()
        print(f"total energies change by at most {drift:.1e} in dynamics with steps of {time_step}")


if __name__ == "__main__":
    main()
