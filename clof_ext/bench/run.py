"""What runs of benchmarks need: a voice, a compiler without memories, and settings of PyTorch for a while."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")

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


def threads(count: int) -> contextlib.AbstractContextManager[None]:
    """Let PyTorch work with so many threads."""
    return _for_a_while(torch.get_num_threads, torch.set_num_threads, count)


def matmul_precision(name: str) -> contextlib.AbstractContextManager[None]:
    """Let PyTorch's products of float32 numbers have this precision."""
    return _for_a_while(torch.get_float32_matmul_precision, torch.set_float32_matmul_precision, name)


@contextlib.contextmanager
def _for_a_while(get: Callable[[], T], put: Callable[[T], None], value: T) -> Iterator[None]:
    before = get()
    put(value)
    try:
        yield
    finally:
        put(before)
