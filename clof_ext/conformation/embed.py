"""RDKit's own conformers: ETKDG embeddings, and their relaxation in the MMFF94s force field."""

import torch
from torch import Tensor

from ..training import OptionError, extra
from .chemistry import ChemistryError, conformer_positions, to_rdkit
from .molecule import Molecule

with extra("conformers"):
    from rdkit import Chem, rdBase
    from rdkit.Chem import rdDistGeom, rdForceFieldHelpers

FORCE_FIELD = "MMFF94s"
MAX_STEPS = 500


def embed(molecule: Molecule, count: int, seed: int) -> Chem.Mol:
    """An RDKit molecule with ``count`` ETKDG (version 3) conformers; stereo centres that the SMILES leaves open are
    those of the first embedding, the same in all.

    Args:
        molecule: its conformers are not used.
        count: number of conformers, at least 1.
        seed: of RDKit's generator, at least 0; the same seed gives the same conformers.

    Raises:
        OptionError: ``count`` < 1 or ``seed`` < 0.
        ChemistryError: RDKit finds no embedding.
    """
    if count < 1:
        raise OptionError(f"count must be at least 1; got {count}.")
    if seed < 0:
        raise OptionError(f"seed must be at least 0; got {seed}.")
    mol = to_rdkit(molecule, molecule.positions[:0])
    with rdBase.BlockLogs():
        _embed(mol, 1, seed, molecule.name)
        Chem.AssignStereochemistryFrom3D(mol)
        _embed(mol, count, seed, molecule.name)
    return mol


def relax_in_force_field(mol: Chem.Mol) -> tuple[Tensor, Tensor]:
    """Relax all conformers of a molecule.

    Where the force field lacks parameters, the conformers stay as they are and the energies are NaN.

    Returns:
        (C, N, 3) float64 positions in angstrom, and (C,) float64 energies in kcal/mol.
    """
    # The copy, since the force field's setup changes which bonds are aromatic.
    copy = Chem.Mol(mol)
    energies = torch.full((mol.GetNumConformers(),), torch.nan, dtype=torch.float64)
    with rdBase.BlockLogs():
        if rdForceFieldHelpers.MMFFHasAllMoleculeParams(copy):
            done = rdForceFieldHelpers.MMFFOptimizeMoleculeConfs(copy, maxIters=MAX_STEPS, mmffVariant=FORCE_FIELD)
            energies = torch.tensor([energy for _, energy in done], dtype=torch.float64)
    return conformer_positions(copy), energies


def etkdg(molecule: Molecule, count: int, seed: int) -> Molecule:
    """The molecule with ``count`` ETKDG conformers: a baseline."""
    return molecule.with_conformers(conformer_positions(embed(molecule, count, seed)))


def etkdg_relaxed(molecule: Molecule, count: int, seed: int) -> Molecule:
    """The molecule with ``count`` ETKDG conformers relaxed in the force field: a baseline."""
    return molecule.with_conformers(relax_in_force_field(embed(molecule, count, seed))[0])


def _embed(mol: Chem.Mol, count: int, seed: int, name: str) -> None:
    """Replace the conformers of ``mol``; from random coordinates where eigenvectors lead to none."""
    options = rdDistGeom.ETKDGv3()
    # RDKit multiplies its seed by the conformer's number: 0 would make them all alike, and -1 means no seed.
    options.randomSeed = seed + 1
    if len(rdDistGeom.EmbedMultipleConfs(mol, count, options)) < count:
        options.useRandomCoords = True
        if len(rdDistGeom.EmbedMultipleConfs(mol, count, options)) < count:
            raise ChemistryError(f"{name}: RDKit finds no {count} embeddings of it.")
