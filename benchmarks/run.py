"""What every run of a benchmark needs: a voice, and a compiler without memories."""

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

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
