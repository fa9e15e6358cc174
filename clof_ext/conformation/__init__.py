"""Conformation generation: molecules and their conformers."""

from .dataset import Conformers, split
from .graph import extend_graph
from .molecule import Molecule, MoleculeBatch, collate, empty_batch, split_conformers
from .store import Skipped, Store, StoreError, StoreWriter

__all__ = [
    "Conformers",
    "Molecule",
    "MoleculeBatch",
    "Skipped",
    "Store",
    "StoreError",
    "StoreWriter",
    "collate",
    "empty_batch",
    "extend_graph",
    "split",
    "split_conformers",
]
