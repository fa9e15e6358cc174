"""Things made from tensors, kept as long as these live and are unchanged."""

import weakref
from collections.abc import Callable, Hashable
from typing import TypeVar

import torch
from torch import Tensor

from .._changes import state_of

Value = TypeVar("Value")


class TensorCache:
    """Values by the identity and state of the tensors that they were made from; a value must not hold these."""

    def __init__(self) -> None:
        # what beside the tensors, ids -> (weak references, states, value); dropped when one of the tensors is.
        self._entries: dict[tuple, tuple[tuple[weakref.ref, ...], tuple, object]] = {}

    def get(self, tensors: tuple[Tensor, ...], make: Callable[[], Value], beside: Hashable = None) -> Value:
        """The value of these tensors and of what else it depends on, made anew after a change of one of them."""
        # A tensor made in inference mode does not count its changes, and a traced one has no identity.
        if torch.compiler.is_compiling() or any(tensor.is_inference() for tensor in tensors):
            return make()
        key, states = (beside, *map(id, tensors)), tuple(map(state_of, tensors))
        entry = self._entries.get(key)
        if entry is not None and states == entry[1] and all(ref() is one for ref, one in zip(entry[0], tensors)):
            return entry[2]
        # Tensors made in inference mode could not be saved for a backward pass later.
        with torch.inference_mode(False):
            value = make()
        references = tuple(weakref.ref(tensor, lambda _: self._entries.pop(key, None)) for tensor in tensors)
        self._entries[key] = (references, states, value)
        return value
