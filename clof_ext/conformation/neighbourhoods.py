"""The edges of molecules in an order in which those into each atom form a matrix."""

import weakref
from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph import EdgePlan, prepare_graph

# Edges of a group: what one group reads and writes stays in a core's cache.
GROUP_EDGES = 1024


@dataclass(frozen=True)
class Group:
    """Consecutive atoms that all have the same number of edges into them.

    Attributes:
        nodes, edges: their ranges in the new order; edges[k * degree : (k + 1) * degree] go into atom k of the group.
        degree: edges into each atom, at least 1.
    """

    nodes: slice
    edges: slice
    degree: int


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Atoms sorted by the number of edges into them, and edges by the atom that they go into.

    Attributes:
        node_order: (N,) int64, old number of each atom in the new order.
        edge_order: (E,) int64, old number of each edge.
        source, target: (E,) int64, ends of the edges in the new order; targets never decrease.
        plan: the same edges for the ops, with the targets as receivers.
        groups: the atoms that have edges.
    """

    node_order: Tensor
    edge_order: Tensor
    source: Tensor
    target: Tensor
    plan: EdgePlan
    groups: tuple[Group, ...]


def neighbourhoods(edge_index: Tensor, num_nodes: int) -> Neighbourhoods:
    """Sort the edges once; cached, as the edges' plan is, for the life of ``edge_index``.

    Args:
        edge_index: (2, E) sources and targets.
        num_nodes: N.

    Raises:
        TypeError, ValueError: see ``prepare_graph``.
    """
    given = prepare_graph(edge_index, num_nodes)
    if given not in _made:
        _made[given] = _sorted_by_degree(edge_index.long(), num_nodes)
    return _made[given]


_made: "weakref.WeakKeyDictionary[EdgePlan, Neighbourhoods]" = weakref.WeakKeyDictionary()


def _sorted_by_degree(edge_index: Tensor, num_nodes: int) -> Neighbourhoods:
    degree = edge_index[1].bincount(minlength=num_nodes)
    node_order = degree.argsort(stable=True)
    place = torch.empty_like(node_order)
    place[node_order] = torch.arange(num_nodes, device=place.device)
    target, edge_order = place[edge_index[1]].sort(stable=True)
    source = place[edge_index[0]][edge_order]
    plan = prepare_graph(torch.stack((target, source)), num_nodes)
    return Neighbourhoods(node_order, edge_order, source, target, plan, tuple(_groups(degree)))


def _groups(degree: Tensor):
    """Groups of about GROUP_EDGES edges, from the unsorted numbers of edges into the atoms."""
    node = edge = 0
    for size, count in enumerate(degree.bincount().tolist()):
        if size == 0:
            node += count
            continue
        step = max(GROUP_EDGES // size, 1)
        end = node + count
        while node < end:
            stop = min(node + step, end)
            n_edges = (stop - node) * size
            yield Group(slice(node, stop), slice(edge, edge + n_edges), size)
            node, edge = stop, edge + n_edges
