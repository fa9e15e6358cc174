"""GFN2-xTB, the semi-empirical level of theory of GEOM: energies, gaps and relaxed geometries."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..training import extra
from .chemistry import LONGEST_BOND, ChemistryError, relative_distances, to_rdkit
from .molecule import Molecule

with extra("conformers"):
    from ase import Atoms
    from ase.optimize import LBFGS
    from ase.units import Bohr, Hartree
    from rdkit import Chem
    from tblite.ase import TBLite
    from tblite.interface import Calculator

METHOD = "GFN2-xTB"
# Largest force on an atom of a relaxed geometry, eV/angstrom: energies are then right to about 0.01 kcal/mol.
LARGEST_FORCE = 0.02
MAX_STEPS = 500
# Atoms without a bond are at least so far apart in relaxed geometries, in units of the sum of their covalent radii.
SHORTEST_CONTACT = 1.15


@dataclass(frozen=True)
class Properties:
    """Properties of C conformers, (C,) float64, in eV: total energies and gaps between frontier orbitals."""

    energies: Tensor
    gaps: Tensor


def relax(molecule: Molecule, position: Tensor) -> tuple[Tensor, float]:
    """Relax a geometry.

    Args:
        molecule: whose SMILES gives the charge; its conformers are not used.
        position: (N, 3), where to start.

    Returns:
        (N, 3) float64 relaxed positions, and the energy in eV.

    Raises:
        ChemistryError: the calculation failed or did not converge, or a bond broke or formed.
    """
    atoms = Atoms(molecule.atomic_numbers.numpy(), position.double().numpy())
    atoms.calc = TBLite(method=METHOD, charge=charge(molecule), verbosity=0)
    try:
        converged = LBFGS(atoms, logfile=None).run(fmax=LARGEST_FORCE, steps=MAX_STEPS)
        energy = float(atoms.get_potential_energy())
    except Exception as error:
        # tblite and ase raise what they like; the caller goes on with the next geometry.
        raise ChemistryError(f"{molecule.name}: {METHOD} failed ({_first_line(error)}).") from None
    if not converged:
        raise ChemistryError(f"{molecule.name}: {METHOD} did not converge in {MAX_STEPS} steps.")
    relaxed = torch.from_numpy(atoms.get_positions())
    if not keeps_bonds(molecule, relaxed):
        raise ChemistryError(f"{molecule.name}: a bond broke or formed in the relaxation.")
    return relaxed, energy


def relax_all(molecule: Molecule) -> tuple[Molecule, list[str]]:
    """Relax all conformers.

    Returns:
        the molecule with those that could be relaxed and their energies, and the reasons why others could not.
    """
    positions, energies, faults = [], [], []
    for start in molecule.positions:
        try:
            position, energy = relax(molecule, start)
        except ChemistryError as error:
            faults.append(str(error))
        else:
            positions.append(position)
            energies.append(energy)
    relaxed = torch.stack(positions) if positions else molecule.positions[:0]
    return molecule.with_conformers(relaxed, torch.tensor(energies, dtype=torch.float64)), faults


def properties(molecule: Molecule) -> Properties:
    """Energy and gap of every conformer; NaN where the calculation fails."""
    rows = [_single_point(molecule, position) for position in molecule.positions]
    values = torch.tensor(rows, dtype=torch.float64).reshape(-1, 2)
    return Properties(values[:, 0], values[:, 1])


def charge(molecule: Molecule) -> int:
    """Total charge, from the SMILES."""
    return Chem.GetFormalCharge(to_rdkit(molecule, molecule.positions[:0]))


def keeps_bonds(molecule: Molecule, position: Tensor) -> bool:
    """Whether the atoms that are close to each other are those that are bonded."""
    ratio = relative_distances(molecule.atomic_numbers, position)
    bonded = torch.eye(molecule.num_atoms, dtype=torch.bool)
    bonded[molecule.edge_index[0], molecule.edge_index[1]] = True
    return bool((ratio[bonded] <= LONGEST_BOND).all() and (ratio[~bonded] >= SHORTEST_CONTACT).all())


def _single_point(molecule: Molecule, position: Tensor) -> tuple[float, float]:
    """Energy and gap in eV of one geometry."""
    numbers, points = molecule.atomic_numbers.numpy(), position.double().numpy()
    try:
        calculator = Calculator(METHOD, numbers, points / Bohr, charge=charge(molecule))
        calculator.set("verbosity", 0)
        result = calculator.singlepoint()
    except Exception:
        # As in ``relax``: one bad geometry must not end the statistics of all.
        return np.nan, np.nan
    orbitals, occupied = result["orbital-energies"], result["orbital-occupations"] > 1.0
    gap = orbitals[~occupied].min() - orbitals[occupied].max() if (~occupied).any() else np.nan
    return float(result["energy"]) * Hartree, float(gap) * Hartree


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
