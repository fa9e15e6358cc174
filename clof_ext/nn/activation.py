"""Activations: their modules by name, and the name of a module."""

from collections.abc import Callable
from typing import NamedTuple

from torch import nn

from ..reference.frame_message import LEAKY_SLOPE

MODULES: dict[str, Callable[[], nn.Module]] = {
    "silu": nn.SiLU,
    "relu": nn.ReLU,
    "leaky_relu": lambda: nn.LeakyReLU(LEAKY_SLOPE),
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "gelu": nn.GELU,
}


class Known(NamedTuple):
    """What modules that compute the same have in common: their class, and its options."""

    kind: type
    options: dict

    def is_like(self, module: nn.Module) -> bool:
        if type(module) is not self.kind or "forward" in module.__dict__:
            return False
        return not self.options or settings(module) == self.options


def settings(module: nn.Module) -> dict:
    """What a module was made with, but for the options that do not change its values."""
    ignored = ("training", "inplace")
    return {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in ignored}


def known(module: nn.Module) -> Known:
    return Known(type(module), settings(module))


KNOWN = {name: known(make()) for name, make in MODULES.items()}
# What ends a gate.
SIGMOID = known(nn.Sigmoid())


def activation_name(module: nn.Module) -> str | None:
    """The name under which the ops know what a module computes, or None."""
    return next((name for name, one in KNOWN.items() if one.is_like(module)), None)
