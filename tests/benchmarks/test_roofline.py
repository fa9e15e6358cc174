"""The arithmetic of the roofline, against numbers worked out by hand, and what it must obey."""

import pytest

from benchmarks.roofline import GPUS, Bound, EdgeBlock, Gpu, backward_bound, forward_bound, main

ROUND = Gpu("round numbers", 1e9, {"tf32": 1e9, "bf16": 2e9}, 1e9, "none")


def test_work_of_a_small_block():
    """One edge, H = 2, D = 1, one neighbour: 3 products of 2 x 2, one of 1 x 2, three of 2."""
    block = EdgeBlock(2, 1, 1, neighbours=1)
    assert block.flops == 2 * (3 * 4 + 2 + 6)
    assert block.exponentials == 2 * 4 * 2
    # 4 bytes of edge features, 16 of indices; 6 numbers of the node's features, 6 of its geometry.
    assert block.forward_bytes(4) == 4 + 16 + 24 + 24
    bound = forward_bound(block, ROUND, "tf32")
    assert bound == Bound(68e-9, 40e-9, 16e-9)
    assert (bound.seconds, bound.limited_by) == (68e-9, "memory")


@pytest.mark.parametrize("name", GPUS)
@pytest.mark.parametrize("hidden", [64, 128])
def test_backward_costs_more_and_halves_cost_less(name: str, hidden: int):
    block = EdgeBlock(hidden, hidden // 2, 10**6)
    for precision in ("tf32", "bf16"):
        forward, backward = (bound(block, GPUS[name], precision) for bound in (forward_bound, backward_bound))
        assert backward.products == pytest.approx(3 * forward.products)
        assert backward.memory > 2 * forward.memory
    assert forward_bound(block, GPUS[name], "bf16").seconds <= forward_bound(block, GPUS[name], "tf32").seconds


def test_the_command_says_that_nothing_was_run(capsys):
    main(["--gpu", "h200", "--hidden", "64", "--edges", "4000000"])
    printed = capsys.readouterr().out
    assert "bounds by arithmetic, nothing was run" in printed
    assert printed.count("limited by") == 1 and printed.count("forward") == 2
