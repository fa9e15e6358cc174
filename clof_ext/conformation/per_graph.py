"""What is made of a graph's edges once."""

import functools
import weakref
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from ..graph import EdgePlan, prepare_graph

Made = TypeVar("Made")


def once_per_graph(make: Callable[[Tensor, int], Made]) -> Callable[[Tensor, int], Made]:
    """A function of (2, E) edges and N that is computed once; cached, as the edges' plan is, for the life of the edges.

    Args:
        make: is given the checked edges as int64.
    """
    made: weakref.WeakKeyDictionary[EdgePlan, Made] = weakref.WeakKeyDictionary()

    @functools.wraps(make)
    def cached(edge_index: Tensor, num_nodes: int) -> Made:
        given = prepare_graph(edge_index, num_nodes)
        if given not in made:
            # Tensors made in inference mode could not be saved for a backward pass later.
            with torch.inference_mode(False):
                made[given] = make(edge_index.long(), num_nodes)
        return made[given]

    return cached
