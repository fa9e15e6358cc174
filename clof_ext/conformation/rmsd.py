"""Distances between conformers: RDKit's best RMSD, without hydrogens."""

from collections.abc import Iterable, Iterator

import numpy as np
from torch import Tensor

from ..training import extra
from ._parallel import ordered_map
from .chemistry import to_rdkit
from .molecule import Molecule

with extra("conformers"):
    from rdkit import Chem
    from rdkit.Chem import rdMolAlign


def heavy(molecule: Molecule, positions: Tensor) -> Chem.Mol:
    """The RDKit molecule without hydrogens, with conformers at (C, N, 3)."""
    return Chem.RemoveHs(to_rdkit(molecule, positions))


def best_rmsd(one: Chem.Mol, number: int, other: Chem.Mol, other_number: int) -> float:
    """Smallest RMSD in angstrom of two conformers over rotations, translations and symmetries of the molecule."""
    return float(rdMolAlign.GetBestRMS(one, other, number, other_number))


def rmsd_matrix(molecule: Molecule, references: Tensor, generated: Tensor) -> np.ndarray:
    """Best RMSD of every reference to every generated conformer: (R, G) in angstrom, from (R, N, 3) and (G, N, 3)."""
    one, other = heavy(molecule, references), heavy(molecule, generated)
    rows = [
        [best_rmsd(other, column, one, row) for column in range(other.GetNumConformers())]
        for row in range(one.GetNumConformers())
    ]
    return np.array(rows).reshape(len(references), len(generated))


def rmsd_matrices(pairs: Iterable[tuple[Molecule, Tensor, Tensor]], processes: int = 1) -> Iterator[np.ndarray]:
    """``rmsd_matrix`` of each (molecule, references, generated), in their order, in several processes."""
    return (matrix for _, matrix in ordered_map(_rmsd_matrix, pairs, processes))


def _rmsd_matrix(pair: tuple[Molecule, Tensor, Tensor]) -> np.ndarray:
    return rmsd_matrix(*pair)
