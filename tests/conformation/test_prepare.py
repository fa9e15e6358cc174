"""Published sets: what they hold comes into the store; pickles that ask for more are refused."""

import json
import os
import pickle

import numpy as np
import pytest
import torch

pytest.importorskip("rdkit", reason="needs rdkit: pip install 'clof_ext[conformers]'")
pytest.importorskip("ase", reason="needs ase: pip install 'clof_ext[conformers]'")

from rdkit import Chem

from clof_ext.cli import main
from clof_ext.conformation import Store
from clof_ext.conformation.prepare import prepare_set
from clof_ext.conformation.sources import open_source
from clof_ext.conformation.unpickle import Record, read_pickle
from clof_ext.training import FileError, OptionError
from tests.conformation.published_files import (
    ENERGIES,
    HARTREE,
    WEIGHTS,
    conformers,
    geom_molecule,
    graph_values,
    pickled_graphs,
    write_iso17,
)


def prepared(path, tmp_path, **options):
    prepare_set(path, tmp_path / "store", **options)
    return Store(tmp_path / "store")


def bond_lengths(molecule):
    """(C, B) lengths of all bonds, sorted: the same however atoms are numbered."""
    source, target = molecule.edge_index
    return (molecule.positions[:, source] - molecule.positions[:, target]).norm(dim=-1).sort(dim=1).values


def lengths_of(mols):
    pairs = [[(bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()) for bond in mol.GetBonds()] * 2 for mol in mols]
    points = [mol.GetConformer().GetPositions() for mol in mols]
    rows = [sorted(np.linalg.norm(x[i] - x[j]) for i, j in bonds) for x, bonds in zip(points, pairs, strict=True)]
    return torch.tensor(np.array(rows)).float()


@pytest.fixture
def geom(tmp_path):
    """GEOM's release: two molecules, one that is no pickle, one of a wrong form, one without a file."""
    summary = {"CCO": {"pickle_path": "qm9/a.pickle"}, "C#N": {"pickle_path": "qm9/b.pickle"}, "CN": {"uniqueconfs": 0}}
    summary |= {"CCC": {"pickle_path": "qm9/c.pickle"}, "CF": {"pickle_path": "qm9/d.pickle"}}
    (tmp_path / "qm9").mkdir()
    (tmp_path / "qm9/a.pickle").write_bytes(pickle.dumps(geom_molecule("CCO"), 4))
    (tmp_path / "qm9/b.pickle").write_bytes(pickle.dumps(geom_molecule("C#N"), 2))
    (tmp_path / "qm9/c.pickle").write_bytes(pickle.dumps(geom_molecule("CCC"))[:-100])
    (tmp_path / "qm9/d.pickle").write_bytes(pickle.dumps({"conformers": [{"rd_mol": 3}]}))
    path = tmp_path / "summary_qm9.json"
    path.write_text(json.dumps(summary))
    return path


def test_the_release_of_geom(geom, tmp_path):
    store = prepared(geom, tmp_path)
    assert [molecule.name for molecule in store] == ["CCO", "C#N"]
    ethanol = store[0]
    assert ethanol.energies.tolist() == pytest.approx([energy * HARTREE for energy in ENERGIES], rel=1e-6)
    assert ethanol.weights.tolist() == WEIGHTS
    torch.testing.assert_close(bond_lengths(ethanol), lengths_of(conformers("CCO")), atol=1e-5, rtol=0)
    reasons = {entry.name: entry.reason for entry in store.skipped}
    assert set(reasons) == {"CCC", "CF"}
    assert "qm9/c.pickle is no pickle that can be read" in reasons["CCC"]
    assert "qm9/d.pickle is no molecule of GEOM (TypeError: a molecule of RDKit is expected" in reasons["CF"]


