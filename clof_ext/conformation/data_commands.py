"""``clof-ext conformers make``, ``prepare`` and ``evaluate``."""

import argparse
from pathlib import Path

from .store import StoreWriter


def add_commands(commands: "argparse._SubParsersAction") -> None:
    _add_make(commands)


def _add_make(commands: "argparse._SubParsersAction") -> None:
    text = "make a set from SMILES: ETKDG, GFN2-xTB relaxation, no duplicates, Boltzmann weights"
    make = commands.add_parser("make", help=text, description=text)
    make.add_argument(
        "list", help="a file with a SMILES a line, or a list that ships with the package: small, qm9_like, drug_like"
    )
    make.add_argument("output", type=Path, help="the store to write; started again, the command goes on with it")
    make.add_argument("--embeddings", type=int, default=50, help="ETKDG embeddings of each molecule")
    make.add_argument("--seed", type=int, default=0, help="of the embeddings")
    make.add_argument("--processes", type=int, default=1, help="how many molecules are worked on at once")
    make.set_defaults(run=_make)


def _make(options: argparse.Namespace) -> int:
    from .make import Recipe, make_set, read_list, shipped_lists

    entries = read_list(shipped_lists().get(options.list, options.list))
    recipe = Recipe(options.embeddings, options.seed)
    return _summarize(make_set(entries, options.output, recipe, options.processes))


def _summarize(writer: StoreWriter) -> int:
    """Say what was written and what was not; a store of nothing is a failure."""
    print(f"{writer.path}: {writer.num_molecules} molecules, {writer.num_conformers} conformers.")
    print(f"Skipped: {len(writer.skipped)}.")
    return 0 if writer.num_molecules else 1
