"""Conformers from SMILES: relaxation, duplicates, weights; what cannot be made is named and skipped."""

import functools
import math

import pytest
import torch

pytest.importorskip("rdkit", reason="needs rdkit: pip install 'clof_ext[conformers]'")
pytest.importorskip("tblite", reason="needs tblite: pip install 'clof_ext[conformers]'")

from ase.units import kcal, mol

from clof_ext.conformation import Store
from clof_ext.conformation.chemistry import ChemistryError, read_smiles
from clof_ext.conformation.embed import etkdg
from clof_ext.conformation.make import (
    Entry,
    Recipe,
    boltzmann_weights,
    distinct,
    make_conformers,
    make_set,
    read_list,
    shipped_lists,
)
from clof_ext.conformation.xtb import charge, keeps_bonds, properties, relax
from clof_ext.training import OptionError

KCAL_PER_MOL = kcal / mol


def test_boltzmann_weights_by_hand():
    """kT at 298.15 K is 0.5925 kcal/mol: 1 kcal/mol above is exp(-1.688) = 0.185 as likely."""
    weights = boltzmann_weights(torch.tensor([0.0, 1.0, math.inf], dtype=torch.float64) * KCAL_PER_MOL - 500)
    assert weights.tolist() == pytest.approx([1 / 1.18494, 0.18494 / 1.18494, 0.0], abs=1e-4)


def test_ethanol_has_two_conformers():
    """Anti and gauche: the mirror image of gauche is the same for heavy atoms."""
    molecule = make_conformers(Entry("CCO", "ethanol"), Recipe(embeddings=12))
    assert molecule.num_conformers == 2 and molecule.name == "ethanol"
    assert float(molecule.weights.sum()) == pytest.approx(1) and molecule.weights[0] > molecule.weights[1]
    gap = float(molecule.energies.diff()) / KCAL_PER_MOL
    assert 0 < gap < 3
    ratio = math.exp(-gap / 0.592484)
    assert float(molecule.weights[1] / molecule.weights[0]) == pytest.approx(ratio, rel=1e-4)
    # They are minima: relaxed again, they stay.
    position, energy = relax(molecule, molecule.positions[0])
    assert energy == pytest.approx(float(molecule.energies[0]), abs=1e-3)
    again = make_conformers(Entry("CCO", "ethanol"), Recipe(embeddings=12))
    # xTB's threads add in any order.
    torch.testing.assert_close(again.positions, molecule.positions, rtol=0, atol=1e-3)
    torch.testing.assert_close(again.energies, molecule.energies, rtol=0, atol=1e-4)


def test_duplicates_are_the_same_in_energy_and_shape():
    molecule = etkdg(read_smiles("CCCO"), 2, seed=3)
    one, other = molecule.positions
    cos, sin = math.cos(1.0), math.sin(1.0)
    turned = one @ torch.tensor([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]])
    positions = torch.stack((one, other, one + 5, turned, one))
    near = torch.tensor([0.0, 0.01, 0.05, 0.09, 0.5], dtype=torch.float64) * KCAL_PER_MOL
    # The last has the shape of the first, but another energy: hydrogens may differ.
    assert distinct(molecule, positions[[0, 1, 2, 4]], near[[0, 1, 2, 4]]).tolist() == [0, 1, 3]
    assert distinct(molecule, positions[[2, 0]], near[[2, 0]]).tolist() == [1]
    # Of unknown energies, shape alone decides.
    unknown = torch.full((3,), math.nan)
    assert distinct(molecule, positions[[0, 1, 2]], unknown).tolist() == [0, 1]


def test_broken_bonds_are_seen():
    molecule = etkdg(read_smiles("CO"), 1, seed=0)
    position = molecule.positions[0]
    assert keeps_bonds(molecule, position)
    far = position.clone()
    hydrogen = molecule.atomic_numbers.tolist().index(1)
    far[hydrogen] += torch.tensor([3.0, 0, 0])
    assert not keeps_bonds(molecule, far)
    assert not keeps_bonds(molecule, position * 0.5)


def test_energies_and_gaps():
    ion = etkdg(read_smiles("[NH4+]"), 1, seed=0)
    assert charge(ion) == 1 and charge(read_smiles("C[N+](C)(C)CC(=O)[O-]")) == 0
    molecule = read_smiles("[H][H]").with_conformers(torch.tensor([[[0.0, 0, 0], [0.74, 0, 0]], [[0.0, 0, 0]] * 2]))
    values = properties(molecule)
    # The energy of H2 in GFN2-xTB is near -0.982 hartree; of coincident atoms nothing is known.
    assert float(values.energies[0]) == pytest.approx(-0.982 * 27.2114, abs=0.05) and 10 < float(values.gaps[0]) < 30
    assert values.energies[1].isnan() and values.gaps[1].isnan()
    with pytest.raises(ChemistryError, match=r"\[H\]\[H\]: GFN2-xTB failed"):
        relax(molecule, molecule.positions[1])


