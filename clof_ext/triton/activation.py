"""Activations of a tile in registers, each with its slope."""

import triton
import triton.language as tl
from triton.language.target_info import current_target

from ..reference.frame_message import LEAKY_SLOPE

_LEAKY_SLOPE = tl.constexpr(LEAKY_SLOPE)
_LOG2_E = tl.constexpr(1.4426950408889634)
_INVERSE_SQRT_2 = tl.constexpr(0.7071067811865476)
_INVERSE_SQRT_2_PI = tl.constexpr(0.3989422804014327)
# Below it float32's tanh is a polynomial: the difference of two sigmoids would cancel.
_SMALL = tl.constexpr(0.1)


@triton.constexpr_function
def on_nvidia():
    """Whether the kernel is compiled for a GPU of NVIDIA."""
    target = None if triton.knobs.runtime.interpret else current_target()
    return target is not None and target.backend == "cuda"


@triton.jit
def sigmoid(x):
    """1 / (1 + e^-x); in float32 on NVIDIA by two approximate instructions, each good to two roundings."""
    if on_nvidia() and x.dtype == tl.float32:
        return tl.inline_asm_elementwise(
            "{.reg .f32 t; ex2.approx.ftz.f32 t, $1; add.f32 t, t, 0f3F800000; rcp.approx.ftz.f32 $0, t;}",
            "=f,f",
            [x * -_LOG2_E],
            dtype=tl.float32,
            is_pure=True,
            pack=1,
        )
    else:
        return 1.0 / (1.0 + tl.exp2(x * -_LOG2_E))


@triton.jit
def tanh(x):
    large = 2.0 * sigmoid(2.0 * x) - 1.0
    if x.dtype == tl.float64:
        return large
    else:
        square = x * x
        # The next term of the series is below half a rounding.
        small = x * (1.0 + square * (-1.0 / 3.0 + square * (2.0 / 15.0 - square * (17.0 / 315.0))))
        return tl.where(tl.abs(x) < _SMALL, small, large)


@triton.jit
def log_of_one_plus(u):
    """log(1 + u) for 0 <= u <= 1, relatively exact for small u too."""
    sum_ = 1.0 + u
    rounded_away = sum_ == 1.0
    return tl.where(rounded_away, u, tl.log(sum_) * (u / tl.where(rounded_away, 1.0, sum_ - 1.0)))


@triton.jit
def activated(x, NAME: tl.constexpr):
    """The activation of x and its derivative; an undefined x stays undefined."""
    if NAME == "silu":
        gate = sigmoid(x)
        value = x * gate
        return value, gate + value * (1.0 - gate)
    elif NAME == "relu" or NAME == "leaky_relu":
        below = tl.full(x.shape, _LEAKY_SLOPE if NAME == "leaky_relu" else 0.0, x.dtype)
        negative = x * _LEAKY_SLOPE if NAME == "leaky_relu" else tl.zeros_like(x)
        return tl.where(x < 0, negative, x), tl.where(x > 0, 1.0, below)
    elif NAME == "softplus":
        return tl.where(x < 0, 0.0, x) + log_of_one_plus(tl.exp2(-tl.abs(x) * _LOG2_E)), sigmoid(x)
    elif NAME == "tanh":
        value = tanh(x)
        return value, 1.0 - value * value
    else:
        tl.static_assert(NAME == "gelu")
        below = 0.5 + 0.5 * tl.erf(x * _INVERSE_SQRT_2)
        density = _INVERSE_SQRT_2_PI * tl.exp2(x * x * (-0.5 * _LOG2_E))
        return x * below, below + x * density
