"""Compiles and runs math_test.cpp: the C++ formulas against finite differences, without PyTorch."""

import shutil
import subprocess
from pathlib import Path

import pytest

COMPILER = next((path for name in ("c++", "g++", "clang++") if (path := shutil.which(name))), None)


@pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
def test_formulas_against_finite_differences(tmp_path: Path):
    program = tmp_path / "math_test"
    source = Path(__file__).with_name("math_test.cpp")
    subprocess.run([COMPILER, "-std=c++17", "-O1", "-Wall", "-Werror", source, "-o", program], check=True)
    run = subprocess.run([program], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout
    assert run.stdout.count(" ok ") >= 30
