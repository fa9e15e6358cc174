"""The same work on many items, in this process or in several."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from typing import TypeVar

import torch

from ..training import ExplainedError, OptionError

Item = TypeVar("Item")
Result = TypeVar("Result")

# Items handed out ahead of the one waited for, per process: enough that none is idle, few enough to stream.
AHEAD = 4


class WorkerError(ExplainedError, RuntimeError):
    """A process that worked on an item ended without an answer."""


def ordered_map(
    function: Callable[[Item], Result], items: Iterable[Item], processes: int
) -> Iterator[tuple[Item, Result]]:
    """(item, function(item)) in the order of the items, which are read as they are needed.

    Args:
        function: a function of a module, so that another process can import it.
        items: to work on; they and the results travel between processes.
        processes: 1 works in this process.

    Raises:
        OptionError: ``processes`` < 1.
        WorkerError: a process was killed, or ran out of memory.
    """
    if processes < 1:
        raise OptionError(f"processes must be at least 1; got {processes}.")
    if processes == 1:
        yield from ((item, function(item)) for item in items)
        return
    # Not forked: a child would inherit the threads' locks, but not the threads.
    pool = ProcessPoolExecutor(processes, get_context("spawn"), initializer=_use_one_thread)
    try:
        yield from _in_order(pool, function, items, AHEAD * processes)
    except BrokenProcessPool:
        raise WorkerError("a process that worked on a molecule ended: it was killed, or ran out of memory.") from None
    finally:
        # Where the caller has stopped, what has not begun need not be done.
        pool.shutdown(cancel_futures=True)


def _in_order(
    pool: ProcessPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[tuple[Item, Result]]:
    waiting: deque[tuple[Item, Future]] = deque()
    for item in items:
        waiting.append((item, pool.submit(function, item)))
        if len(waiting) > ahead:
            first, future = waiting.popleft()
            yield first, future.result()
    for first, future in waiting:
        yield first, future.result()


def _use_one_thread() -> None:
    """Processes share the cores, so each uses one thread; the variable is for libraries that load later."""
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
