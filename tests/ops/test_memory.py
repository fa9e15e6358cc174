"""Operators keep nothing from call to call."""

import ctypes
import gc
import statistics
from collections.abc import Callable

import pytest
import torch

from clof_ext import nn, ops, prepare_graph
from tests.ops.test_integration import CASES

CALLS, TRIES = 100, 5
# Bytes a call: the smallest object of C++'s heap has 32.
TOLERATED = 16


class Mallinfo2(ctypes.Structure):
    """glibc's ``struct mallinfo2``."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


try:
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = Mallinfo2
except AttributeError:
    pytestmark = pytest.mark.skip(reason="needs glibc's mallinfo2")


def bytes_in_use() -> int:
    gc.collect()
    counts = mallinfo2()
    return counts.uordblks + counts.hblkhd


def kept(call: Callable[[], object]) -> float:
    """Bytes that a call keeps: the median of some tries, because other threads take and give back memory, too."""
    growths = []
    for _ in range(TRIES):
        before = bytes_in_use()
        for _ in range(CALLS):
            call()
        growths.append((bytes_in_use() - before) / CALLS)
    return statistics.median(growths)


def test_what_is_kept_is_found():
    memory = []
    assert kept(lambda: memory.append(bytes(1000))) > TOLERATED


@pytest.mark.parametrize(("name", "arguments"), CASES, ids=[name for name, _ in CASES])
def test_operator(name: str, arguments: tuple):
    arguments = [value.detach() if isinstance(value, torch.Tensor) else value for value in arguments]
    operator = getattr(torch.ops.clof_ext, name)
    assert kept(lambda: operator(*arguments)) < TOLERATED


def test_layer():
    """A layer forward and backward: frame_message and mlp, whose arguments are lists and many strings."""
    edge_index = torch.tensor([[0, 0, 1, 2], [1, 2, 0, 0]])
    plan, layer = prepare_graph(edge_index, 3), nn.FrameConv(8, 8, 4, basis="complete")
    h, pos, edge_attr = torch.randn(3, 8), torch.randn(3, 3, requires_grad=True), torch.randn(4, 4)

    def step() -> None:
        sum(result.sum() for result in layer(h, pos, plan, edge_attr)).backward()

    assert kept(step) < TOLERATED


def test_perceptron():
    rows, weights = torch.randn(4, 3), [torch.randn(2, 3, requires_grad=True), torch.randn(2)]
    assert kept(lambda: ops.mlp((rows,), weights).sum().backward()) < TOLERATED
