"""Published layers by family: how one is recognised, and the fused forward that computes the same.

A family is one file, with a line in ``FAMILIES``.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import nn

from . import clofnet, dgl, edm, egnn, egnn_pytorch
from .fused import FusedForward
from .recognition import UnrecognisedError
from .trial import probe

__all__ = ["CLASSES", "FusedForward", "UnrecognisedError", "fused_forward", "holds_layers", "is_candidate"]


@dataclass(frozen=True)
class Family:
    """Layers of common ancestry.

    Attributes:
        classes: names of the classes whose forward is exchanged.
        make: the fused forward of a layer of such a class, or UnrecognisedError.
        marks: modules without which a class of such a name is something else.
        parameters: the same for the parameters of its forward.
        holds_layers: its modules are looked at, too: they may be published layers themselves.
    """

    classes: tuple[str, ...]
    make: Callable[[nn.Module], FusedForward]
    marks: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    holds_layers: bool = False


@dataclass(frozen=True)
class Declined:
    """Published layers that are always left.

    Attributes:
        classes: names of classes -> why.
        marks: modules without which a class of such a name is something else.
    """

    classes: Mapping[str, str]
    marks: tuple[str, ...] = ()
    parameters = ()
    holds_layers = False


FAMILIES = (
    Family(tuple(egnn.KINDS), egnn.fused_forward),
    Family((edm.BLOCK,), edm.fused_forward, marks=("gcl_equiv",)),
    Family((dgl.CLASS,), dgl.fused_forward),
    Family((egnn_pytorch.DENSE, egnn_pytorch.SPARSE), egnn_pytorch.fused_forward, marks=egnn_pytorch.MARKS),
    Family(tuple(clofnet.KINDS), clofnet.fused_forward, clofnet.MARKS, clofnet.PARAMETERS, holds_layers=True),
)
DECLINED = (Declined(edm.PARTS),)
DERIVED = "its class {} is derived from a published one and may compute something else"
CLASSES = tuple(name for family in FAMILIES for name in family.classes)


def is_candidate(layer: nn.Module) -> bool:
    """Whether a layer, or a class that it is derived from, has a published name."""
    return _family(layer) is not None


def holds_layers(layer: nn.Module) -> bool:
    """Whether the modules of a candidate may be published layers themselves."""
    return _family(layer).holds_layers


def fused_forward(layer: nn.Module) -> FusedForward:
    """The fused forward of a published layer, found to compute the same on a trial graph.

    Raises:
        UnrecognisedError: anything about the layer is not as published.
    """
    family, name = _family(layer), type(layer).__name__
    if isinstance(family, Declined):
        raise UnrecognisedError(family.classes.get(name, DERIVED.format(name)))
    if name not in family.classes:
        raise UnrecognisedError(DERIVED.format(name))
    if "forward" in vars(layer):
        raise UnrecognisedError("its forward was exchanged by other code")
    try:
        forward = family.make(layer)
        part = forward.hooked_part()
        if part is not None:
            raise UnrecognisedError(f"{part} has hooks, which the fused forward would not call")
        probe(forward)
    except UnrecognisedError:
        raise
    except Exception as error:
        # Whatever goes wrong in other people's modules, the layer stays as it is.
        raise UnrecognisedError(f"it is not built as published: {error!r}") from error
    return forward


def _family(layer: nn.Module) -> Family | Declined | None:
    names = {base.__name__ for base in type(layer).__mro__}
    for family in (*FAMILIES, *DECLINED):
        marked = all(mark in layer._modules for mark in family.marks)
        if marked and names & {*family.classes} and _takes(layer, family.parameters):
            return family
    return None


def _takes(layer: nn.Module, parameters: tuple[str, ...]) -> bool:
    """Whether the forward of the layer's class has all these parameters."""
    return {*parameters} <= {*inspect.signature(type(layer).forward).parameters}
