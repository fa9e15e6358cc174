"""Graphs of the neighbours within a radius, with and without periodic cells, found by the package ``vesin``."""

import functools
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from . import _check

N_AXES = 3


@dataclass(frozen=True)
class Neighbors:
    """The neighbours of N nodes; those across the faces of a periodic cell are images, numbered after the nodes.

    A layer is called with the features and positions of nodes and images, and its first N rows are kept::

        h, x = layer(neighbors.features(h), neighbors.positions(pos), neighbors.edge_index)
        h, pos = h[:N], x[:N]

    Attributes:
        edge_index: (2, E) int64; row 0 the receivers, below N, sorted; row 1 the senders, below N + M.
        origin: (N + M,) the node that each node or image is a copy of.
        offset: (N + M, 3) the position of each image less that of its node, in the unit of the positions.
    """

    edge_index: Tensor
    origin: Tensor
    offset: Tensor

    def features(self, values: Tensor) -> Tensor:
        """(N + M, ...) values of nodes and images from (N, ...) values of nodes."""
        return values[self.origin]

    def positions(self, pos: Tensor) -> Tensor:
        """(N + M, 3) positions of nodes and images from (N, 3) positions of nodes."""
        return pos[self.origin] + self.offset


def radius_graph(
    pos: Tensor,
    cutoff: float,
    *,
    batch: Tensor | None = None,
    cell: Tensor | None = None,
    periodic: bool | tuple[bool, bool, bool] = True,
) -> Neighbors:
    """All pairs of different nodes, or nodes and images, that are nearer than a cutoff.

    The graph does not depend on positions differentiably; ``Neighbors.positions`` does. With the basis "complete" use
    it without a cell only: that frame needs positions from a common centre, which a periodic system does not have.

    Args:
        pos: (N, 3) positions in any unit of length, float32 or float64, on any device (neighbours are found on the
            CPU). They need not lie inside the cell.
        cutoff: radius, above 0, in the same unit.
        batch: (N,) the graph of each node, sorted; nodes of different graphs are no neighbours. None for one graph.
        cell: (3, 3), rows the edges of the periodic cell, or (G, 3, 3) one for each graph; None for no cell.
        periodic: whether the cell repeats, along all of its edges or each; read only where there is a cell.

    Returns:
        The neighbours, on the device and in the dtype of ``pos``.

    Raises:
        ImportError: the package vesin is not installed.
        TypeError, ValueError: a wrong type, dtype or shape, a cutoff that is not above 0, an unsorted batch.
    """
    _check.positions(pos)
    if not cutoff > 0:
        raise ValueError(f"cutoff must be above 0; got {cutoff!r}.")
    sizes = _sizes(pos, batch)
    cells = _cells(pos, cell, len(sizes))
    finder = _vesin().NeighborList(cutoff=float(cutoff), full_list=True, sorted=True)
    points = pos.detach().to("cpu", torch.float64)
    # Without a cell nothing repeats.
    repeats, wanted = (periodic, "PS") if cell is not None else (False, "P")
    first = torch.tensor([0, *sizes[:-1]]).cumsum(0)
    pairs, shifts = [], []
    for graph, box, start in zip(points.split(sizes), cells, first, strict=True):
        found, *shift = finder.compute(graph.numpy(), box.numpy(), repeats, wanted)
        pairs.append(torch.from_numpy(found.astype("int64")).reshape(-1, 2).T + start)
        shifts += map(torch.from_numpy, shift)
    edge_index = torch.cat(pairs, 1)
    if cell is None:
        return Neighbors(edge_index.to(pos.device), torch.arange(len(pos), device=pos.device), torch.zeros_like(pos))
    return _with_images(pos, edge_index, torch.cat(shifts).long(), sizes, cells)


@functools.cache
def _vesin() -> ModuleType:
    try:
        import vesin
    except ImportError as error:
        raise ImportError("radius_graph needs the package vesin: pip install vesin") from error
    return vesin


def _sizes(pos: Tensor, batch: Tensor | None) -> list[int]:
    """Nodes of each graph."""
    if batch is None:
        return [len(pos)]
    _check.is_tensor(batch, "batch")
    _check.shape(batch, pos.shape[:1], "batch")
    _check.dtype(batch, (torch.int64, torch.int32), "batch")
    if bool((batch.diff() < 0).any()):
        raise ValueError("batch must be sorted, so that the nodes of a graph follow each other.")
    return batch.bincount().tolist() or [0]


def _cells(pos: Tensor, cell: Tensor | None, n_graphs: int) -> Tensor:
    """(G, 3, 3), zeros for no cell."""
    if cell is None:
        return torch.zeros(n_graphs, N_AXES, N_AXES, dtype=torch.float64)
    _check.is_tensor(cell, "cell")
    _check.dtype(cell, _check.GEOMETRY_DTYPES, "cell")
    cells = cell.expand(n_graphs, -1, -1) if cell.dim() == 2 else cell
    _check.shape(cells, (n_graphs, N_AXES, N_AXES), "cell")
    return cells.detach().to("cpu", torch.float64)


def _with_images(pos: Tensor, edge_index: Tensor, shift: Tensor, sizes: list[int], cells: Tensor) -> Neighbors:
    """Senders of another cell, shifted by (E, 3) whole cells, become images; each gets a number once."""
    receiver, sender = edge_index
    graph = torch.arange(len(sizes)).repeat_interleave(torch.tensor(sizes))
    across = shift.any(1)
    keys = torch.cat((sender[:, None], shift), 1)[across]
    images, number = keys.unique(dim=0, return_inverse=True)
    sender = sender.clone()
    sender[across] = len(pos) + number
    origin = torch.cat((torch.arange(len(pos)), images[:, 0]))
    moved = torch.einsum("mk,mkd->md", images[:, 1:].double(), cells[graph[images[:, 0]]])
    offset = torch.cat((torch.zeros(len(pos), N_AXES, dtype=torch.float64), moved))
    return Neighbors(torch.stack((receiver, sender)).to(pos.device), origin.to(pos.device), offset.to(pos))
