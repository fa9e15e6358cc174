"""Which conformers of a store to train on."""

import warnings

import numpy as np
import torch

from ..training import OptionError
from .molecule import Molecule
from .store import Store


class Conformers(torch.utils.data.Dataset):
    """All conformers of some molecules of a store, as pairs (molecule, number of the conformer) for ``collate``.

    Args:
        store: the molecules.
        molecules: numbers of those to use; all if not given.

    Damaged records are left out, with a warning that names and counts them.
    """

    def __init__(self, store: Store, molecules: np.ndarray | None = None):
        self.store = store
        numbers = np.arange(len(store)) if molecules is None else np.asarray(molecules)
        damaged = store.damaged(numbers)
        if damaged:
            warnings.warn(
                f"{store.path}: {len(damaged)} damaged records are left out, numbers {damaged}.", stacklevel=2
            )
        self.molecules = numbers[~np.isin(numbers, damaged)]
        self._ends = store.num_conformers[self.molecules].cumsum()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def __getitem__(self, number: int) -> tuple[Molecule, int]:
        if not 0 <= number < len(self):
            raise IndexError(f"There are the conformers 0 to {len(self) - 1}; got {number}.")
        row = int(np.searchsorted(self._ends, number, side="right"))
        before = int(self._ends[row - 1]) if row else 0
        return self.store[int(self.molecules[row])], number - before


def split(num_molecules: int, held_out: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Numbers of the molecules to train on and of those held out, each sorted; the same for the same seed.

    Raises:
        OptionError: fewer than one molecule would be left on either side.
    """
    if not 0 < held_out < num_molecules:
        raise OptionError(f"held_out must be from 1 to {num_molecules - 1}; got {held_out}.")
    order = np.random.default_rng(seed).permutation(num_molecules)
    return np.sort(order[held_out:]), np.sort(order[:held_out])
