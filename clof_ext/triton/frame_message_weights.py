"""Gradients of frame_message's weights: where its programs add them up, and what becomes of these sums."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
import triton
from torch import Tensor

from .frame_message_backward import HEAD_ROWS
from .frame_message_host import Block
from .frame_message_tile import Weights


@dataclass(frozen=True)
class WeightSums:
    """A row of sums for each program of the backward kernel.

    Attributes:
        shapes: of the padded arrays in a row, in the order in which ``named`` takes them.
        rows: (programs, numbers), zeros at first.
    """

    block: Block
    shapes: list[tuple[int, ...]]
    rows: Tensor

    @classmethod
    def zeros(cls, block: Block, programs: int) -> "WeightSums":
        width, layer = block.padded, [(block.padded, block.padded), (block.padded,)]
        switches = block.switches
        shapes = [(width,), *[(width, block.edge_block)] * triton.cdiv(block.edge_dim, block.edge_block)]
        shapes += layer * (switches.edge_depth - 1) + [(width,), (HEAD_ROWS,)] * switches.attention
        shapes += layer * (switches.coord_depth - 1) + [(HEAD_ROWS, width)]
        shapes += [(HEAD_ROWS,)] * (block.layers[-1][1] is not None)
        rows = block.graph.pos.new_zeros(programs, sum(map(prod, shapes)))
        return cls(block, shapes, rows)

    @property
    def row_length(self) -> int:
        return self.rows.shape[1]

    @cached_property
    def of_first_program(self) -> Weights:
        """The arrays that the first program adds to."""
        return self._named(self.rows[0])

    def _named(self, row: Tensor) -> Weights:
        """The arrays in a row by the weights' names; the edge columns are an array for each block of features."""
        parts = row.split([prod(shape) for shape in self.shapes])
        arrays = iter([part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)])
        switches = self.block.switches
        return Weights(
            next(arrays),
            _take(arrays, triton.cdiv(self.block.edge_dim, self.block.edge_block)),
            tuple(_take(arrays, 2) for _ in range(switches.edge_depth - 1)),
            _take(arrays, 2 * switches.attention),
            _take(arrays, 2 * (switches.coord_depth - 1)),
            tuple(arrays),
        )

    @cached_property
    def total(self) -> Weights:
        """The sums of all programs, added in the order of their numbers."""
        return self._named(self.rows.sum(0))

    def gradients(self, of_nodes: Tensor) -> list[Tensor]:
        """Gradients by all weights, given the (2, N, H) gradients by the first Linear's outputs of nodes."""
        total, h, hidden = self.total, self.block.h, self.block.hidden
        per_edge = [column[:hidden] for column in (total.radial[:, None], *total.edge)]
        width = 2 * h.shape[1] + 1 + self.block.edge_dim
        first = torch.cat([of_nodes[0].to(h.dtype).T @ h, of_nodes[1].to(h.dtype).T @ h, *per_edge], 1)[:, :width]
        arrays = [first, of_nodes[0].sum(0)]
        for layer in (*total.layers, total.gate, total.coordinates, total.head):
            arrays += layer
        given = [tensor for layer in self.block.layers for tensor in layer if tensor is not None]
        return [_cut(array, like) for array, like in zip(arrays, given, strict=True)]


def _take(arrays: Iterator[Tensor], count: int) -> tuple[Tensor, ...]:
    return tuple(next(arrays) for _ in range(count))


def _cut(array: Tensor, like: Tensor) -> Tensor:
    """The part of a padded array that a weight has, in its dtype and shape."""
    if array.dim() < like.dim():
        array = array[None]
    for axis, size in enumerate(like.shape):
        array = array.narrow(axis, 0, size)
    return like.new_empty(like.shape).copy_(array)
