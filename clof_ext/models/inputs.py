"""Checks and steps that the networks share."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from .. import _check, ops


def layer_name(number: int) -> str:
    """The published name of a layer."""
    return f"gcl_{number}"


def add_layers(network: nn.Module, layers: list[nn.Module]) -> None:
    """Register layers under their published names."""
    for number, layer in enumerate(layers):
        network.add_module(layer_name(number), layer)


def layers_of(network: nn.Module) -> Iterator[nn.Module]:
    """The layers that ``add_layers`` registered, in order."""
    return (child for name, child in network.named_children() if name.startswith("gcl_"))


def check_columns(value: Tensor | None, rows: int, columns: int, name: str) -> None:
    _check.is_tensor(value, name)
    _check.shape(value, (rows, columns), name)


def check_velocities(vel: Tensor | None, pos: Tensor) -> None:
    if vel is None:
        raise ValueError("vel must be given to this network, (N, 3) velocities; got None.")
    _check.velocities(vel, pos)


def centroids(pos: Tensor, batch: Tensor | None) -> Tensor:
    """The mean position of each node's graph: (N, 3), or (1, 3) for a single graph."""
    if batch is None:
        return pos.mean(0, keepdim=True)
    _check.is_tensor(batch, "batch")
    _check.dtype(batch, (torch.int64, torch.int32), "batch")
    _check.shape(batch, pos.shape[:1], "batch")
    # There are at most as many graphs as nodes; counting them would stop a GPU.
    return ops.segment_mean(pos, batch, pos.shape[0])[batch.long()]
