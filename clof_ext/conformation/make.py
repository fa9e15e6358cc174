"""A set like GEOM's from a list of SMILES: ETKDG embeddings, relaxed by GFN2-xTB, without duplicates, weighted."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor

from ..training import OptionError, extra
from . import xtb
from .building import build_store
from .chemistry import ChemistryError, from_rdkit, read_smiles, to_rdkit
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

    Raises:
        OptionError: ``embeddings`` < 1 or ``seed`` < 0.
    """

    embeddings: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.embeddings < 1 or self.seed < 0:
            raise OptionError(
                f"embeddings must be at least 1 and seed at least 0; got {self.embeddings} and {self.seed}."
            )


@dataclass(frozen=True)
class Entry:
    """A line of a list of SMILES.

    Attributes:
        smiles, name: of its molecule; the name is the SMILES again if the line has none.
        place: the file and line, for the sentence that says why it cannot be made.
        fault: why it is not to be made, or empty.
    """

    smiles: str
    name: str
    place: str = ""
    fault: str = ""


def shipped_lists() -> dict[str, Path]:
    """The lists of SMILES that ship with the package: small (40 molecules), qm9_like (244), drug_like (134)."""
    folder = Path(str(files("clof_ext.conformation") / "data"))
    return {path.stem: path for path in sorted(folder.glob("*.smi"))}


def read_list(path: str | Path) -> list[Entry]:
    """A list of SMILES: one a line, a name after a space; empty lines and those that begin with # do not count."""
    # A byte that is no text spoils its line alone.
    lines = Path(path).read_text(errors="replace").splitlines()
    words = {number: line.split(maxsplit=1) for number, line in enumerate(lines, 1) if not line.startswith("#")}
    return [Entry(entry[0], entry[-1].strip(), f"{path}, line {number}") for number, entry in words.items() if entry]


def make_conformers(entry: Entry, recipe: Recipe) -> Molecule:
    """The conformers of one molecule, lowest energy first, with GFN2-xTB energies and Boltzmann weights.

    Embeddings are relaxed in a force field first, which spares most steps of GFN2-xTB, and duplicates dropped before
    and after it. Geometries whose relaxation fails are left out.

    Raises:
        ChemistryError: the SMILES cannot be read or embedded, or no geometry could be relaxed.
    """
    # Read twice, since the embedding settles stereo centres that the SMILES leaves open.
    embedded = from_rdkit(embed(read_smiles(entry.smiles, entry.name), recipe.embeddings, recipe.seed), entry.name)
    positions, energies = relax_in_force_field(to_rdkit(embedded))
    molecule = embedded.with_conformers(positions[distinct(embedded, positions, energies * KCAL_PER_MOL)])
    molecule, faults = xtb.relax_all(molecule)
    if not molecule.num_conformers:
        raise ChemistryError(f"{faults[-1]} The same for all {len(faults)} embeddings.")
    low = distinct(molecule, molecule.positions, molecule.energies)
    low = low[molecule.energies[low] <= molecule.energies[low[0]] + ENERGY_WINDOW]
    energies = molecule.energies[low]
    return molecule.with_conformers(molecule.positions[low], energies, boltzmann_weights(energies))


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
        the writer, closed, with the numbers of molecules and conformers and the skipped entries.

    Raises:
        OptionError: a finished store is there already.
        StoreError: an unfinished store at the path was made with another recipe.
    """
    settings = {"source": "made from SMILES", "method": xtb.METHOD, "recipe": asdict(recipe)}
    return build_store(path, settings, mark_repeats(entries), partial(_make_entry, recipe), processes=processes)


def mark_repeats(entries: Iterable[Entry]) -> list[Entry]:
    """The entries, with a fault where the molecule or the name was listed before."""
    molecules: dict[str, str] = {}
    names: set[str] = set()
    marked = []
    for number, entry in enumerate(entries):
        first = molecules.setdefault(_canonical(entry.smiles), entry.name)
        if entry.name in names:
            # A name of its own, since a store's entries have one each.
            name = f"{entry.name} (entry {number})"
            entry = replace(entry, name=name, fault=f"its name was listed before; its SMILES is {entry.smiles}.")
        elif first != entry.name:
            entry = replace(entry, fault=f"it is the same molecule as {first}, listed before.")
        names.add(entry.name)
        marked.append(entry)
    return marked


def _make_entry(recipe: Recipe, entry: Entry) -> Molecule:
    try:
        if entry.fault:
            raise ChemistryError(entry.fault)
        return make_conformers(entry, recipe)
    except ChemistryError as error:
        raise ChemistryError(f"{entry.place or entry.name}: {error}") from None


def _canonical(smiles: str) -> str:
    """The same text for the same molecule; a SMILES that cannot be read stays as it is."""
    try:
        return read_smiles(smiles).smiles
    except ChemistryError:
        return smiles
