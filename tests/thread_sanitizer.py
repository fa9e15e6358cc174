"""GCC's ThreadSanitizer, which finds races of kernels on the emulated GPU."""

import functools
import shutil
import subprocess
from pathlib import Path

FLAGS = ("-fsanitize=thread", "-g", "-O2")
# Of a process in which it has found races.
EXIT_CODE = 66


@functools.cache
def library() -> Path | None:
    """Its library for the compiler that tests use, or None: it is not GCC, or has none."""
    compiler = next((path for name in ("c++", "g++") if (path := shutil.which(name))), None)
    if compiler is None or "Free Software Foundation" not in _output(compiler, "--version"):
        return None
    found = Path(_output(compiler, "-print-file-name=libtsan.so").strip())
    return found.resolve() if found.is_file() else None


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True).stdout
