"""What runs of benchmarks need: a voice, a compiler without memories, and a number of threads."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import torch

Say = Callable[[str], None]


def clock() -> Say:
    """A function that tells what is being done, and when."""
    started = time.perf_counter()
    return lambda text: print(f"[{time.perf_counter() - started:5.0f} s] {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def empty_compile_cache() -> Iterator[None]:
    """Let ``torch.compile`` work in an empty folder, so that its warm-up is what a new user sees."""
    name = "TORCHINDUCTOR_CACHE_DIR"
    before = os.environ.get(name)
    with tempfile.TemporaryDirectory(prefix="clof-ext-bench-") as folder:
        os.environ[name] = folder
        try:
            yield
        finally:
            os.environ.pop(name) if before is None else os.environ.update({name: before})


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch work with so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
