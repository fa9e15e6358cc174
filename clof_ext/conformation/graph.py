"""The graph of a molecule: its bonds, and edges between atoms that are a few bonds apart."""

import numpy as np
import torch
from torch import Tensor

from .. import _check
from ..graph import check_range

# RDKit counts 22 bond types; longer edges are numbered after them.
NUM_BOND_TYPES = 22


def extend_graph(edge_index: Tensor, edge_type: Tensor, num_nodes: int, order: int = 3) -> tuple[Tensor, Tensor]:
    """Bonds, and edges between atoms up to ``order`` bonds apart.

    An edge between atoms k > 1 bonds apart (shortest path) has the type 22 + k - 1: 23 for two bonds, 24 for three.

    Args:
        edge_index: (2, B) int64, every bond in both directions, row 0 the source; no edge twice, no self-loop.
        edge_type: (B,) integers, the bonds' types.
        num_nodes: number of atoms N; molecules of a batch are separate components.
        order: longest distance in bonds, at least 1.

    Returns:
        edge_index (2, E) and edge_type (E,), sorted by (row 0, row 1).

    Raises:
        TypeError, ValueError: a wrong type or shape, an index outside [0, N), a self-loop, an edge listed twice, or
            ``order`` < 1.

    Source: Du et al., ICML 2022, section 6.2.
    """
    _check_bonds(edge_index, edge_type, num_nodes, order)
    keys, numbers = _sorted_keys(edge_index, num_nodes)
    if bool((keys.diff() == 0).any()):
        source, target = divmod(int(keys[:-1][keys.diff() == 0][0]), num_nodes)
        raise ValueError(f"edge_index must list every edge once; got the edge ({source}, {target}) twice.")
    bonds = edge_index[:, numbers]
    degree = bonds[0].bincount(minlength=num_nodes)
    levels, types = [keys], [edge_type[numbers]]
    reached = torch.cat((keys, torch.arange(num_nodes, device=keys.device) * (num_nodes + 1)))
    for length in range(2, order + 1):
        steps = _one_step_further(levels[-1], bonds[1], degree, num_nodes)
        level = steps[~torch.isin(steps, reached)]
        reached = torch.cat((reached, level))
        levels.append(level)
        types.append(torch.full_like(level, NUM_BOND_TYPES + length - 1, dtype=edge_type.dtype))
    all_keys, by_key = torch.cat(levels).sort()
    return torch.stack((all_keys // num_nodes, all_keys % num_nodes)), torch.cat(types)[by_key]


def both_directions(bonds: np.ndarray, types: np.ndarray) -> tuple[Tensor, Tensor]:
    """(2, B) bonds, each once, and (B,) types as edges in both directions, sorted by (row 0, row 1)."""
    edges = np.concatenate((bonds, bonds[::-1]), axis=1)
    order = np.lexsort((edges[1], edges[0]))
    return torch.from_numpy(edges[:, order].copy()), torch.from_numpy(np.concatenate((types, types))[order])


def _sorted_keys(edge_index: Tensor, num_nodes: int) -> tuple[Tensor, Tensor]:
    """One number per edge that orders edges by (row 0, row 1), sorted; and the edges' numbers in that order."""
    return (edge_index[0] * num_nodes + edge_index[1]).sort()


def _one_step_further(keys: Tensor, neighbours: Tensor, degree: Tensor, num_nodes: int) -> Tensor:
    """Keys (i, k), each once, of all bonds (j, k) that continue the pairs (i, j) of ``keys``."""
    source, middle = keys // num_nodes, keys % num_nodes
    first = degree.cumsum(0) - degree
    count = degree[middle]
    start_of_pair = count.cumsum(0) - count
    within = torch.arange(int(count.sum()), device=keys.device) - start_of_pair.repeat_interleave(count)
    ends = neighbours[first[middle].repeat_interleave(count) + within]
    return (source.repeat_interleave(count) * num_nodes + ends).unique()


def _check_bonds(edge_index: Tensor, edge_type: Tensor, num_nodes: int, order: int) -> None:
    _check.is_tensor(edge_index, "edge_index")
    _check.is_tensor(edge_type, "edge_type")
    _check.dtype(edge_index, (torch.int64,), "edge_index")
    _check.shape(edge_index, (2, "B"), "edge_index")
    _check.shape(edge_type, (edge_index.shape[1],), "edge_type")
    if order < 1:
        raise ValueError(f"order must be at least 1; got {order}.")
    check_range(edge_index, num_nodes, "edge_index")
    loops = edge_index[0] == edge_index[1]
    if bool(loops.any()):
        raise ValueError(f"edge_index must join different atoms; got a self-loop at {int(edge_index[0, loops][0])}.")
