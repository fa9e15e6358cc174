"""Compiles and runs the tests in C++, which need no PyTorch: formulas, the software that stands in for AMX and for a
GPU, and CUDA kernels on it."""

import platform
import subprocess
from pathlib import Path

import pytest

from tests.compiler import COMPILER, RACES_EXIT_CODE, THREAD_SANITIZER, thread_sanitizer_library

AVX512 = ("-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", "-mavx2", "-mfma", "-mf16c")

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")


GPU = ("-Wextra", "-Wno-unknown-pragmas", "-DCLOF_EMULATED_GPU", f"-I{Path(__file__).parent}")
# Kernels of emulated_races_test.cpp, and whether they have a race.
RACES = {
    **dict.fromkeys(("block_barrier", "warp_barrier", "own numbers", "flag that any may raise"), False),
    **dict.fromkeys(("matrices, then a barrier", "copies, then a barrier"), False),
    **dict.fromkeys(("no barrier", "shuffle for a barrier", "warp_barrier between warps"), True),
    **dict.fromkeys(("blocks on one place", "block reads what another wrote"), True),
    **dict.fromkeys(("matrices, no barrier", "copies, no barrier"), True),
}
needs_thread_sanitizer = pytest.mark.skipif(thread_sanitizer_library() is None, reason="needs GCC's ThreadSanitizer")


def compiled(name: str, folder: Path, *flags: str) -> Path:
    program = folder / name
    source = Path(__file__).with_name(f"{name}.cpp")
    subprocess.run([COMPILER, "-std=c++17", "-O1", "-Wall", "-Werror", *flags, source, "-o", program], check=True)
    return program


def output_of(name: str, folder: Path, *flags: str) -> str:
    """What a test program prints; fails where it does not end well."""
    run = subprocess.run([compiled(name, folder, *flags)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr[:8000]
    return run.stdout


def test_formulas_against_finite_differences(tmp_path: Path):
    assert output_of("math_test", tmp_path).count(" ok ") >= 30


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="needs an x86 processor")
def test_software_in_place_of_amx(tmp_path: Path):
    text = output_of("amx_test", tmp_path, *AVX512, "-Wno-ignored-attributes", "-Wno-psabi")
    if "no AVX-512" in text:
        pytest.skip("needs AVX-512")
    assert text.count(" ok") >= 4


@pytest.mark.parametrize("sanitized", [False, True])
def test_software_in_place_of_a_gpu(tmp_path: Path, sanitized: bool):
    flags = GPU
    if sanitized:  # by a trap, which needs no library
        flags += ("-O2", "-fsanitize=alignment", "-fsanitize-undefined-trap-on-error", "-DCLOF_ALIGNMENT_TRAPS")
    assert output_of("emulated_gpu_test", tmp_path, *flags).count(" ok") >= 25 + sanitized


@needs_thread_sanitizer
def test_races_on_the_emulated_gpu_are_found(tmp_path: Path):
    program = compiled("emulated_races_test", tmp_path, *GPU, *THREAD_SANITIZER)
    codes = {name: subprocess.run([program, name], capture_output=True).returncode for name in RACES}
    assert codes == {name: RACES_EXIT_CODE if has_race else 0 for name, has_race in RACES.items()}


def test_tiled_geometry_kernels(tmp_path: Path):
    """The CUDA kernels of csrc/cuda/geometry against the functors, run one edge at a time."""
    assert output_of("geometry_test", tmp_path, *GPU).count(" ok ") > 2500


@needs_thread_sanitizer
def test_tiled_geometry_kernels_have_no_races(tmp_path: Path):
    assert output_of("geometry_test", tmp_path, *GPU, *THREAD_SANITIZER).count(" ok ") > 300
