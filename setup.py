"""Drives CMakeLists.txt, the one build definition, and decides what this machine can build."""

import os
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).parent.resolve()
MIN_TORCH = runpy.run_path(str(ROOT / "clof_ext/_version.py"))["MIN_TORCH"]
DEFAULT_CUDA_ARCHITECTURES = "80-real;90"
# What the kernels' asynchronous copies and products of TF32 numbers need.
MIN_CUDA_ARCHITECTURE = 80
# What CMake makes.
LIBRARY, MODULE = "clof_ext.libclof_ext", "clof_ext._C"


def say(text: str) -> None:
    print(f"clof_ext: {text}", file=sys.stderr, flush=True)


def find_torch() -> Path | None:
    """Folder of an installed torch, without importing it.

    An isolated build hides the environment that it builds for, whose torch is the right one: look there first.
    """
    folders = [sysconfig.get_path("platlib"), sysconfig.get_path("purelib"), *sys.path]
    if "VIRTUAL_ENV" in os.environ:
        folders += sorted(Path(os.environ["VIRTUAL_ENV"]).glob("lib/python3*/site-packages"))
    for folder in folders:
        torch = Path(folder) / "torch"
        if (torch / "include/torch/csrc/stable/library.h").exists():
            return torch
    return None


def find_compiler() -> str | None:
    names = [shlex.split(os.environ["CXX"])[0]] if os.environ.get("CXX") else ["c++", "g++", "clang++"]
    return next((path for name in names if (path := shutil.which(name))), None)


def find_nvcc() -> str | None:
    """The compiler for CUDA, unless CLOF_EXT_CUDA says otherwise: 0 builds without, 1 insists on it."""
    wanted = os.environ.get("CLOF_EXT_CUDA", "")
    if wanted not in ("", "0", "1"):
        raise RuntimeError(f"CLOF_EXT_CUDA must be 0 or 1, or not be set; got {wanted!r}.")
    if wanted == "0":
        return None
    nvcc = look_for_nvcc()
    if wanted == "1" and nvcc is None:
        raise RuntimeError("CLOF_EXT_CUDA=1 asks for CUDA kernels, but no nvcc was found; set CUDA_HOME.")
    return nvcc


def look_for_nvcc() -> str | None:
    home = os.environ.get("CUDA_HOME") or os.environ.get("CUDA_PATH")
    if home and (nvcc := Path(home) / "bin/nvcc").exists():
        return str(nvcc)
    return shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")


def cuda_architectures() -> str:
    """CMake's list from TORCH_CUDA_ARCH_LIST ("8.0;9.0+PTX"), or the default."""
    entries = os.environ.get("TORCH_CUDA_ARCH_LIST", "").replace(",", " ").replace(";", " ").split()
    if not entries:
        return DEFAULT_CUDA_ARCHITECTURES
    held = [number for entry in entries if (number := cuda_architecture(entry))]
    return ";".join(held) or DEFAULT_CUDA_ARCHITECTURES


def cuda_architecture(entry: str) -> str | None:
    """CMake's name for "9.0", "9.0a" or "9.0+PTX"; None for one that is too old for the kernels."""
    match = re.fullmatch(r"(\d+)\.(\d)([af]?)(\+PTX)?", entry)
    if match is None:
        raise RuntimeError(f"TORCH_CUDA_ARCH_LIST must hold entries such as 9.0 or 9.0+PTX; got {entry!r}.")
    major, minor, variant, ptx = match.groups()
    if int(major + minor) < MIN_CUDA_ARCHITECTURE:
        say(f"the CUDA kernels need compute capability 8.0; {entry} of TORCH_CUDA_ARCH_LIST is left out")
        return None
    return f"{major}{minor}{variant}{'' if ptx else '-real'}"


def build_requirements() -> list[str]:
    """What an isolated build must bring beside pyproject.toml's list."""
    if find_compiler() is None:
        return []
    needed = [tool for tool in ("cmake", "ninja") if shutil.which(tool) is None]
    return needed if find_torch() else [*needed, f"torch>={MIN_TORCH}"]


class CMakeBuild(build_ext):
    """Builds the library and the Python module beside it with CMake."""

    def get_ext_filename(self, fullname: str) -> str:
        """The library's name holds no version of Python, since it calls nothing of Python."""
        return f"{Path(*fullname.split('.'))}.so" if fullname == LIBRARY else super().get_ext_filename(fullname)

    def build_extensions(self) -> None:
        target = Path(self.get_ext_fullpath(MODULE)).parent.resolve()
        build = ROOT / "build" / f"cmake-{sys.implementation.cache_tag}"
        self.configure(build, target)
        jobs = os.environ.get("MAX_JOBS") or str(os.cpu_count() or 1)
        say(f"compiling with {jobs} jobs")
        self.call(["cmake", "--build", str(build), "--parallel", jobs])

    def configure(self, build: Path, target: Path) -> None:
        import pybind11

        torch = find_torch()
        if torch is None:
            raise RuntimeError(f"clof_ext needs torch >= {MIN_TORCH} to build; no torch was found.")
        nvcc = find_nvcc()
        say(f"torch at {torch}; CUDA kernels: {nvcc or 'no (without nvcc, or CLOF_EXT_CUDA=0)'}")
        build.mkdir(parents=True, exist_ok=True)
        settings = {
            "CMAKE_LIBRARY_OUTPUT_DIRECTORY": target,
            "CMAKE_BUILD_TYPE": "Release",
            "CLOF_TORCH": torch,
            "CLOF_TORCH_TARGET": MIN_TORCH,
            "CLOF_VERSION": self.distribution.get_version(),
            "CLOF_CUDA": "ON" if nvcc else "OFF",
            "Python3_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
        }
        if nvcc:
            settings |= {"CMAKE_CUDA_COMPILER": nvcc, "CLOF_CUDA_ARCHITECTURES": cuda_architectures()}
        generator = ["-G", "Ninja"] if shutil.which("ninja") else []
        # An isolated build's tools are gone by the next build, and what CMake remembers of them with it.
        isolated = not Path(pybind11.__file__).resolve().is_relative_to(Path(sys.prefix).resolve())
        fresh = ["--fresh"] if isolated else []
        self.call(
            ["cmake", *fresh, "-S", str(ROOT), "-B", str(build), *generator]
            + [f"-D{name}={value}" for name, value in settings.items()]
        )

    def call(self, command: list[str]) -> None:
        try:
            subprocess.run(command, check=True)
        except subprocess.CalledProcessError as error:
            raise RuntimeError(f"clof_ext: {' '.join(command[:3])} failed with exit code {error.returncode}.") from None


def extensions() -> list[Extension]:
    if find_compiler() is None:
        say("no C++ compiler found (set CXX): installing without the compiled kernels; Triton and the reference remain")
        return []
    return [Extension(name, sources=[]) for name in (LIBRARY, MODULE)]


setup(
    ext_modules=extensions(),
    cmdclass={"build_ext": CMakeBuild},
    setup_requires=build_requirements(),
)
