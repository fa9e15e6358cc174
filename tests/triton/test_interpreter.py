"""The Triton kernels against the reference without a GPU, in Triton's interpreter and a process of its own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

FOLDER = Path(__file__).parent / "interpreted"
REPOSITORY = Path(__file__).parents[2]


def test_kernels_in_the_interpreter():
    command = [sys.executable, "-m", "pytest", str(FOLDER), "-q", "-x", "-p", "no:cacheprovider", "--durations=5"]
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    run = subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True)
    # Exit status 5 would mean that nothing was collected.
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
