"""Whether a layer is still made as it was: what its fused forward relies on and could not see change."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import nn

from ..activation import settings
from ..mlp import have_hooks

# Types of the values that options have.
PLAIN = (bool, int, float, str, tuple, type(None))


class Made(NamedTuple):
    """What modules were, a row for each.

    Attributes:
        classes: module, its class, and those names of the class in whose place the instance has nothing of its own.
        children: module and what it holds, in order; for modules that hold any.
        options: module and the names and values of its options; for modules that have any.
        biased: Linear and whether it has a bias.
        uncalled: modules whose hooks would not be called.
    """

    classes: tuple[tuple[nn.Module, type, tuple[str, ...]], ...]
    children: tuple[tuple[nn.Module, tuple[nn.Module | None, ...]], ...]
    options: tuple[tuple[nn.Module, tuple[tuple[str, object], ...]], ...]
    biased: tuple[tuple[nn.Module, bool], ...]
    uncalled: tuple[nn.Module, ...]


def made_of(layer: nn.Module, uncalled: Iterable[nn.Module]) -> Made:
    """What a layer and the modules that its fused forward does not call are; the layer itself may have hooks."""
    uncalled = tuple({id(module): module for module in uncalled}.values())
    modules = (layer, *uncalled)
    linears = [module for module in modules if isinstance(module, nn.Linear)]
    options = ((module, _options(module)) for module in modules if not isinstance(module, nn.Linear))
    return Made(
        classes=tuple((module, type(module), _unshadowed(module, is_layer=module is layer)) for module in modules),
        children=tuple((module, tuple(module._modules.values())) for module in modules if module._modules),
        options=tuple((module, values) for module, values in options if values),
        biased=tuple((linear, linear._parameters.get("bias") is not None) for linear in linears),
        uncalled=uncalled,
    )


def is_still(made: Made) -> bool:
    """Whether nothing of it has changed. This runs on every call of a layer: plain loops over dicts are the fastest."""
    for module, kind, names in made.classes:
        # A parametrization gives a module another class with the same forward.
        if type(module) is not kind and type(module).forward is not kind.forward:
            return False
        own = module.__dict__
        for name in names:
            if name in own:
                return False
    for module, children in made.children:
        if tuple(module.__dict__["_modules"].values()) != children:
            return False
    for module, options in made.options:
        own = module.__dict__
        for name, value in options:
            found = own.get(name)
            if found is not value and not (isinstance(found, PLAIN) and found == value):
                return False
    for linear, biased in made.biased:
        if (linear.__dict__["_parameters"].get("bias") is not None) != biased:
            return False
    return not have_hooks(made.uncalled)


def _options(module: nn.Module) -> tuple[tuple[str, object], ...]:
    return tuple((name, value) for name, value in settings(module).items() if isinstance(value, PLAIN))


def _unshadowed(module: nn.Module, *, is_layer: bool) -> tuple[str, ...]:
    """Names of the class, but for those that the instance has too; of torch's own modules only the forward."""
    kind = type(module)
    if kind.__module__.startswith("torch."):
        return ("forward",)
    names = {name for base in kind.__mro__ if base not in nn.Module.__mro__ for name in vars(base)}
    exchanged = {"forward"} if is_layer else set()
    return tuple(sorted(name for name in names - vars(module).keys() - exchanged if not name.startswith("__")))
