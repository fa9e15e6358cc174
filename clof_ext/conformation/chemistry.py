"""Molecules from and to RDKit.

A ``Molecule`` keeps its atoms in the order of its SMILES with all hydrogens written, so that the SMILES alone gives
back the RDKit molecule, its charges and its stereochemistry in the same order.
"""

import numpy as np
import torch
from torch import Tensor

from .. import _check
from ..training import ExplainedError, extra
from .graph import both_directions
from .molecule import Molecule

with extra("conformers"):
    from rdkit import Chem, rdBase

# In units of the sum of the covalent radii: also in molecular dynamics, bonds are not stretched by more.
LONGEST_BOND = 1.3


class ChemistryError(ExplainedError, ValueError):
    """A molecule that cannot be read or made; the sentence names it."""


def read_smiles(smiles: str, name: str = "") -> Molecule:
    """A molecule without conformers from a SMILES; hydrogens may be implicit.

    Args:
        smiles: of one molecule (no ``.``).
        name: kept in the molecule; the SMILES as given if empty.

    Raises:
        ChemistryError: RDKit cannot read it, or it has no atom, a dummy atom or several fragments.
    """
    with rdBase.BlockLogs():
        mol = Chem.MolFromSmiles(smiles)
    if mol is None:
        raise ChemistryError(f"{smiles!r} is no SMILES of a molecule that RDKit can read.")
    return from_rdkit(Chem.AddHs(mol), name or smiles)


def from_rdkit(mol: Chem.Mol, name: str = "") -> Molecule:
    """A molecule with all conformers of an RDKit molecule, renumbered; energies and weights unknown.

    Args:
        mol: sanitized, with explicit hydrogens.
        name: kept in the molecule; its SMILES without hydrogens if empty.

    Raises:
        ChemistryError: there are implicit hydrogens, no atoms, dummy atoms or several fragments, or a SMILES does not
            describe its bonds.
    """
    short = name or Chem.MolToSmiles(Chem.RemoveHs(mol, sanitize=False))
    _check_whole(mol, short)
    smiles = Chem.MolToSmiles(mol)
    order = list(mol.GetPropsAsDict(includePrivate=True, includeComputed=True)["_smilesAtomOutputOrder"])
    mol = Chem.RenumberAtoms(mol, order)
    again = _parse_whole(smiles)
    if again is None or graph_of(again)[:2] != graph_of(mol)[:2]:
        raise ChemistryError(f"{short}: its SMILES {smiles!r} does not describe the bonds that it has.")
    edge_index, edge_type = both_directions(*_bonds(mol))
    bare = Molecule(
        smiles=smiles,
        atomic_numbers=torch.tensor(_numbers(mol)),
        edge_index=edge_index,
        edge_type=edge_type,
        positions=torch.zeros(0, mol.GetNumAtoms(), 3),
        energies=torch.zeros(0, dtype=torch.float64),
        weights=torch.zeros(0, dtype=torch.float64),
        name=short,
    )
    return bare.with_conformers(conformer_positions(mol))


def to_rdkit(molecule: Molecule, positions: Tensor | None = None) -> Chem.Mol:
    """The RDKit molecule with explicit hydrogens, in the molecule's order of atoms.

    Args:
        molecule: the molecule.
        positions: (C, N, 3) of the conformers to add, the molecule's own if not given.

    Raises:
        ChemistryError: the SMILES does not describe as many atoms.
    """
    mol = _parse_whole(molecule.smiles)
    if mol is None or mol.GetNumAtoms() != molecule.num_atoms:
        raise ChemistryError(
            f"{molecule.name}: its SMILES {molecule.smiles!r} does not describe {molecule.num_atoms} atoms."
        )
    for position in molecule.positions if positions is None else positions:
        mol.AddConformer(_conformer(position), assignId=True)
    return mol


def set_positions(mol: Chem.Mol, position: Tensor) -> Chem.Mol:
    """A copy of the molecule with one conformer, at (N, 3).

    Raises:
        ValueError: not as many positions as atoms.
    """
    _check.shape(position, (mol.GetNumAtoms(), 3), "position")
    copy = Chem.Mol(mol)
    copy.RemoveAllConformers()
    copy.AddConformer(_conformer(position))
    return copy


def conformer_positions(mol: Chem.Mol) -> Tensor:
    """Positions of all conformers of an RDKit molecule: (C, N, 3) float64."""
    points = [conformer.GetPositions() for conformer in mol.GetConformers()]
    return torch.from_numpy(np.array(points, dtype=np.float64).reshape(len(points), mol.GetNumAtoms(), 3))


def graph_of(mol: Chem.Mol) -> tuple:
    """Atoms and bonds in their order: equal for molecules that number the same graph alike."""
    bonds, types = _bonds(mol)
    return tuple(_numbers(mol)), bonds.tobytes(), types.tobytes()


def close_pairs(atomic_numbers: Tensor, position: Tensor, factor: float) -> Tensor:
    """(2, P) atoms i < j, sorted, whose distance is at most ``factor`` times the sum of their covalent radii."""
    close = (relative_distances(atomic_numbers, position) <= factor).triu(1)
    return close.nonzero().T


def relative_distances(atomic_numbers: Tensor, position: Tensor) -> Tensor:
    """(N, N) distances in units of the sum of the two atoms' covalent radii."""
    table = Chem.GetPeriodicTable()
    radii = torch.tensor([table.GetRcovalent(number) for number in atomic_numbers.tolist()], dtype=torch.float64)
    return torch.cdist(position.double(), position.double()) / (radii[:, None] + radii)


def _conformer(position: Tensor) -> Chem.Conformer:
    conformer = Chem.Conformer(len(position))
    conformer.SetPositions(position.double().numpy())
    return conformer


def _parse_whole(smiles: str) -> Chem.Mol | None:
    """Parse a SMILES in which hydrogens are atoms."""
    options = Chem.SmilesParserParams()
    options.removeHs = False
    with rdBase.BlockLogs():
        return Chem.MolFromSmiles(smiles, options)


def _check_whole(mol: Chem.Mol, name: str) -> None:
    if mol.GetNumAtoms() == 0:
        raise ChemistryError(f"{name!r} has no atoms.")
    if any(atom.GetTotalNumHs() for atom in mol.GetAtoms()):
        raise ChemistryError(f"{name} must have explicit hydrogens; some are implicit.")
    if 0 in _numbers(mol):
        raise ChemistryError(f"{name} has a dummy atom.")
    if len(Chem.GetMolFrags(mol)) > 1:
        raise ChemistryError(f"{name} has {len(Chem.GetMolFrags(mol))} fragments; conformers are made of one molecule.")


def _numbers(mol: Chem.Mol) -> list[int]:
    return [atom.GetAtomicNum() for atom in mol.GetAtoms()]


def _bonds(mol: Chem.Mol) -> tuple[np.ndarray, np.ndarray]:
    """(2, B) atoms of every bond, the lower first, sorted; and (B,) types."""
    rows = sorted(
        (*sorted((bond.GetBeginAtomIdx(), bond.GetEndAtomIdx())), int(bond.GetBondType())) for bond in mol.GetBonds()
    )
    table = np.array(rows, dtype=np.int64).reshape(-1, 3)
    return table[:, :2].T, table[:, 2]
