"""One process or several: started by torchrun, each holds the model and takes its share of every batch."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from .errors import OptionError


@dataclass(frozen=True)
class Processes:
    """This process among those that train one model.

    Attributes:
        rank, count: number of this process, from 0, and of all.
        device: where this process computes.
    """

    rank: int
    count: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def share(self, items: Tensor) -> Tensor:
        """This process's part of (B, ...) items: equal parts, so that the mean of their means is the mean of all.

        Raises:
            OptionError: the number of processes does not divide B.
        """
        if len(items) % self.count:
            raise OptionError(f"the number of processes must divide the batch of {len(items)}; got {self.count}.")
        return items.tensor_split(self.count)[self.rank]

    def total(self, values: Tensor) -> Tensor:
        """Sum over all processes, the same bits in each."""
        if self.count > 1:
            dist.all_reduce(values)
        return values

    def wrap(self, model: nn.Module) -> nn.Module:
        """The module to train: gradients are averaged over the processes."""
        if self.count == 1:
            return model
        # The last layer's node features lead to no position, so their weights have no gradient.
        return DistributedDataParallel(model, find_unused_parameters=True)


def check_device(device: str) -> None:
    """Raise OptionError where ``"cuda"`` is asked for and there is none."""
    if device == "cuda" and not torch.cuda.is_available():
        raise OptionError("--device cuda needs a CUDA device; torch finds none.")


@contextmanager
def processes(device: str = "cpu") -> Iterator[Processes]:
    """Join the processes that torchrun started, or stand alone where it did not.

    Args:
        device: ``"cpu"`` or ``"cuda"``; with several GPUs each process takes the one of its local rank.

    Raises:
        OptionError: there is no such device.
    """
    check_device(device)
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        yield Processes(0, 1, torch.device(device))
        return
    if device == "cuda":
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        device = f"cuda:{os.environ['LOCAL_RANK']}"
    dist.init_process_group("nccl" if device.startswith("cuda") else "gloo")
    try:
        yield Processes(dist.get_rank(), count, torch.device(device))
        # Gloo's threads let go of the last gradients a moment after these have arrived. If Python ends meanwhile, the
        # process is aborted: the threads cannot have the interpreter's lock any more.
        dist.barrier()
    finally:
        dist.destroy_process_group()
