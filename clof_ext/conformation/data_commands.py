"""``clof-ext conformers make``, ``prepare`` and ``evaluate``."""

import argparse
from pathlib import Path

from .metrics import THRESHOLDS
from .store import Store, StoreWriter


def add_commands(commands: "argparse._SubParsersAction") -> None:
    _add_make(commands)
    _add_prepare(commands)
    _add_evaluate(commands)


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
    prepare.add_argument(
        "--between", type=int, nargs=2, metavar=("LEAST", "MOST"), help="conformers of a molecule; test sets: 50 500"
    )
    prepare.add_argument("--without", type=Path, nargs="+", default=(), help="stores whose molecules are left out")
    prepare.add_argument("--seed", type=int, default=0, help="of that choice")
    prepare.add_argument("--processes", type=int, default=1, help="how many read at once")
    prepare.set_defaults(run=_prepare)


def _add_evaluate(commands: "argparse._SubParsersAction") -> None:
    text = "compare generated conformers, and RDKit's, with reference conformers of the same molecules"
    evaluate = commands.add_parser("evaluate", help=text, description=text)
    evaluate.add_argument("references", type=Path, help="the store with reference conformers")
    evaluate.add_argument(
        "generated", nargs="*", type=_named_path, help="stores of generated conformers, each as NAME=PATH or PATH"
    )
    evaluate.add_argument("--output", type=Path, required=True, help="folder for JSON, table and pictures")
    published = ", ".join(f"{value} for {name}" for name, value in THRESHOLDS.items())
    evaluate.add_argument(
        "--threshold", type=float, default=THRESHOLDS["qm9"], help=f"of coverage, Å; published: {published}"
    )
    evaluate.add_argument("--no-baselines", action="store_true", help="without RDKit's ETKDG and ETKDG + MMFF")
    evaluate.add_argument("--validity", action="store_true", help="also physical validity by PoseBusters")
    evaluate.add_argument(
        "--properties", type=int, default=0, metavar="N", help="also GFN2-xTB energies and gaps of N conformers a side"
    )
    evaluate.add_argument("--molecules", type=int, help="only the first so many")
    evaluate.add_argument("--least-references", type=int, default=1, help="conformers of a molecule; ISO17: 1000")
    evaluate.add_argument("--seed", type=int, default=0, help="of the baselines")
    evaluate.add_argument("--processes", type=int, default=1, help="how many molecules are worked on at once")
    evaluate.set_defaults(run=_evaluate)


def _named_path(text: str) -> tuple[str, Path]:
    name, _, path = text.rpartition("=")
    return name or Path(path).stem, Path(path)


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
        between=tuple(options.between) if options.between else None,
        without=options.without,
        seed=options.seed,
        processes=options.processes,
    )
    return _summarize(writer)


def _evaluate(options: argparse.Namespace) -> int:
    from .evaluate import BASELINES, Measures, evaluate
    from .evaluation_report import table, write_report

    measures = Measures(options.threshold, options.validity, options.properties, options.seed)
    result = evaluate(
        Store(options.references),
        {name: Store(path) for name, path in options.generated},
        baselines=() if options.no_baselines else tuple(BASELINES),
        measures=measures,
        processes=options.processes,
        molecules=options.molecules,
        least_references=options.least_references,
    )
    stores = {name: str(path) for name, path in options.generated}
    written = write_report(result, options.output, {"references": str(options.references), "generated": stores})
    print(table(result))
    print(f"Mean / median over {len(result.molecules)} molecules. Skipped: {len(result.skipped)}.")
    print(f"Written: {', '.join(map(str, written))}.")
    return 0


def _summarize(writer: StoreWriter) -> int:
    """Say what was written and what was not; a store of nothing is a failure."""
    print(f"{writer.path}: {writer.num_molecules} molecules, {writer.num_conformers} conformers.")
    print(f"Skipped: {len(writer.skipped)}.")
    return 0 if writer.num_molecules else 1
