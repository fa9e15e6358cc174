"""What stands in the place of a layer's forward."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..._transforms import is_transformed
from ..mlp import have_hooks
from .made import Made, is_still, made_of


@dataclass(frozen=True)
class FusedForward(ABC):
    """Stands in the place of a layer's forward, with its arguments and its results.

    The layer keeps its parameters and modules; this reads them. It lets the layer's own forward run where that does
    what the fused one cannot: for hooks on parts that would not be called, for options and modules that have changed
    since, for derivatives and batches that are made by ``torch.func`` (``vmap``, ``jvp``, ``grad``) or by forward-mode
    differentiation, and for ``torch.jit.trace``.

    Attributes:
        made: what the layer was when it was recognised.
    """

    layer: nn.Module
    made: Made = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "made", made_of(self.layer, [module for _, module in self.uncalled()]))

    def __call__(self, *arguments, **named):
        if not is_still(self.made) or is_transformed() or torch.jit.is_tracing():
            return type(self.layer).forward(self.layer, *arguments, **named)
        return self.fused(*arguments, **named)

    @property
    def __signature__(self) -> inspect.Signature:
        return inspect.signature(type(self.layer).forward.__get__(self.layer))

    def hooked_part(self) -> str | None:
        """The name of an uncalled part that has hooks, or None."""
        return next((name for name, module in self.uncalled() if have_hooks((module,))), None)

    @abstractmethod
    def fused(self, *arguments, **named):
        """The layer's results."""

    @abstractmethod
    def uncalled(self) -> Iterator[tuple[str, nn.Module]]:
        """Modules that ``fused`` reads the weights of and does not call, with the names of their parts."""

    @abstractmethod
    def trials(self, generator: torch.Generator) -> Iterator[tuple[nn.Module, tuple]]:
        """Copies of the layer with random weights in float64, and arguments to call them with."""

    @abstractmethod
    def outcome(self, result: object, arguments: tuple) -> dict[str, Tensor]:
        """What a call returned, by name.

        Raises:
            UnrecognisedError: it is not what the published layer returns.
        """
