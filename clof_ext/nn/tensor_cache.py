"""Things made from tensors, kept as long as these live and are unchanged."""

import weakref
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

Value = TypeVar("Value")


class TensorCache:
    """Values by the identity and version of the tensors that they were made from; a value must not hold these."""

    def __init__(self) -> None:
        # ids -> (weak references, versions, value); dropped when one of the tensors is.
        self._entries: dict[tuple[int, ...], tuple[tuple[weakref.ref, ...], tuple[int, ...], object]] = {}

    def get(self, tensors: tuple[Tensor, ...], make: Callable[[], Value]) -> Value:
        """The value of these tensors, made anew after a change of one of them."""
        # A tensor made in inference mode does not count its changes, and a traced one has no identity.
        if torch.compiler.is_compiling() or any(tensor.is_inference() for tensor in tensors):
            return make()
        key, versions = tuple(map(id, tensors)), tuple(tensor._version for tensor in tensors)
        entry = self._entries.get(key)
        if entry is not None and versions == entry[1] and all(ref() is one for ref, one in zip(entry[0], tensors)):
            return entry[2]
        # Tensors made in inference mode could not be saved for a backward pass later.
        with torch.inference_mode(False):
            value = make()
        references = tuple(weakref.ref(tensor, lambda _: self._entries.pop(key, None)) for tensor in tensors)
        self._entries[key] = (references, versions, value)
        return value
