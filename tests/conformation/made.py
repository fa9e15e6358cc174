"""Molecules made by hand for tests that need no chemistry."""

import numpy as np
import torch

from clof_ext.conformation import Molecule
from clof_ext.conformation.graph import both_directions

# Water and hydrogen cyanide: atoms, bonds with types, a position of each atom.
WATER = ("[H]O[H]", [1, 8, 1], [(0, 1, 1), (1, 2, 1)])
CYANIDE = ("[H]C#N", [1, 6, 7], [(0, 1, 1), (1, 2, 3)])
ETHANE = (
    "[H]C([H])([H])C([H])([H])[H]",
    [1, 6, 1, 1, 6, 1, 1, 1],
    [(0, 1, 1), (1, 2, 1), (1, 3, 1), (1, 4, 1), (4, 5, 1), (4, 6, 1), (4, 7, 1)],
)


def molecule(kind=WATER, conformers: int = 2, name: str = "", seed: int = 0) -> Molecule:
    smiles, numbers, bonds = kind
    source, target, types = torch.tensor(bonds).T.numpy()
    edge_index, edge_type = both_directions(np.stack((source, target)), types)
    generator = torch.Generator().manual_seed(seed)
    bare = Molecule(
        smiles, torch.tensor(numbers), edge_index, edge_type, torch.zeros(0, len(numbers), 3), torch.zeros(0),
        torch.zeros(0), name,
    )  # fmt: skip
    return bare.with_conformers(
        torch.randn(conformers, len(numbers), 3, generator=generator),
        torch.arange(conformers, dtype=torch.float64) - 7.25,
        torch.full((conformers,), 1 / max(conformers, 1), dtype=torch.float64),
    )


def same(one: Molecule, other: Molecule) -> bool:
    names = ("atomic_numbers", "edge_index", "edge_type", "positions", "energies", "weights")
    return (one.smiles, one.name) == (other.smiles, other.name) and all(
        torch.equal(getattr(one, name), getattr(other, name)) for name in names
    )
