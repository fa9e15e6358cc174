"""Distances between conformers: RDKit's best RMSD, without hydrogens."""

import numpy as np
from torch import Tensor

from ..training import extra
from .chemistry import to_rdkit
from .molecule import Molecule

with extra("conformers"):
    from rdkit import Chem
    from rdkit.Chem import rdMolAlign


def heavy(molecule: Molecule, positions: Tensor) -> Chem.Mol:
    """The RDKit molecule without hydrogens, with conformers at (C, N, 3)."""
    return Chem.RemoveHs(to_rdkit(molecule, positions))


def best_rmsd(one: Chem.Mol, number: int, other: Chem.Mol, other_number: int) -> float:
    """Smallest RMSD in angstrom of two conformers over rotations, translations and symmetries of the molecule.

    The first is laid on the second in place.
    """
    return float(rdMolAlign.GetBestRMS(one, other, number, other_number))


def rmsd_matrix(molecule: Molecule, references: Tensor, generated: Tensor) -> np.ndarray:
    """Best RMSD of every reference to every generated conformer: (R, G) in angstrom, from (R, N, 3) and (G, N, 3)."""
    one, other = heavy(molecule, references), heavy(molecule, generated)
    rows = [
        [best_rmsd(other, column, one, row) for column in range(other.GetNumConformers())]
        for row in range(one.GetNumConformers())
    ]
    return np.array(rows).reshape(len(references), len(generated))


def aligned_heavy(molecule: Molecule, reference: Tensor, other: Tensor) -> tuple[np.ndarray, float, list[list[int]]]:
    """A conformer laid on a reference, both (N, 3), without hydrogens.

    Returns:
        (2, H, 3) positions of the heavy atoms of both, their RMSD in angstrom, and the pairs of bonded atoms.
    """
    fixed, moved = heavy(molecule, reference[None]), heavy(molecule, other[None])
    rmsd = best_rmsd(moved, 0, fixed, 0)
    bonds = [[bond.GetBeginAtomIdx(), bond.GetEndAtomIdx()] for bond in fixed.GetBonds()]
    return np.stack([mol.GetConformer().GetPositions() for mol in (fixed, moved)]), rmsd, bonds
