"""Launches of frame_message as published ClofNet makes them, and the most that its kernels may use."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from clof_ext.triton import frame_message, frame_message_config
from tests.conformance import Graph, points, random_edges
from tests.ops.test_frame_message import Block, block
from tests.triton.ahead_of_time import Launch, recorded

# Bytes of shared memory that a program may take; ahead-of-time compilation does not check it.
MAX_SHARED = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "gfx942": 64 * 1024}
# dtype of features and torch's precision of float32 products, by what the products are made in.
PRECISIONS = {
    "bfloat16": (torch.bfloat16, "highest"),
    "TF32": (torch.float32, "high"),
    "3xTF32": (torch.float32, "highest"),
}


@contextmanager
def torch_for(target: str) -> Iterator[None]:
    """Makes torch say that it was built for the maker of a GPU, and the backward pass what it says of that GPU."""
    before = torch.version.hip, frame_message_config.keeps_weights
    torch.version.hip = "ahead of time" if target.startswith("gfx") else None
    frame_message_config.keeps_weights = lambda device: target == "sm_90"
    try:
        yield
    finally:
        torch.version.hip, frame_message_config.keeps_weights = before


@dataclass(frozen=True)
class EdgeBlock:
    """frame_message of a published network of some width."""

    hidden: int
    precision: str

    def launches(self, target: str) -> dict[str, Launch]:
        """The launches of both passes on a GPU, by the kernels' names."""
        dtype, switch = PRECISIONS[self.precision]
        case = block(
            Graph(points(7), random_edges(7, 24)),
            **{"hidden": self.hidden, "node_dim": self.hidden, "edge_dim": self.hidden // 2, "clamp": 100.0},
        )
        with recorded() as launches, torch_for(target):
            _run_both_passes(case, dtype, switch)
        return {launch.kernel.fn.__name__: launch for launch in launches}


def _run_both_passes(case: Block, dtype: torch.dtype, switch: str) -> None:
    h, pos, edge_attr, *weights = [leaf.detach() for leaf in case.leaves(dtype)]
    constants = (3, 2, False, "complete", "soft", "silu", False, 100.0, "sum", "mean", switch)
    arguments = (h, pos, edge_attr, None, weights, case.plan.edges, case.plan.offsets, *constants)
    message, vector = frame_message.frame_message(*arguments)
    frame_message.frame_message_backward(message, vector, *arguments)
