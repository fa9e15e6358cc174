"""What a published layer is recognised by: its modules, their order and their activations."""

from collections.abc import Iterable

from torch import nn

from ..activation import activation_name


class UnrecognisedError(Exception):
    """Why a layer is not one that a fused forward can stand for."""


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def check_state(layer: nn.Module, needed: set[str], optional: Iterable[str] = ()) -> None:
    """The layer's own modules are the published ones, and it has no other state."""
    found = {name for name, module in layer._modules.items() if module is not None}
    extra = [*(found - needed - {*optional}), *layer._parameters, *layer._buffers]
    if extra:
        raise UnrecognisedError(f"it has parts that the published layer has not: {listed(extra)}")
    if needed - found:
        raise UnrecognisedError(f"it lacks parts of the published layer: {listed(needed - found)}")


def sequence(layer: nn.Module, name: str) -> list[nn.Module]:
    """The modules of a part; a class derived from Sequential may call them otherwise."""
    part = getattr(layer, name)
    if type(part) is not nn.Sequential:
        raise UnrecognisedError(f"{name} must be a Sequential; it is a {type(part).__name__}")
    return list(part)


def check_pattern(found: list[nn.Module], name: str, pattern: list[type | None]) -> None:
    """The modules have exactly these types, None for any; a derived class may compute something else."""
    fits = len(found) == len(pattern) and all(
        expected in (None, type(module)) for module, expected in zip(found, pattern, strict=True)
    )
    if not fits:
        types = ", ".join(type(module).__name__ for module in found)
        raise UnrecognisedError(f"{name} is not built as published; it is made of {types}")


def common_activation(modules: Iterable[nn.Module]) -> str:
    """The name of what all these modules compute."""
    modules = list(modules)
    names = {activation_name(module) for module in modules}
    if len(names) != 1 or None in names:
        every = listed({str(module) for module in modules})
        raise UnrecognisedError(f"its activations, {every}, are not one that the fused forward knows")
    return names.pop()


def perceptron_activation(layer: nn.Module, names: Iterable[str]) -> str | None:
    """The activation that these parts have in common, those that there are, or None where one is not two Linears."""
    activations = []
    try:
        for name in names:
            if name in layer._modules:
                modules = sequence(layer, name)
                check_pattern(modules, name, [nn.Linear, None, nn.Linear])
                activations.append(modules[1])
        return common_activation(activations)
    except UnrecognisedError:
        return None