def test_the_most_probable_conformers_of_some_molecules(geom, tmp_path):
    store = prepared(geom, tmp_path, conformers=2)
    # Weights 0.625 and 0.25 of three, which then add up to 1.
    assert store[0].weights.tolist() == pytest.approx([0.625 / 0.875, 0.25 / 0.875])
    assert store[0].energies.tolist() == pytest.approx([ENERGIES[2] * HARTREE, ENERGIES[0] * HARTREE])
    prepare_set(geom, tmp_path / "none", conformers=4)
    none = Store(tmp_path / "none")
    assert len(none) == 0 and none.skipped[0].reason == "CCO has 3 conformers, fewer than 4."
    first = {}
    for seed in range(8):
        prepare_set(geom, tmp_path / f"{seed}", molecules=1, seed=seed)
        first[seed] = [molecule.name for molecule in Store(tmp_path / f"{seed}")]
    assert {"CCO", "C#N"} == {name for names in first.values() for name in names}
    assert all(len(names) == 1 for names in first.values())


def test_a_published_test_set(tmp_path):
    """Molecules with a number of conformers in a range, of which none was trained or validated on."""
    kinds = {"CCO": 3, "C#N": 2, "CC": 3, "CO": 1}
    graphs = [
        graph_values(mol, smiles, k) for smiles, n in kinds.items() for k, mol in enumerate(conformers(smiles, n))
    ]
    path, train = tmp_path / "all.pkl", tmp_path / "train.pkl"
    path.write_bytes(pickled_graphs(graphs, old=False))
    train.write_bytes(pickled_graphs(graphs[:1], old=False))
    prepare_set(train, tmp_path / "train.mols")
    store = prepared(path, tmp_path, between=(2, 2), without=[tmp_path / "train.mols"])
    assert [molecule.name for molecule in store] == ["C#N"]
    reasons = {entry.name: entry.reason for entry in store.skipped}
    expected = {name: f"{name} has {kinds[name]} conformers; expected 2 to 2." for name in ("CC", "CO")}
    assert reasons == expected
    words = ["conformers", "prepare", str(path), str(tmp_path / "test.mols"), "--between", "1", "3"]
    assert main([*words, "--without", str(tmp_path / "train.mols"), str(tmp_path / "store")]) == 0
    assert [molecule.name for molecule in Store(tmp_path / "test.mols")] == ["CC", "CO"]
    with pytest.raises(OptionError, match="between must be two rising numbers from 1; got 3 and 2."):
        prepare_set(path, tmp_path / "none", between=(3, 2))


@pytest.mark.parametrize("old", [True, False])
def test_the_splits_of_confgf_and_geodiff(tmp_path, old):
    values = [
        graph_values(mol, smiles, number) for smiles in ("CCO", "C#N") for number, mol in enumerate(conformers(smiles))
    ]
    # The positions of the graph count, not those that its molecule happens to have.
    values[0]["pos"] = values[0]["pos"] * 1.5
    broken = {**values[3], "pos": values[3]["pos"][:-1]}
    path = tmp_path / "train.pkl"
    path.write_bytes(pickled_graphs([*values, broken], old))
    store = prepared(path, tmp_path)
    assert [molecule.name for molecule in store] == ["CCO", "C#N"]
    expected = lengths_of(conformers("CCO"))
    expected[0] *= 1.5
    torch.testing.assert_close(bond_lengths(store[0]), expected, atol=1e-5, rtol=0)
    assert store[1].weights.tolist() == WEIGHTS
    assert store[1].energies.tolist() == pytest.approx([energy * HARTREE for energy in ENERGIES], rel=1e-6)
    (skipped,) = store.skipped
    assert skipped.name == "train.pkl record 6"
    assert (
        "train.pkl: record 6 is no conformer (ValueError: position must have shape (3, 3); got (2, 3).)"
        in skipped.reason
    )


def test_graphs_of_the_installed_pytorch_geometric(tmp_path):
    data = pytest.importorskip("torch_geometric.data", reason="needs torch_geometric")
    graphs = [data.Data(**graph_values(mol, "CCO", number)) for number, mol in enumerate(conformers("CCO"))]
    (tmp_path / "train.pkl").write_bytes(pickle.dumps(graphs))
    (molecule,) = prepared(tmp_path / "train.pkl", tmp_path)
    assert molecule.num_conformers == 3 and molecule.weights.tolist() == WEIGHTS


