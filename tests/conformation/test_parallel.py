"""Work in several processes: in order, as it is needed, and what happens when a process dies."""

import math
import os
from itertools import count, islice

import pytest

from clof_ext.conformation._parallel import AHEAD, WorkerError, ordered_map
from clof_ext.training import OptionError


@pytest.mark.parametrize("processes", [1, 2])
def test_results_come_in_order_and_items_are_read_as_they_are_needed(processes):
    read = []

    def squares():
        for number in count():
            read.append(number)
            yield number**2

    results = ordered_map(math.sqrt, squares(), processes)
    assert list(islice(results, 30)) == [(number**2, number) for number in range(30)]
    results.close()
    assert len(read) <= 30 + AHEAD * processes


def test_a_process_that_dies_is_no_riddle():
    with pytest.raises(WorkerError, match="a process that worked on a molecule ended: it was killed, or ran out of"):
        list(ordered_map(os._exit, [3], 2))


def test_no_processes_are_refused():
    with pytest.raises(OptionError, match="processes must be at least 1; got 0."):
        list(ordered_map(math.sqrt, [1], 0))
