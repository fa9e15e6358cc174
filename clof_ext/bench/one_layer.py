"""One published message-passing layer on random systems: the programs, sizes and calls of the sweep and error table."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor, nn

from ..newton import fully_connected
from .agreement import relative
from .published import Clof_GCL, E_GCL_vel

# Frames are soft where the published network has them so: in ClofNet, not in EGNN.
LAYERS = {"clofnet": partial(Clof_GCL, norm_diff=True), "egnn": E_GCL_vel}
SEED = 0


@dataclass(frozen=True)
class Size:
    """A layer, or a network of such layers, and a graph in which every node has the same number of neighbours.

    Attributes:
        network: a name in LAYERS.
        nodes, neighbours: N, and the edges of each receiver.
        hidden, edge_dim: H, the width of node features and messages; D, that of edge features.
        graph: a name in GRAPHS.
        layers: of the network.
    """

    network: str
    nodes: int
    neighbours: int
    hidden: int
    edge_dim: int
    graph: str = "systems"
    layers: int = 1

    @property
    def edges(self) -> int:
        return self.nodes * self.neighbours

    @property
    def layer(self) -> tuple[str, int, int]:
        """What a program that torch.compile made depends on."""
        return self.network, self.hidden, self.edge_dim

    def __str__(self) -> str:
        sizes = f"N={self.nodes} n={self.neighbours} H={self.hidden} D={self.edge_dim}"
        depth = "" if self.layers == 1 else f" L={self.layers}"
        return f"{self.network} {sizes}{depth}" + ("" if self.graph == "systems" else f" {self.graph}")


def about(nodes: int, neighbours: int) -> int:
    """The number of nodes next to the given one that fills whole systems, where all particles are neighbours."""
    particles = neighbours + 1
    return particles * max(1, round(nodes / particles))


def systems(nodes: int, neighbours: int) -> Tensor:
    """Fully connected systems of particles, side by side."""
    return fully_connected(neighbours + 1, nodes // (neighbours + 1))


def random_graph(nodes: int, neighbours: int) -> Tensor:
    """One graph whose senders lie anywhere: neither the caches nor the sums to senders find any order in it."""
    receiver = torch.arange(nodes).repeat_interleave(neighbours)
    # Never 0: the published frame has no derivative at a self-loop.
    step = torch.randint(1, nodes, receiver.shape)
    return torch.stack((receiver, (receiver + step) % nodes))


GRAPHS: dict[str, Callable[[int, int], Tensor]] = {"systems": systems, "random": random_graph}


class Layer(nn.Module):
    """The published layer, which gets a copy of the positions because it writes into them."""

    def __init__(self, network: str, hidden: int, edge_dim: int) -> None:
        super().__init__()
        self.layer = LAYERS[network](hidden, hidden, hidden, edge_dim)

    def forward(self, h: Tensor, pos: Tensor, edge_attr: Tensor | None, vel: Tensor, edge_index: Tensor):
        h, pos, _ = self.layer(h, edge_index, pos.clone(), vel, edge_attr)
        return h, pos


def make_layer(size: Size) -> Layer:
    """The layer, with the same random weights every time."""
    torch.manual_seed(SEED)
    return Layer(*size.layer)


class Network(nn.Module):
    """Layers one after another, each with the same edge features and velocities."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Layer(*size.layer) for _ in range(size.layers))

    def forward(self, h: Tensor, pos: Tensor, edge_attr: Tensor | None, vel: Tensor, edge_index: Tensor):
        for layer in self.layers:
            h, pos = layer(h, pos, edge_attr, vel, edge_index)
        return h, pos


def make_network(size: Size) -> Network:
    """The network, with the same random weights every time."""
    torch.manual_seed(SEED)
    return Network(size)


