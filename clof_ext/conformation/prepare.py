"""A store from a published set of conformers."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np

from ..training import OptionError
from .building import build_store
from .molecule import Molecule
from .sources import Source, open_source
from .store import Store, StoreWriter


def prepare_set(
    path: str | Path,
    output: str | Path,
    *,
    conformers: int | None = None,
    molecules: int | None = None,
    between: tuple[int, int] | None = None,
    without: Sequence[str | Path] = (),
    seed: int = 0,
    processes: int = 1,
) -> StoreWriter:
    """Read a published set and write it to a store.

    What cannot be read is reported, noted in the store and skipped. Stopped, the same call goes on where it was.

    Args:
        path: of the set; see ``open_source``.
        output: the store.
        conformers: keep so many conformers of each molecule, those of the largest weights, and skip molecules that
            have fewer (the published training sets keep 5); all conformers of all molecules if not given.
        molecules: stop at so many molecules, chosen at random (the published training sets have 40 000).
        between: skip molecules with fewer or more conformers (the published test sets have 50 to 500).
        without: stores whose molecules are left out, as those to train and to validate on.
        seed: of the choice.
        processes: how many read at once.

    Returns:
        the writer, closed, with the numbers of molecules and conformers and the skipped entries.

    Raises:
        OptionError: ``conformers`` or ``molecules`` is less than 1, ``between`` is no range, or a finished store is
            there already.
        FileError: the set cannot be read at all, or an unfinished store at ``output`` was begun with other settings.
    """
    for value, name in ((conformers, "conformers"), (molecules, "molecules")):
        if value is not None and value < 1:
            raise OptionError(f"{name} must be at least 1; got {value}.")
    if between is not None and not 1 <= between[0] <= between[1]:
        raise OptionError(f"between must be two rising numbers from 1; got {between[0]} and {between[1]}.")
    blocked = {molecule.name for store in without for molecule in Store(store)}
    sources = [source for source in open_source(path) if source.name not in blocked]
    if molecules is not None:
        sources = [sources[number] for number in np.random.default_rng(seed).permutation(len(sources))]
    settings = {"source": Path(path).name, "conformers": conformers, "molecules": molecules, "seed": seed}
    settings |= {"between": between, "without": [Path(store).name for store in without]}
    read = partial(_read, conformers=conformers, between=between)
    return build_store(output, settings, sources, read, processes=processes, most=molecules)


def _read(source: Source, conformers: int | None, between: tuple[int, int] | None) -> Molecule:
    return source.read(conformers, between)
