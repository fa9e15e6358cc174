"""The machine's rate of matrix products, as torch reaches it with all its threads."""

from collections.abc import Callable
from functools import partial

import torch

from clof_ext.bench.timing import interleave

# Rows and columns: one size that fits the caches of most machines, one that does not.
SIZES = (1024, 2048)


def gemm_rates(*, seconds: float, repeats: int, device: torch.device, clock: Callable[[], float]) -> dict[str, float]:
    """Operations per second of float32 products of square matrices, by their size; medians, see ``interleave``."""
    matrices = {str(size): torch.randn(2, size, size, device=device) for size in SIZES}
    calls = {name: partial(torch.matmul, *pair) for name, pair in matrices.items()}
    for call in calls.values():
        call()
    timings = interleave(calls, seconds=seconds, repeats=repeats, device=device, clock=clock)
    return {name: 2 * int(name) ** 3 / timing.median for name, timing in timings.items()}
