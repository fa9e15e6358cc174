"""The C++ compiler that tests use, and its ThreadSanitizer, which finds races of kernels on the emulated GPU."""

import functools
import shutil
import subprocess
from pathlib import Path

COMPILER = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)
THREAD_SANITIZER = ("-fsanitize=thread", "-g", "-O2")
# Of a process in which ThreadSanitizer has found races.
RACES_EXIT_CODE = 66


@functools.cache
def thread_sanitizer_library() -> Path | None:
    """ThreadSanitizer's library, or None: the compiler is not GCC, or has none."""
    if COMPILER is None or "Free Software Foundation" not in _output("--version"):
        return None
    found = Path(_output("-print-file-name=libtsan.so").strip())
    return found.resolve() if found.is_file() else None


def _output(flag: str) -> str:
    return subprocess.run([COMPILER, flag], capture_output=True, text=True).stdout
