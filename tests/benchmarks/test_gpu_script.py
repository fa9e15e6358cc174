"""``make gpu`` without a GPU: a script that stands for Python says what it was asked to run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks/gpu.sh"
# Finds a GPU, has no pytest-xdist; what the environment variable FAILS names, fails, and LACKS is not installed.
PYTHON = """\
#!/usr/bin/env bash
case "$*" in
  *get_device_capability*) echo 9.0 ;;
  *"import xdist"*) exit 1 ;;
  *find_spec*) printf '%s\\n\\n' "$LACKS" ;;
  *) echo "ran $*"; [[ -z "$FAILS" || "$*" != *"$FAILS"* ]] ;;
esac
"""


@pytest.fixture
def run(tmp_path):
    """Runs the script with the tools of the system alone: no sanitizers."""
    python = tmp_path / "python"
    python.write_text(PYTHON)
    python.chmod(0o755)

    def call(fails: str = "", program: str = str(python), lacks: str = "") -> subprocess.CompletedProcess:
        environment = {**os.environ, "PYTHON": program, "FAILS": fails, "LACKS": lacks, "PATH": "/usr/bin:/bin"}
        return subprocess.run(["bash", str(SCRIPT)], env=environment, capture_output=True, text=True)

    return call


def test_everything_runs(run):
    done = run()
    assert done.returncode == 0, done.stderr
    for part in ("build_ext", "pytest", "selftest", "bench_network", "profile_edge_block", "bench_edge_block"):
        assert part in done.stdout
    assert "left out" in done.stdout


@pytest.mark.parametrize("fails", ["-m pytest", "selftest", "bench_network"])
def test_what_fails_is_said_and_the_rest_is_done(run, fails):
    done = run(fails)
    assert done.returncode == 1
    assert "bench_edge_block" in done.stdout
    assert [line for line in done.stderr.splitlines() if line.startswith("failed:")][-1].count(fails) == 1


def test_a_build_that_fails_ends_it(run):
    done = run("build_ext")
    assert done.returncode != 0 and "pytest" not in done.stdout


def test_what_is_not_installed_is_named_before_anything_runs(run):
    done = run(lacks="pybind11 pytest_benchmark")
    assert done.returncode == 2 and "more than" in done.stderr and "has: pybind11 pytest_benchmark." in done.stderr
    assert "build_ext" not in done.stdout


def test_without_a_gpu_it_says_so(run):
    done = run("is_available")
    assert done.returncode == 2 and "needs a CUDA device" in done.stderr
    if not torch.cuda.is_available():
        assert run(program=sys.executable).returncode == 2
