"""The training loop: epochs, validation, checkpoints, metrics, progress."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel
from tqdm import tqdm

from .average import moving_average
from .checkpoint import load_model, save_model
from .distributed import Processes
from .errors import FileError, TrainingError
from .files import load, save
from .metrics import best_epoch, plot_losses, write_metrics

STATE = "state of a training"
LAST, BEST = "last.safetensors", "best.safetensors"


class Task(Protocol):
    """What is trained on.

    Attributes:
        size: number of samples of an epoch, over all processes.
        unit: what the progress bar calls a sample.
    """

    size: int
    unit: str

    def batches(self, generator: torch.Generator) -> Iterable[Any]:
        """This process's share of an epoch's batches, drawn with a CPU generator that is equal in all processes."""

    def loss(self, model: nn.Module, batch: Any) -> tuple[Tensor, int]:
        """Mean loss of this process's share of a batch, and its number of samples."""

    def validate(self, model: nn.Module) -> float:
        """Validation loss over all processes; the lowest is kept."""


@dataclass
class Trainer:
    """Trains a model, saves after every epoch, and goes on from there when started again.

    The folder gets ``last.safetensors`` (all that is needed to go on), ``best.safetensors`` (the weights of the best
    validation), ``metrics.csv``, ``metrics.json`` and ``loss.png``. Each epoch seeds PyTorch's generators by the seed,
    its own number and the process, so that a training that was stopped after any epoch, or killed in one, ends with
    the same weights as one that was not.

    Attributes:
        model: on its device.
        optimizer: of the model's parameters.
        schedule: stepped after each epoch; ReduceLROnPlateau sees the last validation loss.
        task: what is trained on.
        processes: this process among all.
        folder: for the files.
        config: plain values that describe the training; a folder of another config is refused.
        epochs: number of epochs.
        validate_every: epochs between validations; the last epoch is always validated.
        seed: of the order of the samples and of all noise.
        average_decay: validate and keep a moving average of the weights, see ``moving_average``, if not None.
        clip_norm: largest norm of the gradient, if not None.
        bfloat16: compute under autocast in bfloat16.
        history: a dict for each epoch: epoch, train_loss, valid_loss (or None), learning_rate, seconds.
    """

    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | ReduceLROnPlateau
    task: Task
    processes: Processes
    folder: Path
    config: dict
    epochs: int
    validate_every: int = 1
    seed: int = 0
    average_decay: float | None = None
    clip_norm: float | None = None
    bfloat16: bool = False
    history: list[dict] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._average = None
        if self.average_decay is not None:
            self._average = AveragedModel(self.model, multi_avg_fn=moving_average(self.average_decay))
        self._wrapped = self.processes.wrap(self.model)

    def fit(self) -> list[dict]:
        """Train to the last epoch, from the folder's checkpoint if there is one; returns the history.

        Raises:
            FileError: the checkpoint is damaged or of another config, or the best network is damaged or missing.
            TrainingError: the loss is not finite.
        """
        self._resume()
        with tqdm(
            total=self.epochs * self.task.size,
            initial=len(self.history) * self.task.size,
            unit=self.task.unit,
            unit_scale=True,
            disable=not self.processes.first,
            # Long trainings also write to files.
            mininterval=1,
        ) as bar:
            for epoch in range(len(self.history) + 1, self.epochs + 1):
                self._run_epoch(epoch, bar)
        if self.processes.first:
            plot_losses(self.folder / "loss.png", self.history)
        return self.history

    def _run_epoch(self, epoch: int, bar: tqdm) -> None:
        start = time.perf_counter()
        learning_rate = self.optimizer.param_groups[0]["lr"]
        train_loss = self._train(epoch, bar)
        validate = epoch % self.validate_every == 0 or epoch == self.epochs
        valid_loss = self._validate() if validate else None
        self._step_schedule(valid_loss)
        row = {"epoch": epoch, "train_loss": train_loss, "valid_loss": valid_loss, "learning_rate": learning_rate}
        self.history.append({**row, "seconds": time.perf_counter() - start})
        best = best_epoch(self.history)
        bar.set_description(f"epoch {epoch}/{self.epochs}", refresh=False)
        bar.set_postfix(loss=f"{train_loss:.3g}", best="-" if best is None else f"{best['valid_loss']:.3g}")
        if self.processes.first:
            self._save()

    def _train(self, epoch: int, bar: tqdm) -> float:
        """Mean loss of one epoch's samples."""
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, epoch))
        torch.manual_seed(mixed_seed(self.seed, epoch, self.processes.rank))
        self.model.train()
        # Added up on the device: reading each loss would stop a GPU.
        total, count = torch.zeros((), dtype=torch.float64, device=self.processes.device), 0
        for batch in self.task.batches(generator):
            loss, size = self._step(batch)
            total += loss * size
            count += size * self.processes.count
            bar.update(size * self.processes.count)
        mean = self.processes.total(total).item() / count
        if not math.isfinite(mean):
            raise TrainingError(f"the loss of epoch {epoch} is {mean}; {self.folder / LAST} is of the epoch before.")
        return mean

    def _step(self, batch: Any) -> tuple[Tensor, int]:
        self.optimizer.zero_grad()
        with torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.bfloat16):
            loss, size = self.task.loss(self._wrapped, batch)
        loss.backward()
        if self.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        self.optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self.model)
        return loss.detach(), size

    def _validate(self) -> float:
        model = self._kept()
        model.eval()
        with torch.no_grad(), torch.autocast(self.processes.device.type, torch.bfloat16, enabled=self.bfloat16):
            return self.task.validate(model)

    def _kept(self) -> nn.Module:
        """The model that is validated and kept."""
        return self.model if self._average is None else self._average.module

    def _step_schedule(self, valid_loss: float | None) -> None:
        if not isinstance(self.schedule, ReduceLROnPlateau):
            self.schedule.step()
        elif valid_loss is not None:
            self.schedule.step(valid_loss)

    def _save(self) -> None:
        best = best_epoch(self.history)
        if best is self.history[-1]:
            save_model(self.folder / BEST, self._kept(), self.config, best)
        write_metrics(self.folder, self.history)
        states = {name: part.state_dict() for name, part in self._parts().items()}
        save(self.folder / LAST, {"config": self.config, "history": self.history, **states}, STATE)

    def _resume(self) -> None:
        path = self.folder / LAST
        if not path.exists():
            return
        state = load(path, STATE)
        if state["config"] != self.config:
            raise FileError(f"{path} is of another training: {_differences(state['config'], self.config)}.")
        for name, part in self._parts().items():
            part.load_state_dict(state[name])
        self.history = state["history"]
        if best_epoch(self.history):
            self._check_best()

    def _check_best(self) -> None:
        try:
            load_model(self.folder / BEST)
        except FileError as error:
            raise FileError(f"{error} Remove {self.folder} to train anew: what is left cannot make it again.") from None

    def _parts(self) -> dict[str, Any]:
        """What has a state."""
        parts = {"model": self.model, "optimizer": self.optimizer, "schedule": self.schedule}
        return parts if self._average is None else {**parts, "average": self._average}


def mixed_seed(*numbers: int) -> int:
    """One seed from several numbers; others give another."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


def _differences(old: dict, new: dict) -> str:
    names = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return ", ".join(f"{name} was {old.get(name)!r}, now {new.get(name)!r}" for name in names)
