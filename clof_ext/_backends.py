"""Which backend runs an op: one table, a way to force one, and the reasons in words."""

import contextlib
import functools
import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import torch

from . import _binary, reference
from ._transforms import without_kernels

# For each kind of device the backends that can serve it, the fastest first.
PREFERENCE: dict[str, tuple[str, ...]] = {
    "cpu": ("cpu", "reference"),
    "cuda": ("cuda", "triton", "reference"),
}
BACKENDS = ("reference", "cpu", "cuda", "triton")
OPERATORS: tuple[str, ...] = tuple(reference.__all__)
# Ops whose plain definition writes arrays of edges x hidden features. Of mlp it is torch's own products.
SLOW_IN_REFERENCE = ("frame_message",)
DISPATCH_KEYS = {"cpu": "CPU", "cuda": "CUDA"}

_forced: list[str] = []
# (op, kind of device) -> the function that runs it. A dictionary, so that torch.compile can look it up.
_table: dict[tuple[str, str], Callable] = {}
# (backend, op) -> a function that says why the backend's kernels cannot run it on a GPU, given a size, or None.
_limits: dict[tuple[str, str], Callable] = {}
# Kinds of device whose edges the compiled extension sorts.
plan_devices: set[str] = set()


class DoesNotFitError(RuntimeError):
    """A backend that was asked for by name has no kernel for this size or dtype."""


class Size(NamedTuple):
    """What decides whether the kernels of frame_message can run.

    Attributes:
        hidden: features that the first Linear makes.
        gradients: whether they will be wanted.
        equal_widths: whether the other Linears make as many.
    """

    hidden: int
    edge_dim: int
    dtype: torch.dtype
    gradients: bool
    equal_widths: bool = True


class MlpSize(NamedTuple):
    """The same for mlp: columns of the inputs and of what each Linear makes."""

    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    dtype: torch.dtype
    gradients: bool


class NormSize(NamedTuple):
    """The same for add_layer_norm: dtypes of x, h and weight, and columns."""

    x: torch.dtype
    h: torch.dtype
    weight: torch.dtype
    width: int


@functools.cache
def binary() -> ModuleType | None:
    """The compiled module, or None (with one warning) where this installation has none that fits."""
    try:
        return _binary.load()
    except ImportError as error:
        warnings.warn(
            f"clof_ext runs without its compiled extension ({error}); CPU tensors use the plain PyTorch reference. "
            "Reinstall clof_ext with a C++ compiler to get the fast kernels.",
            RuntimeWarning,
            stacklevel=4,
        )
        return None


@functools.cache
def triton_room() -> ModuleType | None:
    """The Triton kernels, or None where Triton is not installed."""
    if importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module("clof_ext.triton")


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
    if name == "cuda" and module.build_info()["cuda"] is None:
        return "the extension was built without nvcc"
    has_kernel = hasattr(torch.ops.clof_ext, op) and torch._C._dispatch_has_kernel_for_dispatch_key(
        f"clof_ext::{op}", DISPATCH_KEYS[name]
    )
    return None if has_kernel else f"not written for {name}"


def _serves(name: str, device: str) -> bool:
    if name == "triton" and device == "cpu":
        room = triton_room()
        return room is not None and room.interpreted()
    return name == "reference" or name in PREFERENCE.get(device, ())


def choose(op: str, device: str) -> str:
    """The backend that the table gives an op on a kind of device."""
    names = PREFERENCE.get(device, ("reference",))
    return next(name for name in names if unavailable(name, op) is None)


def fill_table() -> None:
    """Choose a backend for every op on the kinds of device that there are; once, when the package is imported."""
    if binary() is not None:
        plan_devices.update(DISPATCH_KEYS)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        for op in OPERATORS:
            _table[op, device] = _function(choose(op, device), op)
    if "cuda" in {device for _, device in _table}:
        learn_limits()


def learn_limits() -> None:
    """Ask the backends for GPUs, those that there are, what they can hold."""
    room, module = triton_room(), binary()
    if room is not None:
        _limits.update({("triton", op): limit for op, limit in room.limits.items()})
    if module is not None and module.build_info()["cuda"] is not None:
        _limits["cuda", "frame_message"] = _frame_message_limit
        _limits["cuda", "mlp"] = _mlp_limit
        _limits["cuda", "add_layer_norm"] = _add_layer_norm_limit


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _frame_message_limit(size: Size) -> str | None:
    dtype = _name(size.dtype)
    reason = binary().frame_message_limit(dtype, size.hidden, size.edge_dim, size.gradients)
    got = f"got {size.hidden} hidden and {size.edge_dim} edge features of {dtype}"
    return None if reason is None else f"{reason}; {got}"


