"""Edges as the published programs pass them: one tensor, or a pair of receivers and senders."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .tensor_cache import TensorCache

_joined = TensorCache()
_turned = TensorCache()


def joined(edge_index: Tensor | Sequence[Tensor]) -> Tensor:
    """(2, E) edges; the same tensor for the same pair as long as it is unchanged, so that its plan is found again."""
    if isinstance(edge_index, Tensor):
        return edge_index
    pair = tuple(edge_index)
    return _joined.get(pair, lambda: torch.stack(pair))


def turned(edge_index: Tensor) -> Tensor:
    """Rows exchanged; the same tensor for the same edges, so that their plan is found again."""
    return _turned.get((edge_index,), lambda: edge_index.flip(0))
