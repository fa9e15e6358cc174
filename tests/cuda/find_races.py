"""Runs the tensor-core kernels on the emulated GPU while ThreadSanitizer looks at every access.

``python -m tests.cuda.find_races``, as tests/cuda/test_emulated_races.py calls it. What a race is, says
tests/cpp/emulated_races.h.
"""

import os
import sys
from collections.abc import Iterator

import torch

from tests.conformance import Graph, points
from tests.cuda import emulated, test_emulated_add_layer_norm, test_emulated_frame_message, test_emulated_mlp
from tests.ops.test_frame_message import LARGE, OPTIONS, block

# One precision for each layout of operands in shared memory: numbers of 32 bits and of 16.
KINDS = [("high", torch.float32), ("highest", torch.bfloat16)]
# Options that add or leave out a step of a kernel.
STEPS = [
    "gated",
    "gated, shallow",
    "shallow",
    "one coordinate layer",
    "last bias",
    "weighted edges, means",
]
PERCEPTRONS = ["node update", "velocity", "edge features", "one Linear of many inputs", "four Linears", "no rows"]
NORM_WIDTHS = [7, 128]
# The last line of a run that came to its end.
DONE = "all kernels ran"


def frame_message() -> Iterator[str]:
    check = test_emulated_frame_message.check
    for kind in KINDS:
        for name in STEPS:
            yield f"frame_message, {name}, {kind}"
            check(block(**OPTIONS[name]), kind)
    # Receivers that warps and blocks share, and several chunks.
    for name, row_bytes in (("star", 2**26), ("batch of unequal graphs", 2**19)):
        yield f"frame_message, {name}"
        nodes, edges = LARGE[name]
        check(block(Graph(points(nodes), edges), hidden=9, edge_dim=2, weighted=True), blocks=5, row_bytes=row_bytes)


def mlp() -> Iterator[str]:
    for kind in ("high", torch.bfloat16):
        for name in PERCEPTRONS:
            yield f"mlp, {name}, {kind}"
            trial = test_emulated_mlp.Trial(test_emulated_mlp.NARROW[name], kind, blocks=3)
            trial.check_values()
            trial.check_gradients()


def add_layer_norm() -> Iterator[str]:
    for dtypes in ("float32", "bfloat16 under autocast"):
        for width in NORM_WIDTHS:
            yield f"add_layer_norm, {width} features, {dtypes}"
            inputs = test_emulated_add_layer_norm.random_call(300, width, test_emulated_add_layer_norm.DTYPES[dtypes])
            test_emulated_add_layer_norm.check(inputs, 2.0)


def main() -> None:
    if emulated.FIND_RACES not in os.environ:
        sys.exit(f"{emulated.FIND_RACES} must be set, and ThreadSanitizer's library be loaded before Python.")
    torch.set_num_threads(1)  # torch's own threads are ordered by what ThreadSanitizer does not know
    for kernels in (frame_message, mlp, add_layer_norm):
        for name in kernels():
            print(name, flush=True)
    print(DONE)


if __name__ == "__main__":
    main()
