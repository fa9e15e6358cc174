"""Molecules and batches."""

import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from clof_ext.conformation import collate, empty_batch, split_conformers
from tests.conformation.made import CYANIDE, ETHANE, WATER, molecule, same


def test_a_batch_is_its_conformers_side_by_side():
    water, ethane, cyanide = molecule(WATER), molecule(ETHANE, seed=1), molecule(CYANIDE, seed=2)
    batch = collate([(water, 1), (ethane, 0), (water, 0), (cyanide, 1)])
    assert batch.num_graphs == 4 and batch.num_nodes == 17
    assert batch.ptr.tolist() == [0, 3, 11, 14, 17]
    assert batch.batch.tolist() == [0] * 3 + [1] * 8 + [2] * 3 + [3] * 3
    assert batch.atom_type.tolist() == [1, 8, 1, 1, 6, 1, 1, 6, 1, 1, 1, 1, 8, 1, 1, 6, 7]
    assert batch.smiles == (water.smiles, ethane.smiles, water.smiles, cyanide.smiles)
    expected = (water.positions[1], ethane.positions[0], water.positions[0], cyanide.positions[1])
    for pos, original in zip(split_conformers(batch, batch.pos), expected, strict=True):
        assert torch.equal(pos, original)
    # No edge joins two molecules; water has two bonds and one edge between its hydrogens, both ways.
    assert torch.equal(batch.batch[batch.edge_index[0]], batch.batch[batch.edge_index[1]])
    of_water = batch.edge_index[0] < 3
    assert batch.edge_index[:, of_water].tolist() == [[0, 0, 1, 1, 2, 2], [1, 2, 0, 2, 0, 1]]
    assert batch.edge_type[of_water].tolist() == [1, 23, 1, 1, 23, 1]
    # Ethane: 7 bonds, 12 pairs at two bonds, 9 at three.
    of_ethane = batch.edge_type[(batch.edge_index[0] >= 3) & (batch.edge_index[0] < 11)]
    assert [int((of_ethane == kind).sum()) for kind in (1, 23, 24)] == [14, 24, 18]


def test_an_empty_batch_has_one_graph_per_molecule():
    batch = empty_batch([molecule(WATER), molecule(CYANIDE, conformers=0)])
    assert batch.num_graphs == 2 and not batch.pos.any() and batch.pos.shape == (6, 3)


def test_conformers_are_centred():
    moved = torch.randn(4, 3, 3) + 50
    other = molecule(WATER).with_conformers(moved)
    assert other.num_conformers == 4 and other.positions.dtype == torch.float32
    assert float(other.positions.mean(1).abs().max()) < 1e-6
    assert torch.allclose(other.positions[:, 1] - other.positions[:, 0], moved[:, 1] - moved[:, 0], atol=1e-5)
    assert other.energies.isnan().all() and other.weights.isnan().all()


def test_molecules_travel_between_processes_without_shared_memory():
    original = molecule(ETHANE, conformers=50, name="ethane")
    packed = bytes(ForkingPickler.dumps(original))
    assert len(packed) > original.positions.nbytes
    assert same(pickle.loads(packed), original)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"positions must have shape \(C, 3, 3\); got \(2, 4, 3\)."):
        molecule(WATER).with_conformers(torch.zeros(2, 4, 3))
    with pytest.raises(ValueError, match=r"energies must have shape \(2\); got \(3,\)."):
        molecule(WATER).with_conformers(torch.zeros(2, 3, 3), torch.zeros(3))
    with pytest.raises(ValueError, match="A batch must have at least one conformer; got none."):
        collate([])
    with pytest.raises(ValueError, match=r"pos must have shape \(3, 3\); got \(4, 3\)."):
        split_conformers(empty_batch([molecule(WATER)]), torch.zeros(4, 3))
