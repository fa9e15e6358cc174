"""What a call of a network with replaced layers needs in memory, as a share of what the published one needs.

Without an array of edges x hidden, what grows with the edges are their own features and the gradient of those.
ClofNet's are half as wide as its hidden layers, so with more neighbours its share stops falling, near 1/22 in training;
EGNN's are two numbers, and its share keeps falling.
"""

import pytest
import torch
from torch import Tensor, nn

import clof_ext
from clof_ext import _backends, newton
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.published import ClofNet_vel, EGNN_vel
from clof_ext.bench.run import threads

pytestmark = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")

HIDDEN = 64
# Systems, particles of each, and how many times less memory is needed at least: forward, and in a training step.
CASES = {
    # Measured: 10.2, 12.3, 31.7 and 92.9; 19.7, 20.4, 50.2 and 60.4.
    "ClofNet, 19 neighbours": (ClofNet_vel, 128, 20, 10, 18),
    "ClofNet, 100 neighbours": (ClofNet_vel, 8, 101, 11.5, 18),
    "EGNN, 19 neighbours": (EGNN_vel, 128, 20, 28, 44),
    "EGNN, 100 neighbours": (EGNN_vel, 8, 101, 80, 48),
}


@pytest.fixture
def two_threads():
    """Each thread has its own scratch."""
    with threads(2):
        yield


def memory(network: nn.Module, systems: int, particles: int) -> tuple[int, int]:
    """Bytes of a forward pass without gradients, and of a forward and backward pass."""
    torch.manual_seed(0)
    edge_index = newton.fully_connected(particles, systems)
    pos, vel = torch.randn(2, systems * particles, 3)
    edge_attr = torch.randn(edge_index.shape[1], 2)
    sizes = {"n_nodes": particles} if isinstance(network, ClofNet_vel) else {}

    def forward() -> Tensor:
        return network(vel.norm(dim=1, keepdim=True), pos.clone(), edge_index, vel, edge_attr, **sizes)

    with torch.no_grad():
        forward()  # sorts the edges once
        of_forward = peak_bytes(forward, torch.device("cpu"))
    return of_forward, peak_bytes(lambda: forward().sum().backward(), torch.device("cpu"))


@pytest.mark.parametrize("name", CASES)
def test_peak_memory(name: str, two_threads):
    kind, systems, particles, *times = CASES[name]
    torch.manual_seed(0)
    network = kind(1, 2, HIDDEN)
    published = memory(network, systems, particles)
    clof_ext.replace_layers(network)
    network.zero_grad(set_to_none=True)
    ratios = [before / after for before, after in zip(published, memory(network, systems, particles), strict=True)]
    assert ratios[0] >= times[0] and ratios[1] >= times[1], ratios
