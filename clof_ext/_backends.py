"""Which backend runs an op: one table, a way to force one, and the reasons in words."""

import contextlib
import functools
import importlib
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType

import torch

# For each kind of device the backends that can serve it, the fastest first.
PREFERENCE: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu", "reference"),
    "cuda": ("cuda", "triton", "reference"),
}
BACKENDS = ("reference", "cpu", "cuda", "triton")

_forced: list[str] = []


@functools.cache
def binary() -> ModuleType | None:
    """The compiled module, or None (with one warning) where this installation has none."""
    try:
        return importlib.import_module("clof_ext._C")
    except ImportError as error:
        warnings.warn(
            f"clof_ext runs without its compiled extension ({error}); CPU tensors use the plain PyTorch reference. "
            "Reinstall with a C++ compiler to get the fast kernels.",
            RuntimeWarning,
            stacklevel=2,
        )
        return None


@functools.cache
def triton_room() -> ModuleType | None:
    """The Triton kernels, or None where Triton is not installed."""
    if importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module("clof_ext.triton")


@functools.cache
def unavailable(name: str, op: str) -> str | None:
    """Why a backend cannot run an op in this installation, or None if it can."""
    if name == "reference":
        return None
    if name == "triton":
        if triton_room() is None:
            return "triton is not installed"
        return None if hasattr(torch.ops.clof_ext_triton, op) else "not written in Triton"
    module = binary()
    if module is None:
        return "the compiled extension is missing"
    if name == "cuda" and not module.build_info()["cuda"]:
        return "the extension was built without nvcc"
    return None if hasattr(torch.ops.clof_ext, op) else f"not written for {name}"


def _serves(name: str, device: str) -> bool:
    if name == "triton" and device == "cpu":
        room = triton_room()
        return room is not None and room.interpreted()
    return name == "reference" or name in PREFERENCE.get(device, ())


@functools.cache
def choose(op: str, device: str) -> str:
    """The backend that the table gives an op on a kind of device."""
    names = PREFERENCE.get(device, ("reference",))
    return next(name for name in names if unavailable(name, op) is None)


def implementation(op: str, device: torch.device, name: str | None = None) -> Callable:
    """The function that runs an op: the caller's backend, else the forced one, else the table's."""
    name = name or (_forced[-1] if _forced else None)
    if name is None:
        return _function(choose(op, device.type), op)
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}; got {name!r}.")
    reason = unavailable(name, op)
    if reason is None and not _serves(name, device.type):
        reason = f"it does not serve {device.type} tensors"
    if reason is not None:
        raise RuntimeError(f"backend {name!r} cannot run {op} here: {reason}.")
    return _function(name, op)


@functools.cache
def _function(name: str, op: str) -> Callable:
    if name == "reference":
        return getattr(importlib.import_module("clof_ext.reference"), op)
    return getattr(torch.ops.clof_ext_triton if name == "triton" else torch.ops.clof_ext, op)


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Force one backend for every op called inside the ``with`` block, in all threads.

    Args:
        name: ``"reference"``, ``"cpu"``, ``"cuda"`` or ``"triton"``.

    Raises:
        ValueError: no such backend. An op that the backend cannot run raises RuntimeError when it is called.
    """
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}; got {name!r}.")
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()