def test_a_recipe_that_makes_nothing_is_refused():
    with pytest.raises(OptionError, match="embeddings must be at least 1 and seed at least 0; got 0 and -1."):
        Recipe(embeddings=0, seed=-1)


def test_a_list_of_smiles(tmp_path):
    path = tmp_path / "list.smi"
    path.write_text("# a comment\nCCO ethanol\n\n  C#N\nCO  methyl alcohol \n")
    assert read_list(path) == [
        Entry("CCO", "ethanol", f"{path}, line 2"),
        Entry("C#N", "C#N", f"{path}, line 4"),
        Entry("CO", "methyl alcohol", f"{path}, line 5"),
    ]
    path.write_bytes(b"CO\n\xff\xfe\n")
    assert [entry.smiles for entry in read_list(path)] == ["CO", "\ufffd\ufffd"]


@pytest.mark.parametrize("processes", [1, 2])
def test_bad_lines_are_skipped_and_counted_and_the_rest_goes_on(tmp_path, capsys, processes):
    smiles = tmp_path / "list.smi"
    smiles.write_text("CO methanol\nC( broken\nOC again\nO.O pair\nN methanol\nC#N cyanide\n")
    writer = make_set(read_list(smiles), tmp_path / "set", Recipe(embeddings=2), processes)
    store = Store(tmp_path / "set")
    assert [molecule.name for molecule in store] == ["methanol", "cyanide"]
    assert store.skipped == writer.skipped
    assert {entry.name: entry.reason for entry in store.skipped} == {
        "broken": f"{smiles}, line 2: 'C(' is no SMILES of a molecule that RDKit can read.",
        "again": f"{smiles}, line 3: it is the same molecule as methanol, listed before.",
        "pair": f"{smiles}, line 4: pair has 2 fragments; conformers are made of one molecule.",
        "methanol (entry 4)": f"{smiles}, line 5: its name was listed before; its SMILES is N.",
    }
    assert f"skipped broken: {smiles}, line 2: 'C(' is no SMILES" in capsys.readouterr().out


def test_making_goes_on_where_it_was(tmp_path, monkeypatch):
    entries = [Entry(smiles, smiles) for smiles in ("CO", "C#N", "C(", "O")]
    whole, made = tmp_path / "whole", []
    # xTB's threads add in any order: the same molecules twice are not the same bits.
    original = functools.cache(make_conformers)
    monkeypatch.setattr("clof_ext.conformation.make.make_conformers", original)
    make_set(entries, whole, Recipe(embeddings=2))

    def stop_at_the_last(entry, recipe):
        made.append(entry.name)
        if entry.name == "O" and made.count("O") == 1:
            raise KeyboardInterrupt
        return original(entry, recipe)

    monkeypatch.setattr("clof_ext.conformation.make.make_conformers", stop_at_the_last)
    with pytest.raises(KeyboardInterrupt):
        make_set(entries, tmp_path / "set", Recipe(embeddings=2))
    make_set(entries, tmp_path / "set", Recipe(embeddings=2))
    assert made == ["CO", "C#N", "C(", "O", "O"]
    assert (tmp_path / "set").read_bytes() == whole.read_bytes()
    with pytest.raises(OptionError, match="set is there already; remove it to make it anew."):
        make_set(entries, tmp_path / "set", Recipe(embeddings=2))


@pytest.mark.parametrize("name", ["small", "qm9_like"])
def test_the_sets_that_ship_are_as_made(name):
    path = shipped_lists()[name]
    store = Store(path.with_suffix(".mols"))
    assert [each.name for each in store] == [entry.name for entry in read_list(path)] and store.skipped == []
    assert store.settings["method"] == "GFN2-xTB" and store.settings["recipe"] == {"embeddings": 30, "seed": 0}
    for each in store:
        assert each.same_graph(read_smiles(each.smiles))
        assert bool((each.energies.diff() >= 0).all()) and float(each.weights.sum()) == pytest.approx(1)
        assert float(each.energies[-1] - each.energies[0]) <= 6 * KCAL_PER_MOL
        assert all(keeps_bonds(each, position) for position in each.positions)


def test_a_molecule_none_of_whose_geometries_relaxes_is_named(monkeypatch):
    monkeypatch.setattr("clof_ext.conformation.xtb.MAX_STEPS", 1)
    with pytest.raises(ChemistryError, match="propane: GFN2-xTB did not converge in 1 steps. The same for all 1 "):
        make_conformers(Entry("CCC", "propane"), Recipe(embeddings=2))
