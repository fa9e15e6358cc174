"""Molecules with their conformers, and batches of conformers as one graph."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from .. import _check
from .graph import extend_graph


@dataclass(frozen=True, eq=False)
class Molecule:
    """A molecule with explicit hydrogens and C conformers.

    Attributes:
        smiles: with all hydrogens written; its atoms stand in the order of ``atomic_numbers``.
        atomic_numbers: (N,) int64.
        edge_index: (2, 2B) int64, the bonds in both directions, sorted by (row 0, row 1).
        edge_type: (2B,) int64, RDKit's bond type as a number: single 1, double 2, triple 3, aromatic 12.
        positions: (C, N, 3) float32, in angstrom; the mean position of every conformer is 0.
        energies: (C,) float64, in eV; NaN where unknown.
        weights: (C,) float64, Boltzmann weights, which add up to 1; NaN where unknown.
        name: how the source of the data calls the molecule.
    """

    smiles: str
    atomic_numbers: Tensor
    edge_index: Tensor
    edge_type: Tensor
    positions: Tensor
    energies: Tensor
    weights: Tensor
    name: str = ""

    @property
    def num_atoms(self) -> int:
        return len(self.atomic_numbers)

    @property
    def num_conformers(self) -> int:
        return len(self.positions)

    def same_graph(self, other: "Molecule") -> bool:
        """Whether both have the same atoms and bonds in the same order."""
        names = ("atomic_numbers", "edge_index", "edge_type")
        return all(torch.equal(getattr(self, name), getattr(other, name)) for name in names)

    def with_conformers(
        self, positions: Tensor, energies: Tensor | None = None, weights: Tensor | None = None
    ) -> "Molecule":
        """The same molecule with other conformers, (C, N, 3), centred here; energies and weights unknown if not given.

        Raises:
            TypeError, ValueError: a wrong type or shape.
        """
        _check.is_tensor(positions, "positions")
        _check.shape(positions, ("C", self.num_atoms, 3), "positions")
        unknown = torch.full((len(positions),), torch.nan, dtype=torch.float64)
        energies = unknown if energies is None else energies
        weights = unknown if weights is None else weights
        for values, name in ((energies, "energies"), (weights, "weights")):
            _check.shape(values, (len(positions),), name)
        centred = positions.double() - positions.double().mean(1, keepdim=True)
        return replace(self, positions=centred.float(), energies=energies.double(), weights=weights.double())


@dataclass(frozen=True, eq=False)
class MoleculeBatch:
    """G conformers as one graph of N atoms and E edges, in the conventions of PyTorch Geometric.

    Attributes:
        atom_type: (N,) int64 atomic numbers.
        pos: (N, 3) positions in angstrom.
        edge_index: (2, E) int64, bonds and edges up to three bonds long, both directions; row 0 the source i, row 1
            the target j.
        edge_type: (E,) int64.
        batch: (N,) int64, number of each atom's conformer in the batch.
        ptr: (G + 1,) int64, where the atoms of each conformer start.
        smiles: of each conformer's molecule.
    """

    atom_type: Tensor
    pos: Tensor
    edge_index: Tensor
    edge_type: Tensor
    batch: Tensor
    ptr: Tensor
    smiles: tuple[str, ...]

    @property
    def num_graphs(self) -> int:
        return len(self.ptr) - 1

    @property
    def num_nodes(self) -> int:
        return len(self.atom_type)

    def to(self, device: torch.device | str) -> "MoleculeBatch":
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "smiles"}
        return replace(self, **moved)


def collate(conformers: Sequence[tuple[Molecule, int]]) -> MoleculeBatch:
    """Conformers, each given as its molecule and its number there, as one batch.

    Usable as the ``collate_fn`` of ``torch.utils.data.DataLoader`` on a ``Conformers`` data set.

    Raises:
        ValueError: no conformers.
    """
    positions = [molecule.positions[number] for molecule, number in conformers]
    return _join([molecule for molecule, _ in conformers], positions)


def empty_batch(molecules: Sequence[Molecule]) -> MoleculeBatch:
    """One graph for every molecule given, all positions 0: what a sampler starts from.

    Raises:
        ValueError: no molecules.
    """
    return _join(molecules, [torch.zeros(molecule.num_atoms, 3) for molecule in molecules])


def split_conformers(batch: MoleculeBatch, pos: Tensor) -> tuple[Tensor, ...]:
    """(N, 3) positions of a batch as G tensors (N_g, 3), one for each conformer.

    Raises:
        ValueError: ``pos`` has another shape.
    """
    _check.shape(pos, (batch.num_nodes, 3), "pos")
    return pos.split(batch.ptr.diff().tolist())


def _join(molecules: Sequence[Molecule], positions: Sequence[Tensor]) -> MoleculeBatch:
    """Concatenate atoms and bonds; extend the graph of all at once."""
    if not molecules:
        raise ValueError("A batch must have at least one conformer; got none.")
    sizes = torch.tensor([molecule.num_atoms for molecule in molecules])
    ptr = torch.cat((sizes.new_zeros(1), sizes.cumsum(0)))
    bonds = [molecule.edge_index + int(first) for molecule, first in zip(molecules, ptr[:-1], strict=True)]
    types = [molecule.edge_type for molecule in molecules]
    edge_index, edge_type = extend_graph(torch.cat(bonds, 1), torch.cat(types), int(ptr[-1]))
    return MoleculeBatch(
        atom_type=torch.cat([molecule.atomic_numbers for molecule in molecules]),
        pos=torch.cat(list(positions)),
        edge_index=edge_index,
        edge_type=edge_type,
        batch=torch.arange(len(molecules)).repeat_interleave(sizes),
        ptr=ptr,
        smiles=tuple(molecule.smiles for molecule in molecules),
    )
