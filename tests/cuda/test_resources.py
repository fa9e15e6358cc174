"""What the CUDA kernels in the binary use, read without a GPU: registers, stack, no spills where none are needed."""

import importlib.util
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from clof_ext import _backends, _binary


def find_cuobjdump() -> str | None:
    """The toolkit's, or the one that Triton brings."""
    triton = importlib.util.find_spec("triton")
    brought = [Path(triton.origin).parent / "backends/nvidia/bin/cuobjdump"] if triton else []
    candidates = ["cuobjdump", "/usr/local/cuda/bin/cuobjdump", *map(str, brought)]
    return next((path for name in candidates if (path := shutil.which(name))), None)


CUOBJDUMP = find_cuobjdump()
MODULE = _backends.binary()
CUDA = MODULE is not None and MODULE.build_info()["cuda"] is not None

pytestmark = pytest.mark.skipif(not (CUDA and CUOBJDUMP), reason="needs CUDA kernels in the binary, and cuobjdump")

# 256 threads a block: two blocks fit a multiprocessor up to 128 registers; in double precision one has to do.
MAX_REGISTERS = {"float": 128, "double": 208}
# Second derivatives of order 2 and 3 hold many numbers at once and may use the stack: what they use, rounded up.
MAX_STACK = 2048
# Kernels that leave room for other blocks beside them may keep a few of their loop's numbers there.
MAX_STACK_OF_LOOPS = {"EdgeFrameSum": 16, "EdgeScalarsSum": 128, "TensorFormEdges": 16}


@pytest.fixture(scope="module")
def kernels() -> dict[str, tuple[int, int]]:
    """Registers and stack bytes of each kernel, by its readable name and architecture."""
    run = subprocess.run(
        f"{CUOBJDUMP} --dump-resource-usage {_binary.PATH} | c++filt", shell=True, capture_output=True, text=True
    )
    found, architecture = {}, "?"
    for line in run.stdout.splitlines():
        if match := re.search(r"arch = (sm_\d+)", line):
            architecture = match.group(1)
        if match := re.search(r"Function (.+):$", line):
            name = match.group(1)
        if match := re.search(r"REG:(\d+) STACK:(\d+)", line):
            found[f"{architecture} {name}"] = int(match.group(1)), int(match.group(2))
    assert found, run.stdout[:500] + run.stderr
    return found


def test_both_architectures_hold_every_kernel(kernels):
    per_architecture = {key.split()[0] for key in kernels}
    assert {"sm_80", "sm_90"} <= per_architecture
    for name in (
        "EdgeFrameMap", "EdgeFrameSum", "EdgeScalarsMap", "EdgeScalarsSum", "TensorFormEdges", "TensorFormNodes",
        "TensorFormRuns", "NodeSums", "TensorFormMap", "TensorFormSum", "SegmentReduce", "AddLayerNormBackward",
        "AddLayerNormFinish",
    ):  # fmt: skip
        for architecture in ("sm_80", "sm_90"):
            assert any(name in key and key.startswith(architecture) for key in kernels), (name, architecture)


def test_geometry_kernels_do_not_spill(kernels):
    """Frames, scalars, sums, and tensors up to order 1 with first derivatives live in registers."""
    simple = {
        key: use
        for key, use in kernels.items()
        if any(
            part in key
            for part in ("EdgeFrame", "EdgeScalars", "Segment", "NodeSums", "FormEdges", "FormNodes", "FormRuns")
        )
        or re.search(r"TensorForm(Map|Sum)<\w+, [\w:]+, [01], ", key)
    }
    assert len(simple) > 20
    for key, (registers, stack) in simple.items():
        second = re.search(r"Edge(Frame|Scalars)(Map|Sum)<\w+, true|TensorForm(Map|Sum)<\w+, [\w:]+, \d, true", key)
        precision = "double" if "double" in key else "float"
        allowed = max((bytes for part, bytes in MAX_STACK_OF_LOOPS.items() if part in key), default=0)
        assert stack <= allowed, f"{key} uses {stack} bytes of stack"
        if not second:
            assert registers <= MAX_REGISTERS[precision], f"{key} uses {registers} registers"


# The edge block's kernels fill the registers; the narrow forward pass fits, and what the others keep on the stack is
# little beside what they compute.
MAX_EDGE_BLOCK_STACK = {"forward": 320, "backward": 448}


def test_edge_block_stays_in_registers(kernels):
    for direction, allowed in MAX_EDGE_BLOCK_STACK.items():
        found = {key: use for key, use in kernels.items() if re.search(rf"\bclof::cuda::{direction}_kernel<", key)}
        assert len(found) >= 8, direction
        for key, (registers, stack) in found.items():
            narrow = direction == "forward" and re.search(r"clof::cuda::RoundedSilu, 64>", key)
            assert stack <= (0 if narrow and key.startswith("sm_90") else allowed), f"{key} uses {stack} bytes of stack"
            assert registers <= 255


# Rows of up to 64 features: four blocks of the forward pass fit a multiprocessor, three of the backward pass.
MAX_NARROW_NORM_REGISTERS = {"AddLayerNorm": 64, "AddLayerNormBackward": 80}


def test_layer_norm_stays_in_registers(kernels):
    found = {key: use for key, use in kernels.items() if "AddLayerNorm" in key}
    for key, (_, stack) in found.items():
        assert stack == 0, f"{key} uses {stack} bytes of stack"
    for kernel, allowed in MAX_NARROW_NORM_REGISTERS.items():
        narrow = {
            key: use for key, use in found.items() if re.search(rf"{kernel}<.*NormTypes<\S+ \S+ float>.*<8,", key)
        }
        assert len(narrow) >= 2, kernel
        assert all(registers <= allowed for registers, _ in narrow.values()), narrow


def test_large_kernels_are_bounded(kernels):
    for key, (_, stack) in kernels.items():
        assert stack <= MAX_STACK, f"{key} uses {stack} bytes of stack"


def test_binary_loads_beside_a_torch_without_cuda():
    """It links the CUDA runtime inside, and nothing of torch's CUDA."""
    needed = subprocess.run(["readelf", "-d", _binary.PATH], capture_output=True, text=True).stdout
    assert "libtorch_cpu.so" in needed
    assert "libcudart" not in needed
    assert "libtorch_cuda" not in needed


def test_no_symbol_of_torchs_unstable_interface():
    """Only the stable C functions are left undefined: one binary for every torch from the oldest supported on."""
    symbols = subprocess.run(["nm", "-D", "--undefined-only", "-C", _binary.PATH], capture_output=True, text=True)
    bad = [line for line in symbols.stdout.splitlines() if re.search(r"\b(c10|at|torch)::", line)]
    assert not bad, bad
