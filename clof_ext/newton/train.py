"""Training of a network on simulated trajectories."""

from dataclasses import asdict
from pathlib import Path

import torch

from ..training import Processes, Trainer
from .dataset import FRAMES_AHEAD, Samples, make_samples
from .prediction import Prediction
from .recipe import Recipe
from .trajectories import Trajectories, join, load_trajectories, split_path


def train(
    data: Path,
    folder: Path,
    recipe: Recipe,
    *,
    processes: Processes | None = None,
    bfloat16: bool = False,
    compile: bool = False,
) -> list[dict]:
    """Train a network; go on where the folder holds an unfinished training of the same recipe.

    Args:
        data: folder of a data set, with train.safetensors and valid.safetensors.
        folder: for checkpoints, metrics and the plot, see ``training.Trainer``.
        recipe: network and training.
        processes: this process among all, see ``training.processes``; alone on the CPU if None.
        bfloat16: compute under autocast.
        compile: under ``torch.compile``.

    Returns:
        The history, see ``training.Trainer``.

    Raises:
        FileError: a sentence about a file that is missing, damaged or of another training.
        TrainingError: the loss is not finite.
        OptionError: a batch that does not fit the data or the processes.
    """
    processes = processes or Processes(0, 1, torch.device("cpu"))
    sets = {split: load_trajectories(split_path(data, split)) for split in ("train", "valid")}
    torch.manual_seed(recipe.seed)
    network = recipe.make_network().to(processes.device)
    if compile:
        network.compile()
    optimizer = recipe.make_optimizer(network)
    task = Prediction(
        training_samples(sets["train"], recipe.all_frames).to(processes.device),
        sets["valid"].samples().to(processes.device),
        processes,
        recipe.batch_size,
        recipe.mirror,
    )
    config = {**recipe.describe(), "bfloat16": bfloat16, "data": {k: asdict(v.parameters) for k, v in sets.items()}}
    return Trainer(
        network,
        optimizer,
        recipe.make_schedule(optimizer),
        task,
        processes,
        folder,
        config,
        recipe.epochs,
        validate_every=recipe.validate_every,
        seed=recipe.seed,
        average_decay=recipe.average_decay,
        clip_norm=recipe.clip_norm,
        bfloat16=bfloat16,
    ).fit()


def training_samples(trajectories: Trajectories, all_frames: bool) -> Samples:
    """Pairs of frames: 30 and 40 of each trajectory, or all that are ten apart."""
    if not all_frames:
        return trajectories.samples()
    t = trajectories
    last_input = t.loc.shape[1] - FRAMES_AHEAD
    return join([make_samples(t.loc, t.vel, t.charges, input_frame=frame) for frame in range(last_input)])
