"""The edge block's kernels, compiled ahead of time: what published widths take of a GPU.

``docs/gpu.md`` lists all of them; here is one of every kind, since each takes ptxas seconds.
"""

import pytest

pytest.importorskip("triton")

from clof_ext.triton import interpreted
from tests.triton.ahead_of_time import compiled
from tests.triton.edge_blocks import MAX_SHARED, EdgeBlock

pytestmark = pytest.mark.skipif(interpreted(), reason="TRITON_INTERPRET=1 replaces the compiler by the interpreter")

# (hidden features, precision, kernel, target, the most bytes or registers that may be spilled)
CASES = [
    (64, "bfloat16", "message_kernel", "sm_90", 0),
    (64, "TF32", "message_kernel", "sm_90", 0),
    (64, "3xTF32", "message_kernel", "sm_80", 0),
    (64, "bfloat16", "message_kernel", "gfx942", 8),
    (128, "bfloat16", "message_kernel", "sm_90", 0),
    (128, "TF32", "message_kernel", "sm_90", 0),
    # ptxas trades a few bytes for more warps at a time.
    (64, "TF32", "node_sum_kernel", "sm_90", 16),
    (64, "TF32", "position_kernel", "sm_90", 0),
    # A tile's numbers beside the operands of a product: what does not fit lies in the L1 cache.
    (64, "bfloat16", "tile_kernel", "sm_90", 128),
    # The weight in shared memory and the sums of its gradient in registers leave room for a tile.
    (128, "TF32", "layer_kernel", "sm_90", 16),
    (128, "TF32", "coordinates_kernel", "sm_90", 64),
    (128, "TF32", "first_kernel", "sm_90", 0),
    (128, "bfloat16", "layer_kernel", "sm_90", 0),
    (128, "bfloat16", "coordinates_kernel", "sm_90", 0),
    (128, "bfloat16", "first_kernel", "sm_90", 0),
    (128, "bfloat16", "rerun_kernel", "sm_90", 192),
]


@pytest.mark.parametrize(("hidden", "precision", "kernel", "target", "spilled"), CASES)
def test_kernels_of_the_edge_block_fit(hidden: int, precision: str, kernel: str, target: str, spilled: int):
    usage = compiled(EdgeBlock(hidden, precision).launches(target)[kernel], target)
    print(usage)
    assert usage.spilled <= spilled
    assert usage.shared <= MAX_SHARED[target]
