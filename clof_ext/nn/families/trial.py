"""A trial on a small graph: does a layer's own forward compute what the fused one does?"""

import math
from dataclasses import replace

import torch
from torch import Tensor, nn

from ..._backends import backend
from .fused import FusedForward
from .recognition import UnrecognisedError

N_NODES = 6
# An irregular graph with a node that has no edges, one that only sends, and a duplicate edge. Not three edges:
# there the published cross product takes the wrong axis.
RECEIVERS = (0, 0, 1, 1, 2, 2, 2, 3, 3, 1, 0)
SENDERS = (1, 2, 0, 3, 4, 1, 1, 4, 0, 2, 3)
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
        for twin, arguments in forward.trials(torch.Generator("cpu").manual_seed(SEED)):
            _compare(replace(forward, layer=twin), arguments)


def bare_copy(module: nn.Module, generator: torch.Generator) -> nn.Module:
    """A copy on the CPU with random float64 parameters, without hooks and replaced forwards."""
    # Not by copy.copy, which modules with parametrizations refuse.
    twin = object.__new__(type(module))
    vars(twin).update(vars(module))
    if isinstance(vars(twin).get("forward"), FusedForward):
        # It would read the weights of the module.
        del twin.forward
    vars(twin).update({key: type(value)() for key, value in vars(module).items() if key.endswith("_hooks")})
    twin._modules = {
        name: None if child is None else bare_copy(child, generator) for name, child in module._modules.items()
    }
    twin._parameters = {
        name: None if value is None else nn.Parameter(random(generator, *value.shape) / math.sqrt(value.shape[-1]))
        for name, value in module._parameters.items()
    }
    twin._buffers = {name: None if value is None else _own_buffer(value) for name, value in module._buffers.items()}
    return twin


def _own_buffer(buffer: Tensor) -> Tensor:
    """A copy that a module may write into; ones where the buffer has no memory yet."""
    dtype = torch.float64 if buffer.is_floating_point() else buffer.dtype
    if buffer.is_meta:
        return torch.ones(buffer.shape, dtype=dtype, device="cpu")
    return buffer.detach().to("cpu", dtype, copy=True)


def random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64, device="cpu")


def trial_edges() -> Tensor:
    return torch.tensor((RECEIVERS, SENDERS), device="cpu")


def _compare(forward: FusedForward, arguments: tuple) -> None:
    # Some published layers write into their arguments.
    copies = tuple(value.clone() if isinstance(value, Tensor) else value for value in arguments)
    try:
        own = type(forward.layer).forward(forward.layer, *arguments)
        fused = forward.fused(*copies)
    except Exception as error:
        raise UnrecognisedError(f"it fails on a trial graph: {error}") from error
    expected, actual = forward.outcome(own, arguments), forward.outcome(fused, copies)
    for what, value in expected.items():
        error = (value - actual[what]).abs().max() / value.abs().max()
        # Written so that nan is an error too.
        if not error <= TOLERANCE:
            raise UnrecognisedError(f"on a trial graph its new {what} differ from the published layer's by {error:.0e}")
