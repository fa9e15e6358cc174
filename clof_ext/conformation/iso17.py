"""The ASE databases of ISO17: geometries of isomers, without bonds and unordered."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from ..training import FileError, extra
from .chemistry import LONGEST_BOND, ChemistryError, close_pairs, set_positions

with extra("conformers"):
    import ase.db
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDetermineBonds


@dataclass(frozen=True)
class Isomer:
    """The geometries of one isomer in a database.

    Attributes:
        name: the database, and a number by first appearance.
        path: of the database.
        rows: numbers of its rows.
        numbers: atomic numbers.
        bonds: pairs of bonded atoms.
    """

    name: str
    path: Path
    rows: tuple[int, ...]
    numbers: tuple[int, ...]
    bonds: tuple[tuple[int, int], ...]

    def read(self) -> list[tuple[Chem.Mol, float]]:
        """An RDKit molecule with one conformer, and the energy in eV, of each geometry.

        Raises:
            ChemistryError: no neutral molecule without radicals has these bonds.
        """
        with ase.db.connect(self.path) as database:
            rows = [database.get(number) for number in self.rows]
        mol = self._with_bond_orders(rows[0].positions)
        return [
            (set_positions(mol, torch.tensor(row.positions)), row.key_value_pairs.get("total_energy", np.nan))
            for row in rows
        ]

    def _with_bond_orders(self, position: np.ndarray) -> Chem.Mol:
        bare = Chem.RWMol()
        for number in self.numbers:
            atom = Chem.Atom(number)
            atom.SetNoImplicit(True)
            bare.AddAtom(atom)
        for one, other in self.bonds:
            bare.AddBond(one, other, Chem.BondType.SINGLE)
        mol = set_positions(bare.GetMol(), torch.tensor(position))
        try:
            with rdBase.BlockLogs():
                rdDetermineBonds.DetermineBondOrders(mol, charge=0, embedChiral=False)
                Chem.SanitizeMol(mol)
        except ValueError as error:
            raise ChemistryError(f"{self.name}: no bond orders fit its bonds ({str(error).splitlines()[0]}).") from None
        return mol


def open_isomers(path: Path) -> Iterator[Isomer]:
    """The isomers of a database, told apart by which atoms are bonded; reads all geometries once.

    Raises:
        FileError: the file is no database of ASE.
    """
    groups: dict[tuple, list[int]] = {}
    try:
        with ase.db.connect(path) as database:
            for row in tqdm(database.select(), total=database.count(), unit="geometry"):
                numbers = tuple(row.numbers.tolist())
                pairs = close_pairs(torch.tensor(row.numbers), torch.tensor(row.positions), LONGEST_BOND)
                groups.setdefault((numbers, tuple(map(tuple, pairs.T.tolist()))), []).append(row.id)
    except Exception as error:
        # SQLite and ASE each raise their own.
        raise FileError(f"{path} is no database of ASE that can be read ({type(error).__name__}: {error}).") from None
    for number, ((numbers, bonds), rows) in enumerate(groups.items()):
        yield Isomer(f"{path.stem} isomer {number}", path, tuple(rows), numbers, bonds)
