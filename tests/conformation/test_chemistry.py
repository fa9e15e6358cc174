"""Molecules from and to RDKit; embeddings."""

import pytest
import torch

pytest.importorskip("rdkit", reason="needs rdkit: pip install 'clof_ext[conformers]'")

from rdkit import Chem

from clof_ext.conformation.chemistry import (
    ChemistryError,
    close_pairs,
    from_rdkit,
    read_smiles,
    set_positions,
    to_rdkit,
)
from clof_ext.conformation.embed import embed, etkdg, etkdg_relaxed, relax_in_force_field
from clof_ext.conformation.make import read_list, shipped_lists


def test_a_molecule_by_hand():
    """Hydrogen cyanide: a single and a triple bond, in both directions."""
    molecule = read_smiles("C#N")
    assert molecule.smiles == "[H]C#N" and molecule.name == "C#N"
    assert molecule.atomic_numbers.tolist() == [1, 6, 7]
    assert molecule.edge_index.tolist() == [[0, 1, 1, 2], [1, 0, 2, 1]] and molecule.edge_type.tolist() == [1, 1, 3, 3]
    assert molecule.num_conformers == 0
    assert set(read_smiles("c1ccccc1O", "phenol").edge_type.tolist()) == {1, 12}


@pytest.mark.parametrize(
    "smiles", ["C[C@H](N)C(=O)O", "C/C=C\\CO", "C[N+](C)(C)CC(=O)[O-]", "c1cc[nH]c1", "OC1CC2OC2C1"]
)
def test_rdkit_gets_back_the_same_molecule_in_the_same_order(smiles):
    molecule = read_smiles(smiles)
    points = torch.randn(3, molecule.num_atoms, 3)
    mol = to_rdkit(molecule.with_conformers(points))
    assert [atom.GetAtomicNum() for atom in mol.GetAtoms()] == molecule.atomic_numbers.tolist()
    assert Chem.MolToSmiles(Chem.RemoveHs(mol)) == Chem.CanonSmiles(smiles)
    # Renumbered as one likes, the molecule comes back in its order, positions with their atoms.
    order = torch.randperm(molecule.num_atoms, generator=torch.Generator().manual_seed(1)).tolist()
    again = from_rdkit(Chem.RenumberAtoms(mol, order), smiles)
    assert again.smiles == molecule.smiles and again.same_graph(molecule) and again.num_conformers == 3
    lengths, expected = (
        sorted((one.positions[0][one.edge_index[0]] - one.positions[0][one.edge_index[1]]).norm(dim=1).tolist())
        for one in (again, molecule.with_conformers(points))
    )
    assert lengths == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("smiles", "message"),
    [
        ("CC(", r"'CC\(' is no SMILES of a molecule that RDKit can read."),
        ("C(C)(C)(C)(C)C", "is no SMILES of a molecule"),
        ("", "'' has no atoms."),
        ("CC.O", "CC.O has 2 fragments; conformers are made of one molecule."),
        ("*CC", r"\*CC has a dummy atom."),
    ],
)
def test_bad_smiles_are_named(smiles, message):
    with pytest.raises(ChemistryError, match=message):
        read_smiles(smiles)


def test_implicit_hydrogens_are_refused():
    with pytest.raises(ChemistryError, match="ethanol must have explicit hydrogens; some are implicit."):
        from_rdkit(Chem.MolFromSmiles("CCO"), "ethanol")


def test_close_pairs_are_the_bonds_of_water():
    """Covalent radii 0.31 and 0.66: O-H at 0.96 is 0.99 of their sum, H-H at 1.52 is 2.45."""
    position = torch.tensor([[0.96, 0.0, 0.0], [0.0, 0.0, 0.0], [-0.24, 0.93, 0.0]])
    numbers = torch.tensor([1, 8, 1])
    assert close_pairs(numbers, position, 1.3).tolist() == [[0, 1], [1, 2]]
    assert close_pairs(numbers, position, 0.9).tolist() == [[], []]
    assert close_pairs(numbers, position, 2.5).tolist() == [[0, 0, 1], [1, 2, 2]]


def test_positions_must_fit_the_molecule():
    with pytest.raises(ValueError, match=r"position must have shape \(3, 3\); got \(4, 3\)."):
        set_positions(to_rdkit(read_smiles("O")), torch.zeros(4, 3))


def test_embeddings_differ_from_each_other_and_repeat_by_seed():
    molecule = read_smiles("CCCO")
    one, same, other = etkdg(molecule, 3, seed=0), etkdg(molecule, 3, seed=0), etkdg(molecule, 3, seed=1)
    assert one.num_conformers == 3 and torch.equal(one.positions, same.positions)
    assert not torch.equal(one.positions, other.positions) and not torch.equal(one.positions[0], one.positions[1])
    relaxed = etkdg_relaxed(molecule, 3, seed=0)
    assert relaxed.num_conformers == 3 and not torch.allclose(relaxed.positions, one.positions, atol=1e-3)


def test_the_force_field_leaves_the_molecule_as_it_is():
    """Its own idea of what is aromatic must not come into the bonds: uracil's ring is aromatic to RDKit alone."""
    mol = embed(read_smiles("O=c1cc[nH]c(=O)[nH]1"), 2, seed=0)
    before = Chem.MolToSmiles(mol), mol.GetConformer(1).GetPositions()
    positions, energies = relax_in_force_field(mol)
    assert Chem.MolToSmiles(mol) == before[0] and (mol.GetConformer(1).GetPositions() == before[1]).all()
    assert positions.shape == (2, 12, 3) and bool(energies.isfinite().all())
    # It has no parameters for boron.
    borane = embed(read_smiles("B"), 1, seed=0)
    positions, energies = relax_in_force_field(borane)
    assert bool(energies.isnan().all()) and (positions[0].numpy() == borane.GetConformer().GetPositions()).all()


def test_open_stereo_centres_are_settled_once():
    mol = embed(read_smiles("CC(O)C(F)Cl"), 8, seed=3)
    kinds = {Chem.MolToSmiles(Chem.RemoveHs(from_3d)) for from_3d in map(one_conformer, range(8), [mol] * 8)}
    assert len(kinds) == 1 and kinds.pop().count("@") >= 2


def one_conformer(number, mol):
    """A molecule whose stereo centres are read from one conformer."""
    copy = Chem.Mol(mol, confId=number)
    Chem.AssignStereochemistryFrom3D(copy, copy.GetConformers()[0].GetId())
    return copy


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="count must be at least 1; got 0."):
        embed(read_smiles("C"), 0, seed=0)
    with pytest.raises(ValueError, match="seed must be at least 0; got -1."):
        embed(read_smiles("C"), 1, seed=-1)


@pytest.mark.parametrize(("name", "count"), [("small", 40), ("qm9_like", 244), ("drug_like", 134)])
def test_the_lists_that_ship_are_of_different_molecules(name, count):
    molecules = [read_smiles(entry.smiles) for entry in read_list(shipped_lists()[name])]
    assert len(molecules) == len({molecule.smiles for molecule in molecules}) == count
    heavy = [int((molecule.atomic_numbers > 1).sum()) for molecule in molecules]
    assert max(heavy) <= 20 if name == "drug_like" else max(heavy) <= 9
