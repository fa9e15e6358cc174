"""Published sets of conformers, molecule by molecule: GEOM's release, and the splits of ConfGF, GeoDiff and ISO17."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from ..training import FileError, extra
from . import iso17
from .chemistry import ChemistryError, from_rdkit, graph_of, set_positions
from .molecule import Molecule
from .unpickle import Record, read_pickle

with extra("conformers"):
    from ase.units import Hartree
    from rdkit import Chem


@dataclass(frozen=True)
class Frame:
    """One conformer as a source has it.

    Attributes:
        mol: with explicit hydrogens and one conformer.
        energy: in eV, NaN where unknown.
        weight: Boltzmann weight, NaN where unknown.
    """

    mol: Chem.Mol
    energy: float = float("nan")
    weight: float = float("nan")


@dataclass(frozen=True)
class Source:
    """A molecule of a source.

    Attributes:
        name: unique in the source, and the same each time that it is read.
        frames: reads its conformers; raises FileError or ChemistryError where that fails.
    """

    name: str
    frames: Callable[[], Sequence[Frame]]

    def read(self, most: int | None = None, between: tuple[int, int] | None = None) -> Molecule:
        """The molecule with its conformers, or with the ``most`` of the largest weight (the first where unknown).

        Raises:
            ChemistryError: it has fewer conformers than ``most``, fewer or more than ``between`` allows, or they are
                not of one molecule.
            FileError: its file cannot be read.
        """
        frames = self.frames()
        if between is not None and not between[0] <= len(frames) <= between[1]:
            raise ChemistryError(f"{self.name} has {len(frames)} conformers; expected {between[0]} to {between[1]}.")
        if most is not None:
            if len(frames) < most:
                raise ChemistryError(f"{self.name} has {len(frames)} conformers, fewer than {most}.")
            order = np.argsort([-frame.weight for frame in frames], kind="stable")
            frames = [frames[number] for number in order[:most]]
        return assemble(self.name, frames)


def open_source(path: str | Path) -> Iterator[Source]:
    """The molecules of a published set.

    Args:
        path: a ``summary_*.json`` of GEOM (the pickles that it names lie beside it, as in the release), a ``.pkl`` or
            ``.pickle`` of ConfGF, GeoDiff or ISO17's splits, or an ASE database (``.db``) of ISO17.

    Raises:
        FileError: the file is none of these.
    """
    readers = {".json": _geom, ".pkl": _pickled, ".pickle": _pickled, ".db": _database}
    path = Path(path)
    if path.suffix not in readers:
        raise FileError(f"{path} must end in {', '.join(readers)}; its ending is {path.suffix!r}.")
    if not path.is_file():
        raise FileError(f"{path} is no file.")
    return readers[path.suffix](path)


def assemble(name: str, frames: Sequence[Frame]) -> Molecule:
    """One molecule from conformers of one molecule, the order of whose atoms may differ; weights add up to 1.

    Raises:
        ChemistryError: there are none, one has not one set of finite positions, or they are not of one molecule.
    """
    # Conformers that number their atoms alike are converted together.
    alike: dict[tuple, list[int]] = {}
    for number, frame in enumerate(frames):
        if frame.mol.GetNumConformers() != 1 or not np.isfinite(frame.mol.GetConformer().GetPositions()).all():
            raise ChemistryError(f"{name}: conformer {number} has not one finite position for each atom.")
        alike.setdefault(graph_of(frame.mol), []).append(number)
    molecules = [from_rdkit(_merged([frames[number].mol for number in group]), name) for group in alike.values()]
    if not molecules:
        raise ChemistryError(f"{name} has no conformers.")
    for molecule, group in zip(molecules, alike.values(), strict=True):
        if not molecule.same_graph(molecules[0]):
            raise ChemistryError(f"{name}: conformer {group[0]} has other atoms or bonds than the first.")
    chosen = [frames[number] for group in alike.values() for number in group]
    weights = torch.tensor([frame.weight for frame in chosen], dtype=torch.float64)
    return molecules[0].with_conformers(
        torch.cat([molecule.positions for molecule in molecules]),
        torch.tensor([frame.energy for frame in chosen], dtype=torch.float64),
        weights / weights.sum(),
    )


def _merged(mols: Sequence[Chem.Mol]) -> Chem.Mol:
    merged = Chem.Mol(mols[0])
    for mol in mols[1:]:
        merged.AddConformer(mol.GetConformer(), assignId=True)
    return merged


def _geom(path: Path) -> Iterator[Source]:
    """The official release: a summary that names a pickle for each SMILES."""
    try:
        summary = json.loads(path.read_text())
        entries = {smiles: entry["pickle_path"] for smiles, entry in summary.items() if "pickle_path" in entry}
    except (ValueError, AttributeError, TypeError):
        raise FileError(f"{path} is no summary of GEOM: an object of SMILES with their pickle_path.") from None
    for smiles, place in entries.items():
        yield Source(smiles, partial(_geom_frames, path.parent / place))


def _geom_frames(path: Path) -> list[Frame]:
    content = read_pickle(path)
    try:
        return [
            Frame(_mol(entry["rd_mol"]), float(entry["totalenergy"]) * Hartree, float(entry["boltzmannweight"]))
            for entry in content["conformers"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        raise FileError(f"{path} is no molecule of GEOM ({type(error).__name__}: {error}).") from None


def _pickled(path: Path) -> Iterator[Source]:
    """A list of graphs or of RDKit molecules, one for each conformer; those of one SMILES are one molecule."""
    content = read_pickle(path)
    if not isinstance(content, list):
        raise FileError(f"{path} must hold a list of conformers; it holds a {type(content).__name__}.")
    molecules: dict[str, list[Frame]] = {}
    for number, entry in enumerate(content):
        try:
            smiles, frame = _graph(entry.values) if isinstance(entry, Record) else _plain(_mol(entry))
            molecules.setdefault(smiles, []).append(frame)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            sentence = f"{path}: record {number} is no conformer ({type(error).__name__}: {error})."
            yield Source(f"{path.name} record {number}", partial(_refuse, sentence))
    for smiles, frames in molecules.items():
        yield Source(smiles, frames.copy)


def _graph(values: dict) -> tuple[str, Frame]:
    """A graph of ConfGF or GeoDiff."""
    mol = set_positions(_mol(values["rdmol"]), values["pos"])
    known = {name: values[name] for name in ("totalenergy", "boltzmannweight") if values.get(name) is not None}
    energy = float(known.get("totalenergy", torch.nan)) * Hartree
    return str(values["smiles"]), Frame(mol, energy, float(known.get("boltzmannweight", torch.nan)))


def _plain(mol: Chem.Mol) -> tuple[str, Frame]:
    return Chem.MolToSmiles(Chem.RemoveHs(mol)), Frame(mol)


def _mol(value: object) -> Chem.Mol:
    if not isinstance(value, Chem.Mol):
        raise TypeError(f"a molecule of RDKit is expected, not a {type(value).__name__}")
    return value


def _refuse(sentence: str) -> Sequence[Frame]:
    raise FileError(sentence)


def _database(path: Path) -> Iterator[Source]:
    for isomer in iso17.open_isomers(path):
        yield Source(isomer.name, partial(_isomer_frames, isomer))


def _isomer_frames(isomer: iso17.Isomer) -> list[Frame]:
    return [Frame(mol, energy) for mol, energy in isomer.read()]
