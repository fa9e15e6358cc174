"""Activations: their modules by name, and the name of a module."""

from collections.abc import Callable

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


def activation_name(module: nn.Module) -> str | None:
    """The name under which the ops know what a module computes, or None."""
    for name, make in MODULES.items():
        known = make()
        if type(known) is type(module) and _settings(known) == _settings(module):
            return name
    return None


def _settings(module: nn.Module) -> dict:
    """What a module was made with, but for the options that do not change its values."""
    ignored = ("training", "inplace")
    return {key: value for key, value in vars(module).items() if not key.startswith("_") and key not in ignored}
