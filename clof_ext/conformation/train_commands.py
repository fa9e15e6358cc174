"""``clof-ext conformers train`` and ``sample``."""

import argparse
from dataclasses import replace
from pathlib import Path

import torch

from .recipe import RECIPES
from .sampling import SAMPLERS

HELD_OUT = 20
# As in write.py, which needs RDKit.
RELAXATIONS, FORMATS = ("mmff", "xtb"), ("sdf", "xyz")
# Published: twice as many generated conformers as references.
GENERATED_PER_REFERENCE = 2


def add_commands(commands: "argparse._SubParsersAction") -> None:
    _add_train(commands)
    _add_sample(commands)


def _add_train(commands: "argparse._SubParsersAction") -> None:
    text = "train a score network on a store; started again, it goes on. Start it with torchrun for several processes"
    train = commands.add_parser("train", help=text, description=text)
    train.add_argument("data", type=Path, help="the store")
    train.add_argument("folder", type=Path, help="for checkpoints, metrics and the plot")
    train.add_argument("--recipe", choices=RECIPES, default="published", help="small: for a CPU")
    train.add_argument("--hidden-dim", type=int, help="features of atoms and edges")
    train.add_argument("--epochs", type=int, help="how many")
    train.add_argument("--batch-size", type=int, help="conformers, over all processes")
    train.add_argument("--learning-rate", type=float, help="of Adam")
    train.add_argument("--average-decay", type=float, help="of the moving average of the weights, per step")
    train.add_argument("--seed", type=int, help="of weights, order, noise, and of the molecules held out")
    validation = train.add_mutually_exclusive_group()
    validation.add_argument("--held-out", type=int, help=f"molecules for the test, and for validation ({HELD_OUT})")
    validation.add_argument("--valid", type=Path, help="a store to validate on: all of the data are then trained on")
    train.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    train.add_argument("--bfloat16", action="store_true", help="compute under autocast")
    train.set_defaults(run=_train)


RECIPE_OPTIONS = ("hidden_dim", "epochs", "batch_size", "learning_rate", "average_decay", "seed")


def _train(options: argparse.Namespace) -> int:
    from ..training import best_epoch, processes
    from .train import train

    given = {name: getattr(options, name) for name in RECIPE_OPTIONS if getattr(options, name) is not None}
    recipe = replace(RECIPES[options.recipe], **given)
    with processes(options.device) as group:
        history = train(
            options.data,
            options.folder,
            recipe,
            held_out=HELD_OUT if options.held_out is None and options.valid is None else options.held_out,
            valid=options.valid,
            processes=group,
            bfloat16=options.bfloat16,
        )
        if group.first:
            best = best_epoch(history)
            print(f"{options.folder}: lowest validation loss {best['valid_loss']:.4f}, in epoch {best['epoch']}")
    return 0


def _add_sample(commands: "argparse._SubParsersAction") -> None:
    text = "make conformers with a trained score network"
    sample = commands.add_parser("sample", help=text, description=text)
    sample.add_argument("model", type=Path, help="best.safetensors of a training")
    sample.add_argument(
        "molecules", type=Path, help="the store that was trained on, of which the held-out molecules are taken (all "
        "if --valid was given); or a file with a SMILES a line"
    )  # fmt: skip
    sample.add_argument("output", type=Path, help="the store to write")
    sample.add_argument(
        "--count", type=int, help=f"conformers of each molecule ({GENERATED_PER_REFERENCE} for each that the store has)"
    )
    sample.add_argument("--all", action="store_true", help="all molecules of the store, as of one made for the test")
    sample.add_argument("--limit", type=int, help="at most this many molecules")
    sample.add_argument("--sampler", choices=SAMPLERS, default="solver", help="solver if not given")
    sample.add_argument("--seed", type=int, default=0, help="the same seed gives the same conformers")
    sample.add_argument("--relax", choices=RELAXATIONS, help="relax the conformers, in MMFF94s or by GFN2-xTB")
    sample.add_argument("--energies", action="store_true", help="GFN2-xTB energies of the conformers as they are")
    sample.add_argument("--write", nargs="*", choices=FORMATS, default=[], help="files beside the store, too")
    sample.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")
    sample.set_defaults(run=_sample)


def _sample(options: argparse.Namespace) -> int:
    from ..training import check_device
    from .generate import generate
    from .store import StoreWriter
    from .train import load_network
    from .write import WRITERS

    check_device(options.device)
    network, config = load_network(options.model)
    molecules = _asked_for(options, config)[: options.limit]
    counts = [options.count or GENERATED_PER_REFERENCE * molecule.num_conformers for molecule in molecules]
    sampler = SAMPLERS[options.sampler](network.sigmas.detach().cpu())
    made, report = generate(network.to(options.device), molecules, counts, sampler, seed=options.seed)
    print(
        f"{report.chains} chains, {report.calls} calls of the network on batches; {report.restarted} runs made again, "
        f"{report.failed} chains failed."
    )
    made = [_finished(molecule, options) for molecule in made]
    with StoreWriter(options.output, {"source": "generated", "sampler": options.sampler, "seed": options.seed}) as file:
        for molecule in made:
            file.add(molecule)
    for kind in options.write:
        WRITERS[kind](options.output.with_suffix(f".{kind}"), made)
    print(f"{options.output}: {len(made)} molecules, {sum(molecule.num_conformers for molecule in made)} conformers.")
    return 0


def _asked_for(options: argparse.Namespace, config: dict) -> list:
    """The held-out or all molecules of a store, or those of a list of SMILES."""
    from ..training import OptionError
    from .chemistry import ChemistryError, read_smiles
    from .make import read_list
    from .store import MAGIC, Store
    from .train import held_out_of

    with open(options.molecules, "rb") as file:
        is_store = file.read(len(MAGIC)) == MAGIC
    if is_store:
        store = Store(options.molecules)
        return [store[number] for number in (range(len(store)) if options.all else held_out_of(store, config))]
    if options.count is None:
        raise OptionError("--count must say how many conformers to make of each SMILES; it was not given.")
    molecules, skipped = [], 0
    for entry in read_list(options.molecules):
        try:
            molecules.append(read_smiles(entry.smiles, entry.name))
        except ChemistryError as error:
            skipped += 1
            print(f"skipped in {options.molecules}: {error}")
    print(f"Skipped: {skipped}.")
    return molecules


def _finished(molecule, options: argparse.Namespace):
    """Relaxed, or with energies, as was asked for."""
    from .write import relax
    from .xtb import properties

    if options.relax and molecule.num_conformers:
        molecule, lost = relax(molecule, options.relax)
        if lost:
            print(f"{molecule.name}: {lost} conformers were left out, because their relaxation failed.")
    if options.energies:
        return molecule.with_conformers(molecule.positions, properties(molecule).energies)
    return molecule
