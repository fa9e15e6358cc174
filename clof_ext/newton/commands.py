"""The commands ``clof-ext newton simulate``, ``train`` and ``evaluate``."""

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from .._check import MODES
from ..training import OptionError, best_epoch, check_device, processes
from .evaluate import load_network
from .networks import NETWORKS
from .plots import plot_predictions, plot_rollouts, plot_trajectories
from .prediction import predict_samples
from .recipe import RECIPES, SCHEDULES, Recipe
from .report import evaluate_run, text_table, write_json
from .settings import Setting, setting
from .train import train
from .trajectories import SIZES, Trajectories, load_trajectories, make_data_set, split_parameters, split_path


def add_commands(commands: argparse._SubParsersAction) -> None:
    """Add ``newton`` and its subcommands to the parser of ``clof-ext``."""
    newton = commands.add_parser("newton", help="many-body systems: simulate, train, evaluate")
    steps = newton.add_subparsers(required=True, metavar="step")
    _add_simulate(steps)
    _add_train(steps)
    _add_evaluate(steps)


def _add_simulate(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser("simulate", help="make a data set, in seconds", formatter_class=_Formatter)
    parser.add_argument(
        "setting", type=_setting, help="es (charges), g+es (and gravity), l+es (and a Lorentz force) or springs, with "
        "a number of particles: es5, es20, g+es20, l+es20, springs8, ..."
    )  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for the files (default: data/SETTING)")
    for split, size in SIZES.items():
        parser.add_argument(f"--{split}", type=_whole, default=size, help=f"systems in {split}.safetensors")
    seeds = parser.add_mutually_exclusive_group()
    seeds.add_argument("--seed", type=_count, default=0, help="of the first system; each further one has the next seed")
    seeds.add_argument("--published", action="store_true", help="the paper's systems, in minutes")
    parser.add_argument("--steps", type=_whole, default=5000, help="of 0.001 time units")
    parser.add_argument("--sample-every", type=_whole, default=100, help="steps between stored frames")
    parser.add_argument("--plot", action="store_true", help="draw trajectories and energies: trajectories.png")
    parser.set_defaults(run=_simulate)


def _simulate(options: argparse.Namespace) -> int:
    if options.steps <= options.sample_every:
        raise OptionError(f"--steps must be above --sample-every, {options.sample_every}; got {options.steps}.")
    folder = options.out or Path("data") / options.setting.name
    sizes = {split: getattr(options, split) for split in SIZES}
    lengths = {"n_steps": options.steps, "sample_every": options.sample_every}
    splits = split_parameters(options.setting.name, sizes, options.seed, published=options.published, **lengths)
    make_data_set(folder, splits, print)
    if options.plot:
        plot_trajectories(folder / "trajectories.png", load_trajectories(split_path(folder, "train")))
    return 0


def _add_train(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser(
        "train",
        help="train a network; started again, it goes on",
        description="The published recipe, every number of it an option. Start it with torchrun for several processes.",
        formatter_class=_Formatter,
    )
    parser.add_argument("data", type=Path, help="folder that newton simulate made")
    parser.add_argument(
        "--out",
        type=Path,
        help="folder for the results (default: runs/SETTING-NETWORK-SEED, with the recipe's name if not published)",
    )
    parser.add_argument("--recipe", choices=RECIPES, default="published", help="what the options below start from")
    for name, (kind, text) in RECIPE_OPTIONS.items():
        # Suppressed: what is not given is the recipe's.
        parser.add_argument(f"--{name.replace('_', '-')}", help=text, default=argparse.SUPPRESS, **kind)
    _add_device(parser)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32", help="of the products")
    parser.add_argument("--compile", action="store_true", help="under torch.compile")
    parser.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    law = load_trajectories(split_path(options.data, "train")).setting
    recipe = chosen_recipe(options, law)
    name = recipe.network if options.recipe == "published" else f"{recipe.network}-{options.recipe}"
    folder = options.out or Path("runs") / f"{law.name}-{name}-{recipe.seed}"
    with processes(options.device) as group:
        bfloat16 = options.precision == "bfloat16"
        history = train(options.data, folder, recipe, processes=group, bfloat16=bfloat16, compile=options.compile)
        if group.first:
            best = best_epoch(history)
            print(f"{folder}: lowest validation error {best['valid_loss']:.5f}, in epoch {best['epoch']}")
    return 0


def chosen_recipe(options: argparse.Namespace, law: Setting) -> Recipe:
    """The named recipe of a setting, with the options that were given."""
    given = {name: getattr(options, name) for name in RECIPE_OPTIONS if hasattr(options, name)}
    return replace(RECIPES[options.recipe](law), **given)


def _add_evaluate(steps: argparse._SubParsersAction) -> None:
    parser = steps.add_parser("evaluate", help="errors, equivariance and speed of trained networks, as a table",
                              formatter_class=_Formatter)  # fmt: skip
    parser.add_argument("data", type=Path, help="folder that newton simulate made")
    parser.add_argument("runs", type=Path, nargs="+", help="folders that newton train made, or files of networks")
    parser.add_argument("--split", choices=tuple(SIZES), default="test", help="which set")
    parser.add_argument("--rollout", action="store_true", help="apply the networks again and again: errors over time")
    parser.add_argument("--out", type=Path, help="folder for a JSON file of each run")
    parser.add_argument("--plot", type=Path, help="folder for predictions.png and, of rollouts, rollout.png")
    _add_device(parser)
    parser.set_defaults(run=_evaluate)


def _evaluate(options: argparse.Namespace) -> int:
    check_device(options.device)
    trajectories = load_trajectories(split_path(options.data, options.split)).to(options.device)
    reports = []
    for path in options.runs:
        reports.append(evaluate_run(path, trajectories, options.split, roll=options.rollout))
        if options.out:
            write_json(options.out / f"{reports[-1]['name']}-{options.split}.json", reports[-1])
    print(text_table(reports))
    if options.plot:
        _plot(options, trajectories, reports)
    return 0


@torch.no_grad()
def _plot(options: argparse.Namespace, trajectories: Trajectories, reports: list[dict]) -> None:
    samples, predicted = trajectories.samples(), {}
    for path, report in zip(options.runs, reports, strict=True):
        network, _ = load_network(path)
        predicted[report["name"]] = predict_samples(network.to(options.device), samples).cpu()
    plot_predictions(options.plot / "predictions.png", trajectories, predicted)
    if options.rollout:
        plot_rollouts(options.plot / "rollout.png", reports)


def _add_device(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cuda" if torch.cuda.is_available() else "cpu")


class _Formatter(argparse.ArgumentDefaultsHelpFormatter):
    """Shows the defaults that there are."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        return action.help if action.default in (None, argparse.SUPPRESS) else super()._get_help_string(action)


def _setting(text: str) -> Setting:
    try:
        return setting(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _number(kind: type, allowed: Callable[[float], bool], name: str) -> Callable[[str], float]:
    """A parser of numbers that are allowed."""

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not allowed(value):
            raise argparse.ArgumentTypeError(f"expected {name}; got {text!r}.")
        return value

    return parse


_whole = _number(int, lambda value: value >= 1, "a whole number from 1")
_count = _number(int, lambda value: value >= 0, "a whole number from 0")
_positive = _number(float, lambda value: value > 0, "a number above 0")
_not_negative = _number(float, lambda value: value >= 0, "a number from 0")
_share = _number(float, lambda value: 0 < value < 1, "a number between 0 and 1")


def _or_none(parse: Callable[[str], float]) -> Callable[[str], float | None]:
    return lambda text: None if text == "none" else parse(text)


_SWITCH = {"action": argparse.BooleanOptionalAction}
# The recipe's fields that are options, with their kinds.
RECIPE_OPTIONS = {
    "network": ({"choices": tuple(NETWORKS)}, "see clof_ext.newton.make_network"),
    "hidden_dim": ({"type": _whole}, "features of nodes and messages"),
    "n_layers": ({"type": _whole}, "number of layers"),
    "frame": ({"choices": MODES}, "of ClofNet and EGNN, see clof_ext.ops.edge_frame"),
    "attention": (_SWITCH, "gated messages, in ClofNet and EGNN"),
    "tanh": (_SWITCH, "bounded coefficients, in ClofNet and EGNN"),
    "pair_features": (_SWITCH, "more edge features: energies, radial velocity, angular momentum of each pair"),
    "moving_frame": (
        _SWITCH,
        "in the centre-of-mass frame: exact under boosts, momentum conserved; no magnetic field",
    ),
    "external_field": (_SWITCH, "learn a uniform field: the directions of gravity and of a Lorentz force"),
    "epochs": ({"type": _whole}, "number of epochs (default: the setting's published number)"),
    "batch_size": ({"type": _whole}, "systems in a batch, over all processes"),
    "learning_rate": ({"type": _positive}, "of AdamW"),
    "weight_decay": ({"type": _not_negative}, "of AdamW"),
    "schedule": ({"choices": SCHEDULES}, "x 0.9 every epochs / 8, or a cosine to 0"),
    "validate_every": ({"type": _whole}, "epochs between validations"),
    "average_decay": ({"type": _or_none(_share)}, "moving average of the weights: its decay per step, or none"),
    "clip_norm": ({"type": _or_none(_positive)}, "largest norm of the gradient, or none"),
    "mirror": (_SWITCH, "mirror each system with chance 1/2"),
    "all_frames": (_SWITCH, "train on all pairs of frames ten apart: more of the same trajectories"),
    "seed": ({"type": _count}, "of the weights and the order of the systems"),
}
