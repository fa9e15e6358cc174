"""What a thread keeps between calls on the CPU: results do not depend on what the call before left there."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from clof_ext import _backends
from tests.conformance import Graph, points
from tests.ops.test_frame_message import LARGE, Block, block

pytestmark = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")


def cases() -> list[Block]:
    """Calls that need more and less memory, in turn."""
    nodes, edges = LARGE["connected"]
    large = block(Graph(points(nodes), edges), hidden=40)
    return [block(hidden=7), large, block(attention=True, weighted=True), block(hidden=64, edge_dim=0)]


def results(case: Block) -> list[Tensor]:
    return case.results(torch.float32)


def test_results_do_not_depend_on_the_calls_before():
    fresh = []
    for case in cases():
        _backends.binary().release_memory()
        fresh.append(results(case))
    again = [results(case) for case in cases()]
    backwards = [results(case) for case in cases()[::-1]][::-1]
    for other in (again, backwards):
        assert all(torch.equal(one, two) for runs in zip(fresh, other) for one, two in zip(*runs))


def test_threads_keep_their_own():
    expected = [results(case) for case in cases()]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(results, cases() * 4))
        pool.submit(_backends.binary().release_memory).result()
    for k, value in enumerate(found):
        assert all(torch.equal(one, two) for one, two in zip(value, expected[k % len(expected)]))
