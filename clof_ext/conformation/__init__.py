"""Conformation generation: molecules and their conformers, the score network, samplers, metrics.

What needs RDKit or GFN2-xTB lies in modules of its own, such as ``chemistry``, ``make`` and ``evaluate``.
"""

from .dataset import Conformers, split
from .graph import extend_graph
from .metrics import Coverage, coverage, distance_mmd, distance_mmds, mmd
from .molecule import Molecule, MoleculeBatch, collate, empty_batch, split_conformers
from .sampling import Langevin, Solver
from .score_network import ScoreNetwork
from .store import Skipped, Store, StoreError, StoreWriter

__all__ = [
    "Conformers",
    "Coverage",
    "Langevin",
    "Molecule",
    "MoleculeBatch",
    "ScoreNetwork",
    "Skipped",
    "Solver",
    "Store",
    "StoreError",
    "StoreWriter",
    "collate",
    "coverage",
    "distance_mmd",
    "distance_mmds",
    "empty_batch",
    "extend_graph",
    "mmd",
    "split",
    "split_conformers",
]
