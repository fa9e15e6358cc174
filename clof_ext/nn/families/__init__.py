"""Published layers by family: how one is recognised, and the fused forward that computes the same.

A family is one file, with a line in ``FAMILIES``.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn

from . import edm, egnn
from .fused import FusedForward
from .recognition import UnrecognisedError
from .trial import probe

__all__ = ["CLASSES", "FusedForward", "UnrecognisedError", "fused_forward", "is_candidate"]


@dataclass(frozen=True)
class Family:
    """Layers of common ancestry.

    Attributes:
        classes: names of the classes whose forward is exchanged.
        make: the fused forward of a layer of such a class, or UnrecognisedError.
        marks: modules without which a class of such a name is something else.
        parts: names of classes that are only replaced as parts of another -> why.
    """

    classes: tuple[str, ...]
    make: Callable[[nn.Module], FusedForward]
    marks: tuple[str, ...] = ()
    parts: Mapping[str, str] = field(default_factory=dict)


FAMILIES = (
    Family(tuple(egnn.KINDS), egnn.fused_forward),
    Family((edm.BLOCK,), edm.fused_forward, marks=("gcl_equiv",), parts=edm.PARTS),
)
CLASSES = tuple(name for family in FAMILIES for name in family.classes)


def is_candidate(layer: nn.Module) -> bool:
    """Whether a layer, or a class that it is derived from, has a published name."""
    return _family(layer) is not None


def fused_forward(layer: nn.Module) -> FusedForward:
    """The fused forward of a published layer, found to compute the same on a trial graph.

    Raises:
        UnrecognisedError: anything about the layer is not as published.
    """
    family, name = _family(layer), type(layer).__name__
    if name in family.parts:
        raise UnrecognisedError(family.parts[name])
    if name not in family.classes:
        raise UnrecognisedError(f"its class {name} is derived from a published one and may compute something else")
    if "forward" in vars(layer):
        raise UnrecognisedError("its forward was exchanged by other code")
    try:
        forward = family.make(layer)
    except (AttributeError, KeyError, IndexError, TypeError, ValueError) as error:
        raise UnrecognisedError(f"it is not built as published: {error!r}") from error
    part = forward.hooked_part()
    if part is not None:
        raise UnrecognisedError(f"{part} has hooks, which the fused forward would not call")
    probe(forward)
    return forward


def _family(layer: nn.Module) -> Family | None:
    names = {base.__name__ for base in type(layer).__mro__}
    for family in FAMILIES:
        if names & {*family.parts}:
            return family
        if names & {*family.classes} and all(mark in layer._modules for mark in family.marks):
            return family
    return None