def test_the_splits_of_iso17_as_molecules(tmp_path):
    """Conformers may number their atoms differently; another molecule under the same SMILES is refused."""
    first, second, third = conformers("CCO")
    second = Chem.RenumberAtoms(second, list(range(second.GetNumAtoms()))[::-1])
    (tmp_path / "train.pkl").write_bytes(pickle.dumps([first, second, conformers("CC")[0], third, "text"]))
    store = prepared(tmp_path / "train.pkl", tmp_path)
    assert [(molecule.name, molecule.num_conformers) for molecule in store] == [("CCO", 3), ("CC", 1)]
    found = {tuple(row) for row in bond_lengths(store[0]).mul(1e4).round().tolist()}
    assert found == {tuple(row) for row in lengths_of(conformers("CCO")).mul(1e4).round().tolist()}
    assert store[0].energies.isnan().all() and store[0].weights.isnan().all()
    assert "record 4 is no conformer" in store.skipped[0].reason


def test_the_databases_of_iso17(tmp_path):
    write_iso17(tmp_path / "reference.db", ["CC(=O)O", "COC=O"])
    store = prepared(tmp_path / "reference.db", tmp_path)
    assert [molecule.name for molecule in store] == ["reference isomer 0", "reference isomer 1"]
    kinds = [Chem.CanonSmiles(molecule.smiles) for molecule in store]
    assert [Chem.MolToSmiles(Chem.MolFromSmiles(kind)) for kind in kinds] == ["CC(=O)O", "COC=O"]
    for molecule, smiles in zip(store, ("CC(=O)O", "COC=O"), strict=True):
        torch.testing.assert_close(bond_lengths(molecule), lengths_of(conformers(smiles)), atol=1e-5, rtol=0)
        assert molecule.energies.tolist() == ENERGIES


class Evil:
    def __reduce__(self):
        return os.system, ("touch was_here",)


class Nested:
    """A tensor whose memory is a pickle that calls a function."""

    def __reduce__(self):
        return torch.storage._load_from_bytes, (pickle.dumps(Evil(), 2),)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (pickle.dumps(Evil()), "it asks for posix.system, which no file of conformers has"),
        (pickle.dumps([Nested()]), "no pickle that can be read"),
        (b"\x80\x04\x8c\x05numpy\x8c\x10ndarray.__init__\x93.", "it asks for numpy.ndarray.__init__"),
        (b"cbuiltins\neval\n.", "it asks for builtins.eval"),
        (b"", "no pickle that can be read: Ran out of input."),
        (b"not a pickle", "no pickle that can be read"),
        (pickle.dumps([1, 2])[:-1], "no pickle that can be read"),
    ],
)
def test_other_pickles_are_refused(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.pkl"
    path.write_bytes(content)
    with pytest.raises(FileError, match=message) as error:
        read_pickle(path)
    assert str(path) in str(error.value)
    assert not (tmp_path / "was_here").exists()


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_plain_values_arrays_and_tensors_are_read(tmp_path, protocol):
    content = {"a": [1, 2.5, None], "b": np.arange(3.0), "c": np.float32(2), "d": torch.arange(4).reshape(2, 2)}
    (tmp_path / "plain.pkl").write_bytes(pickle.dumps(content, protocol))
    read = read_pickle(tmp_path / "plain.pkl")
    assert read["a"] == content["a"] and np.array_equal(read["b"], content["b"]) and read["c"] == 2
    assert torch.equal(read["d"], content["d"])


def test_files_of_other_kinds_are_named(tmp_path):
    def refused(name, content, message):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(FileError, match=message):
            list(open_source(tmp_path / name))

    refused("set.xyz", b"", r"set.xyz must end in .json, .pkl, .pickle, .db; its ending is '.xyz'.")
    refused("set.json", b"[1]", "set.json is no summary of GEOM")
    refused("set.db", b"no database" * 99, "set.db is no database of ASE that can be read")
    refused("set.pkl", pickle.dumps({}), "set.pkl must hold a list of conformers; it holds a dict.")
    with pytest.raises(FileError, match=r"none.pkl is no file."):
        open_source(tmp_path / "none.pkl")
    with pytest.raises(OptionError, match="conformers must be at least 1; got 0."):
        prepare_set(tmp_path / "set.pkl", tmp_path / "store", conformers=0)


def test_a_record_without_attributes_is_empty():
    record = Record()
    record.__setstate__(None)
    assert record.values == {}
