"""A store filled molecule by molecule: several processes, progress, resumption, and what was skipped."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar

from tqdm import tqdm

from ..training import FileError, OptionError
from ._parallel import ordered_map
from .chemistry import ChemistryError
from .molecule import Molecule
from .store import Skipped, StoreWriter


class Named(Protocol):
    name: str


Item = TypeVar("Item", bound=Named)


def build_store(
    path: str | Path,
    settings: dict,
    items: Sequence[Item],
    make: Callable[[Item], Molecule],
    *,
    processes: int = 1,
    most: int | None = None,
) -> StoreWriter:
    """Make a molecule of each item and write it to a store; stopped, the same call goes on where it was.

    An item of which no molecule can be made is reported, noted in the store with the reason, and skipped.

    Args:
        path: of the store.
        settings: kept in the store; an unfinished store that was begun with others is refused.
        items: with unique names.
        make: called with an item, in another process where there are several; raises ChemistryError or FileError.
        processes: how many work at once.
        most: number of molecules to stop at; all if not given.

    Returns:
        the writer, closed, with the numbers of molecules and conformers and the skipped items.

    Raises:
        OptionError: a finished store is there already, which may have taken days to make.
        StoreError: the unfinished store at the path was begun with other settings.
    """
    if Path(path).exists():
        raise OptionError(f"{path} is there already; remove it to make it anew.")
    with StoreWriter(path, settings) as writer:
        left = [item for item in items if item.name not in writer.done]
        done = len(items) - len(left)
        with tqdm(total=len(items), initial=done, unit="molecule") as progress:
            for item, made in ordered_map(partial(_attempt, make), left, processes):
                if writer.num_molecules == most:
                    break
                if isinstance(made, Molecule):
                    writer.add(made)
                else:
                    writer.skip(item.name, made.reason)
                    progress.write(f"skipped {item.name}: {made.reason}")
                progress.update()
    return writer


def _attempt(make: Callable[[Item], Molecule], item: Item) -> Molecule | Skipped:
    try:
        return make(item)
    except (ChemistryError, FileError) as error:
        return Skipped(item.name, str(error))
