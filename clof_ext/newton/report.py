"""Evaluations as plain values for JSON, and as tables."""

import json
import os
import platform
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import torch

from .._version import __version__
from ..training import FileError, replace_file
from .evaluate import (
    equivariance_error,
    load_network,
    microseconds_per_system,
    prediction_errors,
    rollout,
)
from .trajectories import Trajectories

METRICS = "metrics.json"
COLUMNS = ("run", "network", "epoch", "valid", "error", "95 % interval", "median", "equivariance", "µs/system")


def evaluate_run(path: Path, trajectories: Trajectories, split: str, *, roll: bool = False) -> dict:
    """Everything that is measured of a trained network on a set.

    Args:
        path: a training's folder, or a file of a network.
        trajectories: the set, on the device to compute on.
        split: the set's name.
        roll: add the errors of a rollout by frame.

    Returns:
        A dict of plain values: name; recipe and data of the training; epoch, valid_loss; n_parameters; split, set (its
        parameters) and errors on it; equivariance_error; microseconds_per_system; rollout; from the folder
        training_seconds and history, rows of epoch, training and validation loss; environment.

    Raises:
        FileError: a sentence about a file that is missing, damaged or of another kind.
    """
    network, trained = load_network(path)
    device = trajectories.loc.device
    network = network.to(device)
    samples = trajectories.samples()
    config = dict(trained.config)
    return {
        "name": path.resolve().name if path.is_dir() else path.stem,
        "data": config.pop("data"),
        "recipe": config,
        "epoch": trained.metrics["epoch"],
        "valid_loss": trained.metrics["valid_loss"],
        "n_parameters": sum(weight.numel() for weight in network.parameters()),
        "split": split,
        "set": asdict(trajectories.parameters),
        "errors": asdict(prediction_errors(network, samples)),
        "equivariance_error": equivariance_error(network, samples),
        "microseconds_per_system": microseconds_per_system(network, samples),
        "rollout": [{"frame": k, **asdict(e)} for k, e in rollout(network, trajectories).items()] if roll else None,
        **_training(path),
        "environment": environment(device),
    }


def environment(device: torch.device) -> dict:
    """What a measurement was made on."""
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "clof_ext": __version__,
        "python": platform.python_version(),
    }


def write_json(path: Path, value: dict) -> None:
    """Write plain values to a file that is whole or not there."""
    replace_file(path, lambda beside: beside.write_text(json.dumps(value, indent=1) + "\n"))


def text_table(reports: Iterable[dict]) -> str:
    """The main figures of each report, a line each."""
    rows = [COLUMNS, *map(_row, reports)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join(lines)


def _row(report: dict) -> tuple[str, ...]:
    errors = report["errors"]
    return (
        report["name"],
        report["recipe"]["network"],
        f"{report['epoch']}/{report['recipe']['epochs']}",
        f"{report['valid_loss']:.5f}",
        f"{errors['mean']:.5f}",
        f"{errors['low']:.5f}-{errors['high']:.5f}",
        f"{errors['median']:.5f}",
        f"{report['equivariance_error']:.0e}",
        f"{report['microseconds_per_system']:.0f}",
    )


def _training(path: Path) -> dict:
    """Time and losses of the training beside a network; every validated epoch."""
    metrics = (path if path.is_dir() else path.parent) / METRICS
    if not metrics.exists():
        return {"training_seconds": None, "history": None}
    try:
        rows = json.loads(metrics.read_text())
        validated = [row for row in rows if row["valid_loss"] is not None]
        return {
            "training_seconds": sum(row["seconds"] for row in rows),
            "history": [[row["epoch"], row["train_loss"], row["valid_loss"]] for row in validated],
        }
    except (ValueError, KeyError, TypeError) as error:
        sentence = f"{metrics} is damaged ({type(error).__name__}: {error}). Remove it to evaluate without its history."
        raise FileError(sentence) from None


def _processor() -> str:
    """The processor's model name where Linux tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
