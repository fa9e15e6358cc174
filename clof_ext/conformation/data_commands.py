"""``clof-ext conformers make``, ``prepare`` and ``evaluate``."""

import argparse
from pathlib import Path

from .store import StoreWriter


def add_commands(commands: "argparse._SubParsersAction") -> None:
    _add_make(commands)
    _add_prepare(commands)


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


def _add_prepare(commands: "argparse._SubParsersAction") -> None:
    text = "read a published set: GEOM, the splits of ConfGF and GeoDiff, ISO17"
    prepare = commands.add_parser("prepare", help=text, description=text)
    prepare.add_argument("input", type=Path, help="GEOM's summary_*.json, a split's .pkl, or ISO17's .db")
    prepare.add_argument("output", type=Path, help="the store to write; started again, the command goes on with it")
    prepare.add_argument(
        "--conformers", type=int, help="so many of each molecule, the most probable; molecules with fewer are skipped"
    )
    prepare.add_argument("--molecules", type=int, help="so many, chosen at random")
    prepare.add_argument("--seed", type=int, default=0, help="of that choice")
    prepare.add_argument("--processes", type=int, default=1, help="how many read at once")
    prepare.set_defaults(run=_prepare)


def _make(options: argparse.Namespace) -> int:
    from .make import Recipe, make_set, read_list, shipped_lists

    entries = read_list(shipped_lists().get(options.list, options.list))
    recipe = Recipe(options.embeddings, options.seed)
    return _summarize(make_set(entries, options.output, recipe, options.processes))


def _prepare(options: argparse.Namespace) -> int:
    from .prepare import prepare_set

    writer = prepare_set(
        options.input,
        options.output,
        conformers=options.conformers,
        molecules=options.molecules,
        seed=options.seed,
        processes=options.processes,
    )
    return _summarize(writer)


def _summarize(writer: StoreWriter) -> int:
    """Say what was written and what was not; a store of nothing is a failure."""
    print(f"{writer.path}: {writer.num_molecules} molecules, {writer.num_conformers} conformers.")
    print(f"Skipped: {len(writer.skipped)}.")
    return 0 if writer.num_molecules else 1
