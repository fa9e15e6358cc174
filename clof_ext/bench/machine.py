"""What a measurement was made on: the machine, its software, and the state of the repository."""

import datetime
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
from pathlib import Path

import numpy
import torch

from .. import _backends
from .._version import __version__

# Of the repository, where this is a checkout of it.
ROOT = Path(__file__).parent.parent.parent
# What Linux calls the instruction sets that matter to dense float work, on x86 and on Arm.
INSTRUCTION_SETS = (
    *("avx", "avx2", "fma", "avx512f", "avx512_bf16", "avx512_fp16", "amx_tile", "amx_bf16"),
    *("asimd", "asimdhp", "bf16", "sve", "sve2"),
)
COMPILERS = ("c++", "g++", "clang++")
# The longest that a question to another program may take, in seconds.
PATIENCE = 10


def describe() -> dict:
    """Everything that another person needs to judge or repeat a measurement, ready for JSON.

    Returns:
        A dict with the keys ``machine`` (cpu, cores, threads, instruction_sets, memory_gib, gpus, os, load),
        ``versions`` (python, torch, numpy, triton, clof_ext, compiler, clof_ext_compiler,
        clof_ext_instruction_set), ``commit`` and ``date``.
        What cannot be found out is None.
    """
    return {
        "machine": _machine(),
        "versions": _versions(),
        "commit": _commit(),
        "date": datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
    }


def slug(device: torch.device) -> str:
    """A file name's part that tells kinds of machines apart, as ``amd-epyc-2-cores`` or ``nvidia-h200``."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{cpu_model()} {cores()} cores"
    words = re.sub(r"\((r|tm)\)|cpu|@.*ghz", " ", name.lower())
    return "-".join(re.findall(r"[a-z0-9]+", words))


def cpu_model() -> str:
    return _cpu_info("model name") or platform.processor() or platform.machine()


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_bytes() -> int:
    """Memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def available_bytes() -> int:
    """Memory that programs can still have, as Linux estimates it; elsewhere all of it."""
    found = _value("/proc/meminfo", "MemAvailable")
    return memory_bytes() if found is None else 1024 * int(found.split()[0])


def compiler() -> str | None:
    """The C++ compiler that ``torch.compile`` would find, with its version; None where there is none."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else COMPILERS
    path = next((found for name in names if (found := shutil.which(name))), None)
    return None if path is None else _first_line([path, "--version"])


def _machine() -> dict:
    flags = set((_cpu_info("flags") or _cpu_info("Features") or "").split())
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "threads": torch.get_num_threads(),
        "instruction_sets": [name for name in INSTRUCTION_SETS if name in flags],
        "memory_gib": round(memory_bytes() / 2**30, 1),
        "gpus": [torch.cuda.get_device_name(k) for k in range(torch.cuda.device_count())],
        "os": platform.platform(),
        # Average number of running programs in the last minute: far above 0 before a run means a busy machine.
        "load": round(os.getloadavg()[0], 2),
    }


def _versions() -> dict:
    binary = _backends.binary()
    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "triton": distribution("triton"),
        "clof_ext": __version__,
        "compiler": compiler(),
        "clof_ext_compiler": binary and binary.build_info()["compiler"],
        "clof_ext_instruction_set": binary and binary.instruction_set(),
    }


def distribution(name: str) -> str | None:
    """Version of an installed package, or None."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Number of the commit, ``-dirty`` behind it where tracked files differ from it; None of an installed package."""
    if not (ROOT / ".git").exists():
        return None
    return _first_line(["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"])


def _cpu_info(key: str) -> str | None:
    """The first value of a key that Linux tells about the processor."""
    return _value("/proc/cpuinfo", key)


def _value(path: str, key: str) -> str | None:
    """The first value of a key in a file of Linux."""
    try:
        text = Path(path).read_text()
    except OSError:
        return None
    found = re.search(rf"^{key}\s*: *(.*)$", text, re.MULTILINE)
    return found and found[1].strip()


def _first_line(command: list[str]) -> str | None:
    """What a program answers, or None where it is missing or fails."""
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(result.stdout.splitlines()), None)
