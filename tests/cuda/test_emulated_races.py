"""The tensor-core kernels have no races in shared or global memory, as ThreadSanitizer sees each of their accesses."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.compiler import RACES_EXIT_CODE, thread_sanitizer_library
from tests.cuda.emulated import FIND_RACES
from tests.cuda.find_races import DONE


def test_kernels_have_no_races():
    preload = thread_sanitizer_library()
    if preload is None:
        pytest.skip("needs GCC with ThreadSanitizer")
    environment = {**os.environ, "LD_PRELOAD": str(preload), FIND_RACES: "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.cuda.find_races"]
    run = subprocess.run(command, env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True)
    found = "races" if run.returncode == RACES_EXIT_CODE else f"exit code {run.returncode}"
    assert run.returncode == 0, f"{found}:\n{run.stdout}\n{run.stderr[:8000]}"
    assert run.stdout.splitlines()[-1] == DONE
