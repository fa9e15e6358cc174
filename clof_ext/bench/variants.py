"""The programs that are compared: one network with the same weights, run in three ways."""

import copy

import torch
from torch import nn

from ..replace import replace_layers


def eager(network: nn.Module) -> nn.Module:
    return network


def compiled(network: nn.Module) -> nn.Module:
    """A copy under ``torch.compile`` with its default settings; compiling happens in the first calls."""
    # What was compiled for another case would make the shapes of this one dynamic.
    torch.compiler.reset()
    network = copy.deepcopy(network)
    network.compile()
    return network


def fused(network: nn.Module) -> nn.Module:
    """A copy whose layers were replaced.

    Raises:
        RuntimeError: a layer was not replaced.
    """
    network = copy.deepcopy(network)
    report = replace_layers(network)
    if report.left or not report.replaced:
        raise RuntimeError(f"replace_layers left layers of the published network as they were.\n{report}")
    return network


EAGER, COMPILE, FUSED = "eager", "torch.compile", "clof_ext"
VARIANTS = {EAGER: eager, COMPILE: compiled, FUSED: fused}
