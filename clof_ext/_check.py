"""Checks of arguments, each with the sentence that a caller reads when it fails."""

from collections.abc import Iterable, Sequence
from numbers import Integral

import torch
from torch import Tensor

MODES = ("soft", "raw", "orthonormal")
REDUCTIONS = ("sum", "mean")
GEOMETRY_DTYPES = (torch.float32, torch.float64)
FLOAT_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
FEATURE_DTYPES = {
    torch.float32: (torch.float32, torch.bfloat16, torch.float16),
    torch.float64: (torch.float64,),
}


def names(dtypes: Sequence[torch.dtype]) -> str:
    return " or ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)


def is_tensor(value: object, name: str) -> None:
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor; got {type(value).__name__}.")
    if value.layout is not torch.strided:
        layout = str(value.layout).removeprefix("torch.")
        raise TypeError(f"{name} must be a dense torch.Tensor; got one of layout {layout}.")


def listed(value: Iterable, name: str) -> list:
    """What holds several tensors as a list."""
    try:
        return list(value)
    except TypeError:
        raise TypeError(f"{name} must be a sequence of tensors; got {type(value).__name__}.") from None


def one_of(value: object, choices: Sequence[object], name: str) -> None:
    """The choices are of one type, as which 1.0 is no 1."""
    if value not in choices or not isinstance(value, type(choices[0])):
        text = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name} must be one of {text}; got {value!r}.")


def whole(value: object, name: str, least: int, most: int | None = None) -> None:
    if not isinstance(value, Integral) or value < least or (most is not None and value > most):
        bounds = f"from {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be a whole number {bounds}; got {value!r}.")


def above_zero(value: object, name: str) -> None:
    if not isinstance(value, int | float) or not value > 0:
        raise ValueError(f"{name} must be a number above 0; got {value!r}.")


def dtype(tensor: Tensor, allowed: Sequence[torch.dtype], name: str) -> None:
    if tensor.dtype not in allowed:
        raise TypeError(f"{name} must be {names(allowed)}; got {names([tensor.dtype])}.")


def shape(tensor: Tensor, expected: Sequence[int | str], name: str) -> None:
    """Compare with sizes; a string names a size that may be anything."""
    # A small graph's layer asks this a dozen times: a loop takes half the time of a generator.
    sizes = tensor.shape
    fits = len(sizes) == len(expected)
    if fits:
        for size, wanted in zip(sizes, expected):
            if not isinstance(wanted, str) and size != wanted:
                fits = False
    if not fits:
        text = ", ".join(str(size) for size in expected)
        raise ValueError(f"{name} must have shape ({text}); got {tuple(tensor.shape)}.")


def columns(value: Tensor | None, rows: int, count: int, name: str) -> None:
    """A feature matrix with so many columns; None stands for none."""
    if value is None:
        if count:
            raise ValueError(f"{name} must have shape ({rows}, {count}); got None.")
        return
    is_tensor(value, name)
    shape(value, (rows, count), name)


def same_device(tensor: Tensor, device: torch.device, name: str, other: str) -> None:
    if tensor.device != device:
        raise ValueError(f"{name} must be on the device of {other}, {device}; got {tensor.device}.")


def one_device(tensors: Iterable[Tensor | None], op: str) -> None:
    """What fake implementations ask, which torch also runs where one tensor of many is on meta."""
    devices = {str(tensor.device) for tensor in tensors if tensor is not None}
    if len(devices) > 1:
        raise ValueError(f"the tensors of {op} must be on one device; got {' and '.join(sorted(devices))}.")


def positions(pos: Tensor, name: str = "pos") -> None:
    """Node positions or velocities: (N, 3), float32 or float64."""
    is_tensor(pos, name)
    dtype(pos, GEOMETRY_DTYPES, name)
    shape(pos, ("N", 3), name)


def velocities(vel: Tensor, pos: Tensor) -> None:
    """Velocities beside positions that were checked: all is as it is there."""
    is_tensor(vel, "vel")
    if vel.dtype != pos.dtype:
        raise TypeError(f"vel must be {names([pos.dtype])} like pos; got {names([vel.dtype])}.")
    shape(vel, pos.shape, "vel")
    same_device(vel, pos.device, "vel", "pos")


def features(tensor: Tensor, pos: Tensor, name: str) -> None:
    """Features beside positions: of the positions' dtype, or half precision beside float32."""
    is_tensor(tensor, name)
    allowed = FEATURE_DTYPES[pos.dtype]
    if tensor.dtype not in allowed:
        raise TypeError(
            f"{name} must be {names(allowed)} where pos is {names([pos.dtype])}; got {names([tensor.dtype])}."
        )
    same_device(tensor, pos.device, name, "pos")


def order(value: int) -> None:
    one_of(value, (0, 1, 2, 3), "order")
