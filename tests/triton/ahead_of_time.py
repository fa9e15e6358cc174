"""Compiles the launches that operators make for GPUs that this machine does not have, and reads what they use."""

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import get_ptxas
from triton.runtime import driver

from clof_ext.triton import edge_frame, edge_scalars, frame_message, segment, tensor_form

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
ROOMS = (edge_frame, edge_scalars, frame_message, segment, tensor_form)


@dataclass(frozen=True)
class Launch:
    """A kernel with the arguments and constants of a call."""

    kernel: Callable
    arguments: tuple
    constants: dict

    @property
    def name(self) -> str:
        return f"{self.kernel.fn.__module__.rpartition('.')[2]}.{self.kernel.fn.__name__}"


@dataclass(frozen=True)
class Usage:
    """Registers of a thread, bytes (or on AMD registers) that do not fit in them, bytes of shared memory."""

    registers: int
    spilled: int
    shared: int


@contextmanager
def recorded() -> Iterator[list[Launch]]:
    """The launches made inside the ``with`` block, which are not run."""
    launches: list[Launch] = []

    def record(kernel, num_programs, on, *arguments, **constants):
        launches.append(Launch(kernel, arguments, constants))

    originals = [room.launch for room in ROOMS]
    try:
        for room in ROOMS:
            room.launch = record
        yield launches
    finally:
        for room, original in zip(ROOMS, originals):
            room.launch = original


@dataclass(frozen=True)
class AbsentGpu:
    """What Triton asks of its driver to compile for a GPU that is not there."""

    target: GPUTarget

    def get_current_target(self) -> GPUTarget:
        return self.target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0


def compiled(launch: Launch, target: str) -> Usage:
    """What the kernel of a launch uses, compiled the way the launch would compile it."""
    before = driver._active
    driver.set_active(AbsentGpu(TARGETS[target]))
    # Kernels are kept by device, and all of these are device 0.
    launch.kernel.device_caches.clear()
    try:
        kernel = launch.kernel.warmup(*launch.arguments, grid=(1,), **launch.constants)
    finally:
        driver._active = before
        launch.kernel.device_caches.clear()
    read = _amd_usage if target.startswith("gfx") else _nvidia_usage
    return read(kernel, target)


def _nvidia_usage(kernel, target: str) -> Usage:
    with tempfile.TemporaryDirectory() as folder:
        ptx = Path(folder, "kernel.ptx")
        ptx.write_text(kernel.asm["ptx"])
        processor = re.search(r"\.target (\w+)", kernel.asm["ptx"])[1]
        command = [
            get_ptxas(TARGETS[target].arch).path,
            "-v",
            f"--gpu-name={processor}",
            str(ptx),
            "-o",
            f"{ptx}.cubin",
        ]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    spilled = sum(int(size) for size in re.findall(r"(\d+) bytes spill", report))
    return Usage(int(re.search(r"Used (\d+) registers", report)[1]), spilled, kernel.metadata.shared)


def _amd_usage(kernel, target: str) -> Usage:
    def count(name: str) -> int:
        return int(re.search(rf"\.{name}:\s+(\d+)", kernel.asm["amdgcn"])[1])

    spilled = count("vgpr_spill_count") + count("sgpr_spill_count")
    return Usage(count("vgpr_count"), spilled, kernel.metadata.shared)
