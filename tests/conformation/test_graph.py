"""The graph of a molecule: bonds, and edges of two and three bonds."""

import pytest
import torch

from clof_ext.conformation import extend_graph
from tests.golden_cases import load


def both(*bonds):
    """Bonds (i, j, type) in both directions."""
    i, j, kind = torch.tensor(bonds).T
    return torch.stack((torch.cat((i, j)), torch.cat((j, i)))), torch.cat((kind, kind))


def as_dict(edges):
    edge_index, edge_type = edges
    return {(i, j): kind for (i, j), kind in zip(edge_index.T.tolist(), edge_type.tolist(), strict=True)}


def test_a_chain_of_five_atoms():
    edges = extend_graph(*both((0, 1, 1), (1, 2, 2), (2, 3, 1), (3, 4, 3)), 5)
    assert edges[0].tolist() == [
        [0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4],
        [1, 2, 3, 0, 2, 3, 4, 0, 1, 3, 4, 0, 1, 2, 4, 1, 2, 3],
    ]
    assert edges[1].tolist() == [1, 23, 24, 1, 2, 23, 24, 23, 2, 1, 23, 24, 23, 1, 3, 24, 23, 3]
    # Atoms 0 and 4 are four bonds apart.
    assert (0, 4) not in as_dict(edges)


def test_shortest_paths_decide_in_rings():
    """A ring of four: opposite atoms are two bonds apart, by two ways, and joined once; nothing is three apart."""
    edges = as_dict(extend_graph(*both((0, 1, 12), (1, 2, 12), (2, 3, 12), (3, 0, 12)), 4))
    assert edges[0, 2] == edges[1, 3] == 23
    assert set(edges.values()) == {12, 23} and len(edges) == 12
    # A ring of three: all atoms are bonded, no edge is added.
    assert len(as_dict(extend_graph(*both((0, 1, 1), (1, 2, 1), (2, 0, 1)), 3))) == 6


@pytest.mark.parametrize(("order", "count"), [(1, 8), (2, 14), (3, 18), (4, 20), (5, 20)])
def test_order_is_the_longest_distance(order, count):
    edge_index, edge_type = extend_graph(*both((0, 1, 1), (1, 2, 1), (2, 3, 1), (3, 4, 1)), 5, order)
    assert edge_index.shape == (2, count) and int(edge_type.max()) == (1 if order == 1 else 22 + min(order, 4) - 1)


def test_graphs_of_a_batch_stay_apart_and_lone_atoms_have_no_edges():
    edges = as_dict(extend_graph(*both((0, 1, 1), (3, 4, 1), (4, 5, 1)), 7))
    assert set(edges) == {(0, 1), (1, 0), (3, 4), (4, 3), (4, 5), (5, 4), (3, 5), (5, 3)}
    empty = torch.zeros(2, 0, dtype=torch.int64)
    assert extend_graph(empty, empty[0], 3)[0].shape == (2, 0)


def test_the_published_program_makes_the_same_graph():
    golden = load("confgen_score").group("in", torch.float64)
    edge_index, edge_type, is_bond = golden["edge_index"], golden["edge_type"], golden["is_bond"]
    shuffled = torch.randperm(int(is_bond.sum()), generator=torch.Generator().manual_seed(0))
    bonds, types = edge_index[:, is_bond][:, shuffled], edge_type[is_bond][shuffled]
    index, kinds = extend_graph(bonds, types, len(golden["atom_type"]))
    assert torch.equal(index, edge_index) and torch.equal(kinds, edge_type)


def test_wrong_graphs_are_named():
    edge_index, edge_type = both((0, 1, 1), (1, 2, 1))
    with pytest.raises(ValueError, match="edge_index must hold numbers from 0 to 1; got 2."):
        extend_graph(edge_index, edge_type, 2)
    with pytest.raises(ValueError, match="edge_index must join different atoms; got a self-loop at 1."):
        extend_graph(torch.tensor([[0, 1], [1, 1]]), torch.ones(2), 2)
    with pytest.raises(ValueError, match=r"edge_index must list every edge once; got the edge \(1, 0\) twice."):
        extend_graph(torch.tensor([[0, 1, 1], [1, 0, 0]]), torch.ones(3), 2)
    with pytest.raises(ValueError, match=r"edge_type must have shape \(4\); got \(3,\)."):
        extend_graph(edge_index, edge_type[:3], 3)
    with pytest.raises(ValueError, match="order must be at least 1; got 0."):
        extend_graph(edge_index, edge_type, 3, 0)
    with pytest.raises(TypeError, match="edge_index must be int64; got int32."):
        extend_graph(edge_index.int(), edge_type, 3)
