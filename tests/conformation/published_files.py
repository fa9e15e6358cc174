"""Small files in the formats of the published sets."""

import pickle
import sys
import types

import numpy as np
import torch
from ase import Atoms
from ase.db import connect
from rdkit import Chem

from clof_ext.conformation.chemistry import conformer_positions, read_smiles, set_positions
from clof_ext.conformation.embed import embed

HARTREE = 27.211386
ENERGIES = [-10.5, -10.25, -10.75]
WEIGHTS = [0.25, 0.125, 0.625]


def conformers(smiles: str, count: int = 3) -> list[Chem.Mol]:
    """RDKit molecules with one conformer each."""
    mol = embed(read_smiles(smiles), count, seed=0)
    return [set_positions(mol, position) for position in conformer_positions(mol)]


def geom_molecule(smiles: str) -> dict:
    """The content of one pickle of GEOM's release."""
    rows = zip(conformers(smiles), ENERGIES, WEIGHTS, strict=True)
    entries = [
        {"geom_id": 7, "rd_mol": mol, "totalenergy": energy, "boltzmannweight": np.float64(weight)}
        for mol, energy, weight in rows
    ]
    return {"smiles": smiles, "uniqueconfs": 3, "conformers": entries, "charge": 0}


def graph_values(mol: Chem.Mol, smiles: str, number: int) -> dict:
    """The attributes of one graph of ConfGF's splits."""
    numbers = [atom.GetAtomicNum() for atom in mol.GetAtoms()]
    return {
        "x": None,
        "atom_type": torch.tensor(numbers),
        "pos": torch.from_numpy(mol.GetConformer().GetPositions()).float(),
        "rdmol": mol,
        "smiles": smiles,
        "totalenergy": torch.tensor([ENERGIES[number]]),
        "boltzmannweight": torch.tensor([WEIGHTS[number]]),
        "idx": torch.tensor([0]),
    }


def pickled_graphs(values: list[dict], old: bool) -> bytes:
    """What pickle makes of graphs of PyTorch Geometric before version 2 (``old``) or since, without that package."""
    data, storage = types.ModuleType("torch_geometric.data.data"), types.ModuleType("torch_geometric.data.storage")
    for module, name in ((data, "Data"), (data, "DataEdgeAttr"), (storage, "GlobalStorage")):
        setattr(module, name, type(name, (), {"__module__": module.__name__}))
    names = ("torch_geometric", "torch_geometric.data", data.__name__, storage.__name__)
    before = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    sys.modules.update(dict.fromkeys(names, types.ModuleType("x")) | {data.__name__: data, storage.__name__: storage})
    try:
        graphs = []
        for attributes in values:
            graph = data.Data()
            if old:
                graph.__dict__.update(attributes)
            else:
                store = storage.GlobalStorage()
                store.__dict__.update(_mapping=attributes, _parent=graph)
                graph.__dict__.update(_edge_attr_cls=data.DataEdgeAttr, _store=store)
            graphs.append(graph)
        return pickle.dumps(graphs, protocol=2 if old else 4)
    finally:
        for name in names:
            del sys.modules[name]
        sys.modules.update(before)


def write_iso17(path, smiles: list[str]) -> None:
    """A database of geometries of several molecules in turn, without bonds."""
    molecules = [conformers(each) for each in smiles]
    with connect(path) as database:
        for number in range(3):
            for mols in molecules:
                numbers = [atom.GetAtomicNum() for atom in mols[0].GetAtoms()]
                atoms = Atoms(numbers, mols[number].GetConformer().GetPositions())
                forces = np.zeros((len(numbers), 3))
                database.write(atoms, total_energy=ENERGIES[number], data={"atomic_forces": forces})
