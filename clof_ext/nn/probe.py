"""A trial on a small graph: does a layer's own forward compute what the fused one does?"""

import copy
import math

import torch
from torch import Tensor, nn

from .._backends import backend
from .frame_conv import convolve
from .published import FusedForward, FusedVelocityForward, UnrecognisedError

N_NODES = 6
# An irregular graph with a node that has no edges, one that only sends, and a duplicate edge. Not three edges:
# there the published cross product takes the wrong axis.
RECEIVERS = (0, 0, 1, 1, 2, 2, 2, 3, 3, 1, 0)
SENDERS = (1, 2, 0, 3, 4, 1, 1, 4, 0, 2, 3)
# Training mode and a factor of the last coordinate weights: ordinary vectors, and such that the published bound is
# reached.
TRIALS = ((True, 1.0), (False, 1e4))
# Largest difference in units of the largest value, in float64.
TOLERANCE = 1e-9
SEED = 0


def probe(forward: FusedForward) -> None:
    """Compare the layer's own forward with the fused one, in float64 with random weights.

    Raises:
        UnrecognisedError: they differ, or one of them fails.
    """
    # No autocast or forced backend of the caller's: the question is what is computed, not how fast.
    with torch.no_grad(), torch.autocast("cpu", enabled=False), backend("reference"):
        for training, scale in TRIALS:
            generator = torch.Generator("cpu").manual_seed(SEED)
            twin = bare_copy(forward.layer, generator).train(training)
            head = next(part for part in reversed(twin.coord_mlp) if isinstance(part, nn.Linear))
            head.weight.mul_(scale)
            _compare(forward, twin, generator)


def bare_copy(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """A copy without hooks, on the CPU, with random float64 parameters; the module itself is not touched."""
    twin = copy.copy(module)
    vars(twin).update({key: type(value)() for key, value in vars(module).items() if key.endswith("_hooks")})
    twin._modules = {name: bare_copy(child, generator) for name, child in module._modules.items()}
    twin._parameters = {
        name: None if value is None else nn.Parameter(_random(generator, *value.shape) / math.sqrt(value.shape[-1]))
        for name, value in module._parameters.items()
    }
    return twin


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def _compare(forward: FusedForward, twin: nn.Module, generator: torch.Generator) -> None:
    edge_index = torch.tensor((RECEIVERS, SENDERS), device="cpu")
    h_size, edge_size, attr_size = _input_sizes(forward)
    h, pos, vel = (_random(generator, N_NODES, size) for size in (h_size, 3, 3))
    edge_attr = _random(generator, len(SENDERS), edge_size) if edge_size else None
    node_attr = _random(generator, N_NODES, attr_size) if attr_size else None
    velocity = (vel,) if isinstance(forward, FusedVelocityForward) else ()
    try:
        own = type(twin).forward(twin, h, edge_index, pos.clone(), *velocity, edge_attr, node_attr)
        fused = convolve(twin, forward.options, h, pos, edge_index, edge_attr, *(velocity or (None,)), node_attr)
    except Exception as error:
        raise UnrecognisedError(f"it fails on a trial graph: {error}") from error
    if not (isinstance(own, tuple) and len(own) == 3 and own[2] is edge_attr):
        raise UnrecognisedError("it does not return features, positions and edge_attr")
    pairs = ((own[0], fused[0], "features"), (own[1] - pos, fused[1] - pos, "positions"))
    for expected, actual, what in pairs:
        error = (expected - actual).abs().max() / expected.abs().max()
        # Written so that nan is an error too.
        if not error <= TOLERANCE:
            raise UnrecognisedError(f"on a trial graph its new {what} differ from the published layer's by {error:.0e}")


def _input_sizes(forward: FusedForward) -> tuple[int, int, int]:
    """Columns of h, edge_attr and node_attr, from the shapes of the weights."""
    layer = forward.layer
    hidden = layer.coord_mlp[0].in_features
    node_mlp = [part for part in layer.node_mlp.modules() if isinstance(part, nn.Linear)]
    if "coord_mlp_vel" in layer._modules:
        h_size = next(part for part in layer.coord_mlp_vel.modules() if isinstance(part, nn.Linear)).in_features
    elif forward.options.recurrent:
        h_size = node_mlp[-1].out_features
    else:
        # Nothing tells h from node_attr; only their sum matters here.
        h_size = node_mlp[0].in_features - hidden
    edge_size = layer.edge_mlp[0].in_features - 2 * h_size - 1
    attr_size = node_mlp[0].in_features - hidden - h_size
    if edge_size < 0 or attr_size < 0:
        raise UnrecognisedError("the shapes of its weights do not belong together")
    return h_size, edge_size, attr_size
