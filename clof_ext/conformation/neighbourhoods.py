"""The edges of molecules in an order in which those into each atom form a matrix."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..graph import EdgePlan, prepare_graph
from .per_graph import once_per_graph

# Edges of a group: what one group reads and writes stays in a core's cache.
GROUP_EDGES = 1024
# Ghost edges that a group may have, in all and for each edge: work on ghosts is cheaper than one more group.
MAX_GHOSTS, GHOSTS_PER_EDGE = 64, 0.1


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

    Where few atoms have just so many edges, they join the atoms that have more, and get ghosts in place of the edges
    that they lack: loops, on which frames are 0 and attention does not look. S counts edges and ghosts.

    Attributes:
        node_order: (N,) int64, old number of each atom in the new order.
        edge_order: (S,) int64, old number of each edge; of a ghost, any.
        ghost: (S,) bool.
        source, target: (S,) int64, ends of the edges in the new order; targets never decrease.
        plan: the same edges for the ops, with the targets as receivers.
        groups: the atoms that have edges.
    """

    node_order: Tensor
    edge_order: Tensor
    ghost: Tensor
    source: Tensor
    target: Tensor
    plan: EdgePlan
    groups: tuple[Group, ...]


@once_per_graph
def neighbourhoods(edge_index: Tensor, num_nodes: int) -> Neighbourhoods:
    """Sort the edges once; cached, as the edges' plan is, for the life of ``edge_index``.

    Args:
        edge_index: (2, E) sources and targets.
        num_nodes: N.

    Raises:
        TypeError, ValueError: see ``prepare_graph``.
    """
    degree = edge_index[1].bincount(minlength=num_nodes)
    degree, node_order = degree.sort(stable=True)
    place = torch.empty_like(node_order)
    place[node_order] = torch.arange(num_nodes, device=place.device)
    groups = tuple(_groups(degree))
    slots = torch.zeros_like(degree)
    for group in groups:
        slots[group.nodes] = group.degree
    target = torch.arange(num_nodes, device=slots.device).repeat_interleave(slots)
    sorted_target, numbers = place[edge_index[1]].sort(stable=True)
    # An edge's slot: where its target's slots start, and the number of edges into the same target before it.
    ghosts_before = (slots.cumsum(0) - slots) - (degree.cumsum(0) - degree)
    slot = torch.arange(len(numbers), device=slots.device) + ghosts_before[sorted_target]
    ghost = torch.ones_like(target, dtype=torch.bool)
    ghost[slot] = False
    edge_order, source = torch.zeros_like(target), target.clone()
    edge_order[slot], source[slot] = numbers, place[edge_index[0]][numbers]
    plan = prepare_graph(torch.stack((target, source)), num_nodes)
    return Neighbourhoods(node_order, edge_order, ghost, source, target, plan, groups)


def _groups(degree: Tensor) -> Iterator[Group]:
    """Groups of about GROUP_EDGES slots or fewer, from the rising numbers of edges into the atoms."""
    counts = degree.bincount().tolist()
    node, slot = sum(counts[:1]), 0
    for size, count in _joined(counts):
        end = node + count
        parts = math.ceil(count * size / GROUP_EDGES)
        while node < end:
            stop = min(node + math.ceil(count / parts), end)
            n_slots = (stop - node) * size
            yield Group(slice(node, stop), slice(slot, slot + n_slots), size)
            node, slot = stop, slot + n_slots


def _joined(counts: list[int]) -> Iterator[tuple[int, int]]:
    """(degree, number of atoms) after atoms of nearly the same degree were joined; counts[d] atoms have d edges."""
    atoms = edges = largest = 0
    for size, count in enumerate(counts):
        if size == 0 or count == 0:
            continue
        ghosts = atoms * size - edges
        if ghosts > max(MAX_GHOSTS, GHOSTS_PER_EDGE * (edges + count * size)):
            yield largest, atoms
            atoms = edges = 0
        atoms, edges, largest = atoms + count, edges + count * size, size
    if atoms:
        yield largest, atoms
