"""The task for the training loop: batches, loss, validation."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..training import OptionError, Processes
from .dataset import Batch, Samples, fully_connected, make_batch
from .external_field import reads_charges

# Systems that are evaluated together: enough for many cores, and few enough for their caches.
EVALUATED = 250


@dataclass
class Prediction:
    """Predict positions at the target frame; mean squared error over all coordinates.

    Attributes:
        train, valid: samples on the processes' device.
        processes: this process among all.
        batch_size: systems in a batch, over all processes; the last, short batch of an epoch is dropped.
        mirror: mirror each system of a training batch with chance 1/2.
    """

    train: Samples
    valid: Samples
    processes: Processes
    batch_size: int
    mirror: bool = False
    unit = "system"

    def __post_init__(self) -> None:
        if self.batch_size > len(self.train):
            raise OptionError(
                f"batch_size must be at most the {len(self.train)} training systems; got {self.batch_size}."
            )
        n_particles = self.train.pos.shape[1]
        self.edge_index = fully_connected(n_particles, self.batch_size // self.processes.count).to(
            self.processes.device
        )

    @property
    def size(self) -> int:
        return len(self.train) // self.batch_size * self.batch_size

    def batches(self, generator: torch.Generator) -> Iterator[Batch]:
        order = torch.randperm(len(self.train), generator=generator)[: self.size]
        signs = torch.randint(2, (len(order), 1, 1), generator=generator) * 2.0 - 1
        for systems, sign in zip(order.split(self.batch_size), signs.split(self.batch_size), strict=True):
            systems = self.processes.share(systems).to(self.processes.device)
            samples = self.train[systems]
            if self.mirror:
                samples = samples.scaled(self.processes.share(sign).to(samples.pos))
            yield make_batch(samples, slice(None), self.edge_index)

    def loss(self, model: nn.Module, batch: Batch) -> tuple[Tensor, int]:
        error = predict(model, batch) - batch.target
        return error.square().mean(), self.batch_size // self.processes.count

    def validate(self, model: nn.Module) -> float:
        mine = torch.arange(len(self.valid)).tensor_split(self.processes.count)[self.processes.rank]
        errors = system_errors(model, self.valid[mine.to(self.processes.device)])
        error_sum = self.processes.total(errors.double().sum())
        return error_sum.item() / len(self.valid)


def predict(model: nn.Module, batch: Batch) -> Tensor:
    """What a network makes of a batch: positions (N, 3) at the target frame."""
    charges = {"charges": batch.charges} if reads_charges(model) else {}
    return model(batch.h, batch.pos, batch.edge_index, batch.edge_attr, batch.vel, batch=batch.batch, **charges)


def predict_samples(model: nn.Module, samples: Samples) -> Tensor:
    """Positions of S systems at the target frame, many systems at a time.

    Args:
        model: a network of ``make_network``, on the device of the samples.
        samples: S systems of n particles; their targets are not read.

    Returns:
        (S, n, 3).
    """
    n_particles = samples.pos.shape[1]
    edges: dict[int, Tensor] = {}
    predicted = []
    for systems in torch.arange(len(samples), device=samples.pos.device).split(EVALUATED):
        count = len(systems)
        if count not in edges:
            edges[count] = fully_connected(n_particles, count).to(samples.pos.device)
        batch = make_batch(samples, systems, edges[count])
        predicted.append(predict(model, batch).reshape(count, n_particles, 3))
    return torch.cat(predicted)


def system_errors(model: nn.Module, samples: Samples) -> Tensor:
    """Squared error of each system, (S,): the mean over its particles' coordinates; see ``predict_samples``."""
    return (predict_samples(model, samples) - samples.target).square().mean((1, 2))
