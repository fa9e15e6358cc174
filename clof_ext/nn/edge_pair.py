"""Edges as the published programs pass them: one tensor, or a pair of receivers and senders."""

import weakref
from collections.abc import Sequence

import torch
from torch import Tensor

# ids of a pair -> (weak references to both, their versions, the pair in one tensor); dropped when a tensor is.
_joined: dict[tuple[int, int], tuple[tuple[weakref.ref, ...], tuple[int, ...], Tensor]] = {}


def joined(edge_index: Tensor | Sequence[Tensor]) -> Tensor:
    """(2, E) edges; the same tensor for the same pair as long as it is unchanged, so that its plan is found again."""
    if isinstance(edge_index, Tensor):
        return edge_index
    pair = tuple(edge_index)
    if torch.compiler.is_compiling() or any(tensor.is_inference() for tensor in pair):
        return torch.stack(pair)
    key, versions = tuple(map(id, pair)), tuple(tensor._version for tensor in pair)
    entry = _joined.get(key)
    if entry is not None and versions == entry[1] and all(ref() is tensor for ref, tensor in zip(entry[0], pair)):
        return entry[2]
    references = tuple(weakref.ref(tensor, lambda _: _joined.pop(key, None)) for tensor in pair)
    _joined[key] = (references, versions, torch.stack(pair))
    return _joined[key][2]