@dataclass(frozen=True)
class Inputs:
    """Random features and states, each of which wants a gradient as in the middle of a network, and cotangents.

    Attributes:
        leaves: h (N, H), pos (N, 3) and, if D > 0, edge_attr (E, D), by name.
        vel: (N, 3).
        edge_index: (2, E).
        cotangents: of h and pos.
    """

    leaves: dict[str, Tensor]
    vel: Tensor
    edge_index: Tensor
    cotangents: tuple[Tensor, Tensor] = field(repr=False)

    def call(self, layer: nn.Module) -> tuple[Tensor, Tensor]:
        leaves = {"edge_attr": None} | self.leaves
        return layer(**leaves, vel=self.vel, edge_index=self.edge_index)

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> "Inputs":
        """The same numbers in another dtype, and on another device if one is given."""
        leaves = {name: value.detach().to(device, dtype).requires_grad_() for name, value in self.leaves.items()}
        cotangents = self.cotangents[0].to(device, dtype), self.cotangents[1].to(device, dtype)
        return Inputs(leaves, self.vel.to(device, dtype), self.edge_index.to(device), cotangents)


def make_inputs(size: Size) -> Inputs:
    """The same float32 inputs every time."""
    torch.manual_seed(SEED)
    edge_index = GRAPHS[size.graph](size.nodes, size.neighbours)
    shapes = {"h": (size.nodes, size.hidden), "pos": (size.nodes, 3)}
    if size.edge_dim:
        shapes["edge_attr"] = (size.edges, size.edge_dim)
    leaves = {name: torch.randn(shape, requires_grad=True) for name, shape in shapes.items()}
    cotangents = torch.randn(shapes["h"]), torch.randn(shapes["pos"])
    return Inputs(leaves, torch.randn(shapes["pos"]), edge_index, cotangents)


def forward(layer: nn.Module, inputs: Inputs) -> None:
    with torch.no_grad():
        inputs.call(layer)


def forward_backward(layer: nn.Module, inputs: Inputs) -> None:
    """Outputs, and gradients in all weights and inputs."""
    clear(layer, inputs)
    torch.autograd.backward(inputs.call(layer), inputs.cotangents)


def clear(layer: nn.Module, inputs: Inputs) -> None:
    """Release the gradients of the last call."""
    for tensor in (*layer.parameters(), *inputs.leaves.values()):
        tensor.grad = None


PASSES = {"forward": forward, "forward+backward": forward_backward}


def force_step(layer: nn.Module, inputs: Inputs) -> None:
    """As a force field trains: an energy's gradient in the positions, and its square's in all weights and inputs."""
    clear(layer, inputs)
    energy = sum((out * cotangent).sum() for out, cotangent in zip(inputs.call(layer), inputs.cotangents, strict=True))
    (force,) = torch.autograd.grad(energy, inputs.leaves["pos"], create_graph=True)
    force.square().sum().backward()


def outputs_alone(layer: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """Results of the pass ``forward``, which may be another compiled program than that of ``forward+backward``."""
    with torch.no_grad():
        h, pos = inputs.call(layer)
    return {"features alone": h, "displacements alone": pos - inputs.leaves["pos"]}


def arrays(layer: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """Everything that a call computes, by name: features, displacements, and the gradient of each input and weight."""
    clear(layer, inputs)
    h, pos = inputs.call(layer)
    # Against positions, which a layer hardly moves, all errors would vanish.
    found = {"features": h.detach(), "displacements": (pos - inputs.leaves["pos"]).detach()}
    torch.autograd.backward((h, pos), inputs.cotangents)
    return found | {f"gradient of {name}": value.grad for name, value in _leaves(layer, inputs).items()}


def second_arrays(layer: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    """The gradients that ``force_step`` makes, by name; zeros for what a force does not depend on."""
    force_step(layer, inputs)
    leaves = _leaves(layer, inputs)
    grads = {name: torch.zeros_like(value) if value.grad is None else value.grad for name, value in leaves.items()}
    return {f"second gradient of {name}": value for name, value in grads.items()}


def _leaves(layer: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    return inputs.leaves | {name.removeprefix("layer."): value for name, value in layer.named_parameters()}


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """Relative error of each array in the Euclidean norm."""
    return {name: relative(found[name].double(), value.double()) for name, value in exact.items()}
