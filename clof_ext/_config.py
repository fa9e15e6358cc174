"""What runs here and why: versions, the build, instruction sets, the backend of every op."""

import platform
from pathlib import Path

import torch

from . import _backends, _binary
from ._version import __version__

# What the products of frame_message and mlp on CPUs are made of, for each unit that multiplies bfloat16 numbers.
PRODUCTS = {
    "none": "float32; bfloat16 is widened",
    "pairs": 'float32; bfloat16 (and float32 at matmul precision "medium") in pairs',
    "tiles": 'float32; bfloat16 (and float32 at matmul precision "high" or "medium") on AMX tiles',
    "emulated tiles": "as on AMX tiles, by slow software for tests",
}


def show_config() -> None:
    """Print versions, the build, instruction sets, and for each op the backend that will run and why none faster."""
    print(config_text())


def library_path() -> Path:
    """Path of the compiled library, for programs without Python: loading it registers the operators.

    Raises:
        RuntimeError: this installation has none that fits.
    """
    if _backends.binary() is None:
        raise RuntimeError("clof_ext has no compiled library here; clof-ext info says why.")
    return _binary.PATH


def config_text() -> str:
    lines = [*_versions(), "", *_build(), "", *_operators("cpu"), ""]
    lines += (
        _operators("cuda") if torch.cuda.is_available() else ["cuda tensors: this machine or torch has no CUDA device"]
    )
    return "\n".join(lines)


def _versions() -> list[str]:
    triton = "not installed"
    if _backends.importlib.util.find_spec("triton") is not None:
        from importlib.metadata import version

        triton = version("triton")
    return [
        f"clof_ext      {__version__}",
        f"torch         {torch.__version__}, {torch.get_num_threads()} threads",
        f"triton        {triton}",
        f"python        {platform.python_version()} on {platform.system()} {platform.machine()}",
    ]


def _build() -> list[str]:
    module = _backends.binary()
    if module is None:
        return ["compiled extension: none that fits this package"]
    info = module.build_info()
    cuda = "none (built without nvcc)" if info["cuda"] is None else f"{info['cuda']} for {info['cuda_architectures']}"
    return [
        f"library       {_binary.PATH}",
        f"compiler      {info['compiler']}, for torch >= {info['torch_target']}",
        f"CUDA kernels  {cuda}",
        f"instructions  {module.instruction_set()} (this processor runs {', '.join(module.instruction_sets())})",
        f"products      {PRODUCTS[module.bfloat16_unit()]}",
    ]


def _operators(device: str) -> list[str]:
    lines = [f"{device} tensors"]
    for op in _backends.OPERATORS:
        chosen = _backends.choose(op, device)
        faster = _backends.PREFERENCE[device][: _backends.PREFERENCE[device].index(chosen)]
        reasons = "; ".join(f"{name}: {_backends.unavailable(name, op)}" for name in faster)
        lines.append(f"  {op:<16}{chosen:<10}{reasons or 'the fastest there is'}")
    return lines
