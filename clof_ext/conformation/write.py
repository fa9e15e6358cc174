"""Conformers for other programs: SDF with bonds and energies, XYZ; and their relaxation before."""

import math
from collections.abc import Sequence
from pathlib import Path

from .. import _check
from ..training import extra, replace_file
from .chemistry import to_rdkit
from .embed import relax_in_force_field
from .make import KCAL_PER_MOL
from .molecule import Molecule
from .xtb import relax_all

with extra("conformers"):
    from rdkit import Chem

FORCE_FIELD, QUANTUM = "mmff", "xtb"
RELAXATIONS = (FORCE_FIELD, QUANTUM)
ENERGY_PROPERTY = "energy_eV"


def write_sdf(path: Path, molecules: Sequence[Molecule]) -> None:
    """All conformers of all molecules as one SDF file: names, bonds, charges, and energies in eV where known."""

    def write(beside: Path) -> None:
        with Chem.SDWriter(str(beside)) as writer:
            for molecule in molecules:
                mol = to_rdkit(molecule)
                mol.SetProp("_Name", molecule.name)
                for number, energy in enumerate(molecule.energies.tolist()):
                    mol.ClearProp(ENERGY_PROPERTY)
                    if math.isfinite(energy):
                        mol.SetProp(ENERGY_PROPERTY, f"{energy:.6f}")
                    writer.write(mol, confId=number)

    replace_file(path, write)


def write_xyz(path: Path, molecules: Sequence[Molecule]) -> None:
    """All conformers of all molecules as one file of XYZ frames, with names and energies in their second lines."""
    replace_file(path, lambda beside: beside.write_text("".join(map(_xyz_frames, molecules))))


WRITERS = {"sdf": write_sdf, "xyz": write_xyz}


def relax(molecule: Molecule, method: str) -> tuple[Molecule, int]:
    """Relax all conformers.

    Args:
        molecule: with conformers.
        method: ``"mmff"`` (RDKit's MMFF94s) or ``"xtb"`` (GFN2-xTB).

    Returns:
        The molecule with relaxed conformers and their energies in eV, and the number of conformers that were left
        out because GFN2-xTB failed or a bond broke or formed. Where MMFF94s lacks parameters, conformers stay as they
        are, with unknown energies.

    Raises:
        ValueError: another method.
    """
    _check.one_of(method, RELAXATIONS, "method")
    if method == FORCE_FIELD:
        positions, energies = relax_in_force_field(to_rdkit(molecule))
        return molecule.with_conformers(positions, energies * KCAL_PER_MOL), 0
    relaxed, faults = relax_all(molecule)
    return relaxed, len(faults)


def _xyz_frames(molecule: Molecule) -> str:
    symbols = [Chem.GetPeriodicTable().GetElementSymbol(number) for number in molecule.atomic_numbers.tolist()]
    return "".join(
        f"{len(symbols)}\nname={molecule.name!r} smiles={molecule.smiles!r} {ENERGY_PROPERTY}={energy:.6f}\n"
        + "".join(f"{symbol:2} {x:12.6f} {y:12.6f} {z:12.6f}\n" for symbol, (x, y, z) in zip(symbols, points))
        for points, energy in zip(molecule.positions.tolist(), molecule.energies.tolist(), strict=True)
    )
