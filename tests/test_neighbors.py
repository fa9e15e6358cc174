"""Neighbours within a radius, against all pairs of nodes and images."""

import itertools

import pytest
import torch
from torch import Tensor

from clof_ext import nn

pytest.importorskip("vesin", reason="needs vesin")
from clof_ext.neighbors import radius_graph

N, CUTOFF = 12, 1.3
CELL = torch.tensor([[2.0, 0.0, 0.0], [0.4, 1.8, 0.0], [0.1, 0.3, 2.2]], dtype=torch.float64)


def positions(seed: int = 0) -> Tensor:
    """Some lie outside of the cell."""
    generator = torch.Generator().manual_seed(seed)
    return 3 * torch.rand(N, 3, generator=generator, dtype=torch.float64) - 0.5


def brute_force(pos: Tensor, cell: Tensor | None, periodic: tuple[bool, ...]) -> set[tuple]:
    """Receiver, sender and rounded vector of every pair."""
    reach = [range(-4, 5) if cell is not None and repeats else (0,) for repeats in periodic]
    found = set()
    for shift in itertools.product(*reach):
        offset = torch.zeros(3, dtype=pos.dtype) if cell is None else torch.tensor(shift, dtype=pos.dtype) @ cell
        vectors = pos[:, None] - (pos + offset)[None, :]
        for i, j in (vectors.norm(dim=-1) < CUTOFF).nonzero().tolist():
            if i != j or any(shift):
                found.add((i, j, *rounded(vectors[i, j])))
    return found


def rounded(vector: Tensor) -> list[float]:
    return [round(value, 6) + 0.0 for value in vector.tolist()]


def found(pos: Tensor, neighbors) -> list[tuple]:
    x, (receiver, sender) = neighbors.positions(pos), neighbors.edge_index
    vectors = x[receiver] - x[sender]
    origin = neighbors.origin[sender]
    return [(i, j, *rounded(v)) for i, j, v in zip(receiver.tolist(), origin.tolist(), vectors, strict=True)]


CELLS = {
    "none": (None, True),
    "periodic": (CELL, True),
    "slab": (CELL, (True, True, False)),
    "walls": (CELL, False),
}


@pytest.mark.parametrize(("cell", "periodic"), CELLS.values(), ids=CELLS)
def test_all_pairs_within_the_cutoff(cell, periodic):
    pos = positions()
    neighbors = radius_graph(pos, CUTOFF, cell=cell, periodic=periodic)
    pairs = found(pos, neighbors)
    expected = brute_force(pos, cell, periodic if isinstance(periodic, tuple) else (periodic,) * 3)
    assert len(pairs) == len(set(pairs)) > N
    assert set(pairs) == expected
    receiver = neighbors.edge_index[0]
    assert bool((receiver.diff() >= 0).all())
    assert int(receiver.max()) < N
    assert torch.equal(neighbors.origin[:N], torch.arange(N))
    assert not neighbors.offset[:N].any()
    assert (len(neighbors.origin) > N) == (cell is not None and periodic is not False)


@pytest.mark.parametrize("cell", [None, CELL, torch.stack((CELL, 2 * CELL))], ids=["none", "one", "each"])
def test_batch_is_graph_by_graph(cell):
    graphs = [positions(0), positions(1)]
    pos, batch = torch.cat(graphs), torch.arange(2).repeat_interleave(N)
    cells = [None, None] if cell is None else list(cell.expand(2, 3, 3))
    pairs = found(pos, radius_graph(pos, CUTOFF, batch=batch, cell=cell))
    expected = [
        (i + k * N, j + k * N, *vector)
        for k, (graph, box) in enumerate(zip(graphs, cells, strict=True))
        for i, j, *vector in found(graph, radius_graph(graph, CUTOFF, cell=box))
    ]
    assert sorted(pairs) == sorted(expected)


def test_a_layer_on_a_periodic_system_sees_no_faces():
    """Nodes that are moved by whole cells get the same features, and positions that are moved with them."""
    torch.manual_seed(0)
    layer = nn.FrameConv(4, 4, 0, basis="radial").double()
    torch.nn.init.normal_(layer.coord_mlp[2].weight)
    h = torch.randn(N, 4, dtype=torch.float64)

    def update(pos: Tensor) -> tuple[Tensor, Tensor]:
        neighbors = radius_graph(pos, CUTOFF, cell=CELL)
        updated, x = layer(neighbors.features(h), neighbors.positions(pos), neighbors.edge_index)
        return updated[:N], x[:N] - pos

    moved = positions() + torch.randint(-2, 3, (N, 3)).double() @ CELL
    for value, wanted in zip(update(moved), update(positions()), strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-9)


def test_dtype_gradient_and_empty_graphs():
    pos = positions().float().requires_grad_()
    neighbors = radius_graph(pos, CUTOFF, cell=CELL.float())
    assert neighbors.offset.dtype == torch.float32
    assert neighbors.edge_index.dtype == torch.int64
    neighbors.positions(pos).sum().backward()
    assert torch.equal(pos.grad[:, 0], neighbors.origin.bincount().float())
    for empty in (radius_graph(torch.zeros(0, 3), 1.0), radius_graph(positions() * 100, 0.1)):
        assert empty.edge_index.shape == (2, 0)
    batch = torch.tensor([0] * 5 + [2] * 7)
    assert set(found(positions(), radius_graph(positions(), CUTOFF, batch=batch))) < brute_force(
        positions(), None, (False,) * 3
    )


def test_errors():
    pos = positions()
    with pytest.raises(ValueError, match=r"cutoff must be above 0; got 0"):
        radius_graph(pos, 0)
    with pytest.raises(ValueError, match=r"batch must be sorted"):
        radius_graph(pos, 1.0, batch=torch.arange(N).flip(0))
    with pytest.raises(ValueError, match=r"batch must have shape \(12\); got \(3,\)"):
        radius_graph(pos, 1.0, batch=torch.zeros(3, dtype=torch.int64))
    with pytest.raises(ValueError, match=r"cell must have shape \(1, 3, 3\); got \(2, 3, 3\)"):
        radius_graph(pos, 1.0, cell=torch.stack((CELL, CELL)))
    with pytest.raises(TypeError, match=r"cell must be float32 or float64; got int64"):
        radius_graph(pos, 1.0, cell=torch.eye(3).long())
    with pytest.raises(ValueError, match=r"pos must have shape \(N, 3\)"):
        radius_graph(pos[:, :2], 1.0)
