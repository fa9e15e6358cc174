"""Physical validity of conformers, by the checks of PoseBusters."""

from torch import Tensor

from ..training import extra
from .chemistry import set_positions, to_rdkit
from .molecule import Molecule

with extra("validity"):
    from posebusters import PoseBusters


def valid_share(molecule: Molecule, positions: Tensor) -> float:
    """Share of conformers (C, N, 3) that pass all checks of PoseBusters for single molecules.

    They look at bond lengths and angles, at clashes, at the flatness of aromatic rings and double bonds, and compare
    the energy with that of an ensemble of the molecule.

    Source: Buttenschoen, Morris and Deane, Chem. Sci. 2024.
    """
    bare = to_rdkit(molecule, positions[:0])
    table = PoseBusters(config="mol").bust([set_positions(bare, position) for position in positions])
    return float(table.all(axis=1).mean())
