"""What autocast asks of an op that takes many small tensors: to cast all of a call in one step."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from . import _backends
from ._precision import is_autocast
from ._register import COMPILED, register_rule, unrecorded


def autocast_dtype(device: str) -> torch.dtype | None:
    """The dtype of autocast on a kind of device, or None where it is off."""
    return torch.get_autocast_dtype(device) if is_autocast(device) else None


def dtype_after(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    """The dtype that a tensor has once it is cast to that of autocast."""
    return dtype if _is_cast(tensor, dtype) else tensor.dtype


def cast_each(values: Sequence, dtype: torch.dtype | None) -> list:
    """Values, the tensors among them in the dtype of autocast, one by one: whatever records or traces ops sees it."""
    return [value.to(dtype) if _is_cast(value, dtype) else value for value in values]


def cast_all(values: Sequence, dtype: torch.dtype | None) -> list:
    """The same in one step, which nothing records."""
    if dtype is None:
        return list(values)
    return _with(values, [place for place, value in enumerate(values) if _is_cast(value, dtype)], dtype)


def cast_features(cast: Callable, tensors: Sequence, dtype: torch.dtype | None, geometry: int) -> Sequence:
    """Tensors cast by one of the two functions above, but for so many after the first: geometry is never rounded."""
    if dtype is None:
        return tensors
    first, *others = cast((tensors[0], *tensors[1 + geometry :]), dtype)
    return first, *tensors[1 : 1 + geometry], *others


def gradients_of(
    given: Sequence[Tensor | None],
    grads: Sequence[Tensor | None],
    wanted: Sequence[bool],
    dtype: torch.dtype | None,
) -> Sequence[Tensor | None]:
    """Gradients of tensors cast to ``dtype`` as those of the tensors that were given, if somebody wants them.

    Where they are recorded they are left as they are: autograd gives them the dtypes itself, and records that.
    """
    if dtype is None or torch.is_grad_enabled():
        return grads
    places: dict[torch.dtype, list[int]] = {}
    for place, (grad, tensor, want) in enumerate(zip(grads, given, wanted, strict=True)):
        if grad is not None and want and grad.dtype != tensor.dtype:
            places.setdefault(tensor.dtype, []).append(place)
    for own, some in places.items():
        grads = _with(grads, some, own)
    return grads


def _is_cast(value: object, dtype: torch.dtype | None) -> bool:
    """Whether autocast changes a value. Like torch's own rules: float64 is left alone."""
    if dtype is None or not isinstance(value, Tensor) or not value.is_floating_point():
        return False
    return value.dtype != dtype and value.dtype != torch.float64


def _with(values: Sequence, places: list[int], dtype: torch.dtype) -> list:
    """Values, those at some places in another dtype."""
    values = list(values)
    if places:
        tensors = [values[place] for place in places]
        for place, tensor in zip(places, _in_one_step(tensors, dtype), strict=True):
            values[place] = tensor
    return values


def _in_one_step(tensors: list[Tensor], dtype: torch.dtype) -> list[Tensor]:
    if _backends.binary() is None:
        return [tensor.to(dtype) for tensor in tensors]
    return unrecorded(torch.ops.clof_ext.cast_all.default, tensors, dtype)


def _fake(tensors, dtype):
    return [tensor.new_empty(tensor.shape, dtype=dtype) for tensor in tensors]


def _rule(library: str) -> None:
    if library == COMPILED:
        torch.library.register_fake(f"{library}::cast_all", _fake)


register_rule(_rule)
