"""The CUDA kernels of add_layer_norm on the emulated GPU of tests/cpp, called with tensors."""

import contextlib
import ctypes
import functools
from collections.abc import Iterator
from ctypes import c_char_p, c_double, c_int, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from tests.cuda.emulated import STORAGE, compiled

SOURCE = Path(__file__).parents[1] / "cpp/emulated_add_layer_norm.cpp"


class Problem(ctypes.Structure):
    """AddLayerNormProblem of csrc/functor/arguments.h."""

    _fields_ = [
        *((name, c_int) for name in ("x_storage", "h_storage", "storage")),
        *((name, c_int64) for name in ("rows", "width")),
        *((name, c_double) for name in ("times", "eps")),
        *((name, c_void_p) for name in ("x", "h", "weight", "bias", "out")),
        *((name, c_void_p) for name in ("grad", "grad_x", "grad_h", "grad_weight", "grad_bias")),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    found = compiled(SOURCE)
    found.emulated_norm_limit.restype = c_char_p
    return found


def limit(x: torch.dtype, h: torch.dtype, weight: torch.dtype, width: int) -> str | None:
    """Why the kernels cannot run tensors of these dtypes and so many columns."""
    reason = library().emulated_norm_limit(STORAGE[x], STORAGE[h], STORAGE[weight], c_int64(width))
    return reason and reason.decode()


def _run(
    tensors: dict[str, Tensor], times: float, eps: float, *, backward: bool, blocks: int, descending: bool
) -> None:
    x, h, weight = (tensors[name] for name in ("x", "h", "weight"))
    if reason := limit(x.dtype, h.dtype, weight.dtype, x.shape[1]):
        raise RuntimeError(f"The CUDA backend cannot run this add_layer_norm: {reason}.")
    storage = (STORAGE[tensor.dtype] for tensor in (x, h, weight))
    pointers = {name: tensor.data_ptr() for name, tensor in tensors.items() if tensor.numel()}
    p = Problem(*storage, *x.shape, times, eps, **pointers)
    assert all(tensor.is_contiguous() for tensor in tensors.values())
    library().emulated_add_layer_norm(ctypes.byref(p), c_int64(blocks), c_int(backward), c_int(descending))


def forward(
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    times: float,
    eps: float,
    *,
    blocks: int = 3,
    descending: bool = False,
) -> Tensor:
    """The operator add_layer_norm, by at most so many blocks of threads."""
    out = torch.full(x.shape, 7.0).to(weight.dtype)
    tensors = {"x": x, "h": h, "weight": weight, "bias": bias, "out": out}
    _run(tensors, times, eps, backward=False, blocks=blocks, descending=descending)
    return out


def backward(
    grad: Tensor,
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    times: float,
    eps: float,
    h_gradient: bool,
    *,
    blocks: int = 3,
    descending: bool = False,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The operator add_layer_norm_backward."""
    grads = {f"grad_{name}": torch.full_like(like, 7.0) for name, like in (("x", x), ("weight", weight))}
    grads["grad_h"] = torch.full_like(h, 7.0) if h_gradient else h.new_empty(0, h.shape[1])
    grads["grad_bias"] = torch.full_like(weight, 7.0)
    tensors = {"grad": grad.contiguous(), "x": x, "h": h, "weight": weight, **grads}
    _run(tensors, times, eps, backward=True, blocks=blocks, descending=descending)
    return tuple(grads[f"grad_{name}"] for name in ("x", "h", "weight", "bias"))


@contextlib.contextmanager
def as_kernels_of_the_cpu() -> Iterator[None]:
    """Inside the ``with`` block the operators run on the emulated GPU where tensors lie on the CPU."""
    rules = torch.library.Library("clof_ext", "IMPL")
    rules.impl("add_layer_norm", forward, "CPU")
    rules.impl("add_layer_norm_backward", backward, "CPU")
    try:
        yield
    finally:
        rules._destroy()


def random_call(rows: int, width: int, dtypes: tuple, seed: int = 0) -> list[Tensor]:
    """x, h, weight and bias; ``dtypes`` are those of x, h and the parameters."""
    generator = torch.Generator().manual_seed(seed)
    shapes = (rows, width), (rows, width), (width,), (width,)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    # Rows far from 0, whose variance must not be a difference of large numbers.
    values[0] += 30 * torch.randn(rows, 1, generator=generator, dtype=torch.float64)
    return [value.to(dtype) for value, dtype in zip(values, (*dtypes, dtypes[-1]), strict=True)]