def _mlp_limit(size: MlpSize) -> str | None:
    dtype = _name(size.dtype)
    reason = binary().mlp_limit(dtype, size.inputs, size.outputs, size.gradients)
    widths = " -> ".join(map(str, (sum(size.inputs), *size.outputs)))
    return None if reason is None else f"{reason}; got {widths} columns of {dtype}"


def _add_layer_norm_limit(size: NormSize) -> str | None:
    dtypes = [_name(dtype) for dtype in size[:3]]
    reason = binary().add_layer_norm_limit(*dtypes, size.width)
    return None if reason is None else f"{reason}; got {size.width} features of {', '.join(dtypes)}"


def too_large(name: str, op: str, size: Size | MlpSize | NormSize) -> str | None:
    """Why the kernels of a backend cannot run an op of some size, or None if they can."""
    if name != "reference" and isinstance(size, Size) and not size.equal_widths:
        return "its Linears have unequal widths"
    # In pieces, since torch.compile makes no constant of a named tuple.
    return _reason(name, op, type(size), *size)


@functools.cache
def _reason(name: str, op: str, kind: type, *fields) -> str | None:
    limit = _limits.get((name, op))
    return None if limit is None else limit(kind(*fields))


@functools.cache
def _on_gpus(op: str) -> tuple[str, ...]:
    """The backends that can run an op on GPUs, the fastest first."""
    return tuple(name for name in PREFERENCE["cuda"] if unavailable(name, op) is None)


# All that torch.compiler.assume_constant_result does, which would load torch._dynamo: seconds, for every import. Of
# functions with a cache torch.compile looks at what they wrap.
_reason.__wrapped__._dynamo_marked_constant = _on_gpus.__wrapped__._dynamo_marked_constant = True


def forced() -> str | None:
    """The backend that an enclosing ``with backend(...)`` forces."""
    return _forced[-1] if _forced else None


def implementation(op: str, device: torch.device, name: str | None = None) -> Callable:
    """The function that runs an op: the caller's backend, else the forced one, else the table's.

    Where kernels cannot be differentiated, it is the definition.
    """
    name = name or forced()
    if name is None:
        if (why := without_kernels()) is not None:
            if op in SLOW_IN_REFERENCE:
                _warn_of_reference(op, why)
            return _function("reference", op)
        found = _table.get((op, device.type))
        return _function(choose(op, device.type), op) if found is None else found
    check_name(name)
    reason = unavailable(name, op)
    if reason is None and not _serves(name, device.type):
        reason = f"it does not serve {device.type} tensors"
    if reason is None and name != "reference":
        reason = without_kernels()
    if reason is not None:
        raise RuntimeError(f"backend {name!r} cannot run {op} here: {reason}.")
    return _function(name, op)


def kernels_for(op: str, device: torch.device) -> bool:
    """Whether an op has kernels of its own on a device, so that it is more than its plain definition."""
    return implementation(op, device) is not getattr(reference, op)


def fitting(op: str, run: Callable, name: str | None, size: Size | MlpSize | NormSize) -> Callable:
    """What was chosen, if its kernels can run this size; else the next backend that can, if slow with a warning."""
    names = _on_gpus(op)
    chosen = next(chosen for chosen in names if run is _function(chosen, op))
    reason = too_large(chosen, op, size)
    if reason is None:
        return run
    if name or forced():
        raise DoesNotFitError(f"backend {chosen!r} cannot run {op} here: {reason}.")
    for other in names[names.index(chosen) + 1 :]:
        if (why := too_large(other, op, size)) is None:
            if other == "reference" and op in SLOW_IN_REFERENCE and not torch.compiler.is_compiling():
                _warn_of_reference(op, reason)
            return _function(other, op)
        reason = why
    raise AssertionError("the reference runs everything")


@functools.cache
def _warn_of_reference(op: str, reason: str) -> None:
    warnings.warn(f"{op} uses the plain PyTorch reference: {reason}.", RuntimeWarning, stacklevel=4)


def check_name(name: str) -> None:
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, BACKENDS))}; got {name!r}.")


def _function(name: str, op: str) -> Callable:
    if name == "reference":
        return getattr(reference, op)
    return getattr(torch.ops.clof_ext_triton if name == "triton" else torch.ops.clof_ext, op)


@contextlib.contextmanager
def backend(name: str) -> Iterator[None]:
    """Force one backend for every op called inside the ``with`` block, in all threads.

    Args:
        name: ``"reference"``, ``"cpu"``, ``"cuda"`` or ``"triton"``.

    Raises:
        ValueError: no such backend. An op that the backend cannot run raises RuntimeError when it is called.
    """
    check_name(name)
    _forced.append(name)
    try:
        yield
    finally:
        _forced.pop()
