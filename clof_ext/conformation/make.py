"""A set like GEOM's from a list of SMILES: ETKDG embeddings, relaxed by GFN2-xTB, without duplicates, weighted."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from ..training import extra
from . import xtb
from ._parallel import ordered_map
from .chemistry import ChemistryError, from_rdkit, read_smiles
from .embed import embed, relax_in_force_field
from .molecule import Molecule
from .rmsd import best_rmsd, heavy
from .store import StoreWriter

with extra("conformers"):
    from ase.units import kB, kcal, mol

KCAL_PER_MOL = kcal / mol  # in eV
# As GEOM: conformers up to 6 kcal/mol above the lowest, at room temperature.
ENERGY_WINDOW = 6.0 * KCAL_PER_MOL
TEMPERATURE = 298.15
# Two conformers are one where both hold. The energy must tell apart what the heavy atoms' RMSD does not see, such as a
# turned hydroxyl; relaxed twice, one minimum comes out with energies 0.01 kcal/mol apart.
SAME_ENERGY = 0.1 * KCAL_PER_MOL
SAME_RMSD = 0.125


@dataclass(frozen=True)
class Recipe:
    """How conformers are made.

    Attributes:
        embeddings: number of ETKDG embeddings of a molecule; more find more conformers.
        seed: of the embeddings.
    """

    embeddings: int = 50
    seed: int = 0


@dataclass(frozen=True)
class Entry:
    """A line of a list of SMILES: the SMILES, and the name of its molecule (the SMILES again if the line has none)."""

    smiles: str
    name: str


def shipped_lists() -> dict[str, Path]:
    """The lists of SMILES that ship with the package: small (40 molecules), qm9_like (244), drug_like (134)."""
    folder = Path(str(files("clof_ext.conformation") / "data"))
    return {path.stem: path for path in sorted(folder.glob("*.smi"))}


def read_list(path: str | Path) -> list[Entry]:
    """A list of SMILES: one a line, a name after a space; empty lines and those that begin with # do not count."""
    lines = (line.split(maxsplit=1) for line in Path(path).read_text().splitlines() if not line.startswith("#"))
    return [Entry(words[0], words[-1].strip()) for words in lines if words]


def make_conformers(entry: Entry, recipe: Recipe) -> Molecule:
    """The conformers of one molecule, lowest energy first, with GFN2-xTB energies and Boltzmann weights.

    Embeddings are relaxed in a force field first, which spares most steps of GFN2-xTB, and duplicates dropped before
    and after it. Geometries whose relaxation fails are left out.

    Raises:
        ChemistryError: the SMILES cannot be read or embedded, or no geometry could be relaxed.
    """
    embedded = embed(read_smiles(entry.smiles, entry.name), recipe.embeddings, recipe.seed)
    energies = relax_in_force_field(embedded) * KCAL_PER_MOL
    # Read again, since the embedding settled stereo centres that the SMILES left open.
    molecule = from_rdkit(embedded, entry.name)
    molecule = molecule.with_conformers(molecule.positions[distinct(molecule, molecule.positions, energies)])
    positions, energies = _relax_all(molecule)
    low = distinct(molecule, positions, energies)
    low = low[energies[low] <= energies[low[0]] + ENERGY_WINDOW]
    return molecule.with_conformers(positions[low], energies[low], boltzmann_weights(energies[low]))


def distinct(molecule: Molecule, positions: Tensor, energies: Tensor) -> Tensor:
    """Numbers of the conformers that are left when each is dropped that is the same as one of lower energy.

    Args:
        molecule: the molecule.
        positions: (C, N, 3).
        energies: (C,) in eV; a conformer of unknown energy (NaN) is compared by RMSD alone.

    Returns:
        (K,) int64, lowest energy first.
    """
    mol = heavy(molecule, positions)
    kept: list[int] = []
    for number in energies.argsort(stable=True).tolist():
        near = (other for other in kept if not abs(energies[number] - energies[other]) > SAME_ENERGY)
        if all(best_rmsd(mol, number, mol, other) > SAME_RMSD for other in near):
            kept.append(number)
    return torch.tensor(kept, dtype=torch.int64)


def boltzmann_weights(energies: Tensor) -> Tensor:
    """exp(-E / kT) at room temperature, with a sum of 1: (C,) from energies in eV."""
    return torch.softmax(-energies.double() / (kB * TEMPERATURE), 0)


def make_set(entries: Sequence[Entry], path: str | Path, recipe: Recipe, processes: int = 1) -> StoreWriter:
    """Make the conformers of a list of molecules and write them to a store.

    A molecule that cannot be made is reported, noted in the store and skipped, and so is one that was listed before.
    Stopped, the same call goes on where it was.

    Args:
        entries: from ``read_list``.
        path: of the store.
        recipe: how conformers are made.
        processes: how many work at once, each on a molecule.

    Returns:
        the writer, closed, with the numbers of molecules and the skipped entries.

    Raises:
        StoreError: an unfinished store at the path was made with another recipe.
    """
    settings = {"source": "made from SMILES", "method": xtb.METHOD, "recipe": asdict(recipe)}
    with StoreWriter(path, settings) as writer, tqdm(total=len(entries), unit="molecule") as progress:
        work = ((entry, recipe) for entry in _not_done(entries, writer, progress))
        for (entry, _), made in ordered_map(_attempt, work, processes):
            if isinstance(made, Molecule):
                writer.add(made)
            else:
                report(writer, entry.name, made, progress)
            progress.update()
    return writer


def report(writer: StoreWriter, name: str, reason: str, progress: tqdm) -> None:
    """Skip an entry, and say so above the progress bar."""
    writer.skip(name, reason)
    progress.write(f"skipped {name}: {reason}")


def _attempt(work: tuple[Entry, Recipe]) -> Molecule | str:
    """The molecule, or the sentence that says why there is none."""
    try:
        return make_conformers(*work)
    except ChemistryError as error:
        return str(error)


def _not_done(entries: Iterable[Entry], writer: StoreWriter, progress: tqdm) -> Iterator[Entry]:
    """The entries that the store lacks; those whose molecule or name was listed before are skipped."""
    molecules: dict[str, str] = {}
    names: set[str] = set()
    for entry in entries:
        before = molecules.setdefault(_canonical(entry.smiles), entry.name)
        if before != entry.name:
            label, reason = entry.name, f"it is the same molecule as {before}, listed before."
        elif entry.name in names:
            label, reason = f"{entry.name} ({entry.smiles})", "its name was listed before."
        else:
            label, reason = entry.name, ""
        names.add(entry.name)
        if label in writer.done:
            progress.update()
        elif reason:
            report(writer, label, reason, progress)
            progress.update()
        else:
            yield entry


def _canonical(smiles: str) -> str:
    """The same text for the same molecule; a SMILES that cannot be read stays as it is."""
    try:
        return read_smiles(smiles).smiles
    except ChemistryError:
        return smiles


def _relax_all(molecule: Molecule) -> tuple[Tensor, Tensor]:
    """Positions (C, N, 3) and energies (C,) of the geometries that could be relaxed."""
    relaxed, reason = [], ""
    for position in molecule.positions:
        try:
            relaxed.append(xtb.relax(molecule, position))
        except ChemistryError as error:
            reason = str(error)
    if not relaxed:
        raise ChemistryError(f"{reason} The same for all {molecule.num_conformers} embeddings.")
    positions, energies = zip(*relaxed, strict=True)
    return torch.stack(positions), torch.tensor(energies, dtype=torch.float64)
