"""LayerNorm of a sum, the end of a layer."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from .. import _check
from .._backends import NormSize, fitting, implementation
from .._precision import float32_under_autocast, is_autocast
from .._recompute import double_backward
from .._register import backward_of, declare, in_backward, is_recorded, record, register_rule, unrecorded
from .._transforms import is_traced, refuse_tangents
from ..reference import add_layer_norm as plain_add_layer_norm


def add_layer_norm(
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    *,
    times: float = 1.0,
    eps: float = 1e-5,
    backend: str | None = None,
) -> Tensor:
    """LayerNorm of rows that are sums, in one pass over them.

    With mean and variance over the H features of each row::

        s = x + times h
        out = weight (s - mean(s)) / sqrt(var(s) + eps) + bias

    The sum is not kept: the backward pass makes it again.

    Args:
        x: (R, H), float32, float64, bfloat16 or float16.
        h: (R, H); its dtype may differ from x's.
        weight: (H,).
        bias: (H,), in the dtype of weight.
        times: factor of h.
        eps: added to the variance.
        backend: force one backend.

    Returns:
        (R, H), in the dtype that torch's own ops give: that of x + h; on GPUs float32 under autocast. Differentiable in
        x, h, weight and bias, any number of times; second derivatives run through torch's own ops.

    CUDA devices have kernels for up to 768 features (384 in float64), for x, h and weight of one dtype, and for halves
    beside a weight of float32, as under autocast. Whatever else there is, torch's own ops run, on CPUs always.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape or device.

    Source: Ba, Kiros and Hinton, Layer Normalization, 2016.
    """
    _check.is_tensor(x, "x")
    run = implementation("add_layer_norm", x.device, backend)
    if run is plain_add_layer_norm:
        _check_all(x, h, weight, bias)
        return run(x, h, weight, bias, times, eps)
    if is_traced():
        _check_all(x, h, weight, bias)
        return _fused(run, backend, x, h, weight, bias, times, eps)
    try:
        return _fused(run, backend, x, h, weight, bias, times, eps)
    except Exception:
        # The operator checks for itself; what is wrong is said in more detail, and with the right type, here.
        _check_all(x, h, weight, bias)
        raise


def _check_all(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> None:
    _check.shape(x, ("R", "H"), "x")
    _check.dtype(x, _check.FLOAT_DTYPES, "x")
    for tensor, shape, name in ((h, x.shape, "h"), (weight, x.shape[1:], "weight"), (bias, x.shape[1:], "bias")):
        _check.is_tensor(tensor, name)
        _check.shape(tensor, shape, name)
        _check.same_device(tensor, x.device, name, "x")
        _check.dtype(tensor, _check.FLOAT_DTYPES, name)
    _check.dtype(bias, (weight.dtype,), "bias")


def _fused(
    run: Callable,
    backend: str | None,
    x: Tensor,
    h: Tensor,
    weight: Tensor,
    bias: Tensor,
    times: float,
    eps: float,
) -> Tensor:
    """By kernels, if they hold these tensors."""
    weight, bias = float32_under_autocast(weight, bias)
    if _unlike(weight, x, h):
        run = plain_add_layer_norm
    elif x.is_cuda:
        run = fitting("add_layer_norm", run, backend, NormSize(x.dtype, h.dtype, weight.dtype, x.shape[-1]))
    tensors = x, h, weight, bias
    recorded = is_recorded(*tensors)
    if run is plain_add_layer_norm or is_traced():
        return run(*tensors, times, eps)
    if not recorded:
        return unrecorded(run, *tensors, times, eps)
    return record(_Recorded, run, *tensors, times, eps)


def _unlike(weight: Tensor, x: Tensor, h: Tensor) -> bool:
    """Whether weight is of another dtype than x + h outside of autocast: an error of torch's, or its own rule."""
    return weight.dtype != torch.promote_types(x.dtype, h.dtype) and not is_autocast(x.device.type)


def _definition(inputs: list[Tensor], times: float, eps: float) -> Tensor:
    """What the operators compute: the result has the dtype of weight, whether or not autocast is on."""
    x, h, weight, bias = inputs
    total = torch.add(x, h, alpha=times).to(weight.dtype)
    return F.layer_norm(total, weight.shape, weight, bias, eps)


def _gradients(backward: Callable, ctx, grad: Tensor, h_wanted: bool) -> tuple:
    """Of x, h, weight and bias, by the operator of the backward pass."""
    x, h, weight = ctx.saved_tensors
    # Added once, h has the gradient of x.
    same = ctx.times == 1 and x.dtype == h.dtype
    h_wanted = h_wanted and not same
    grad_x, grad_h, *others = in_backward(backward, grad, x, h, weight, ctx.times, ctx.eps, h_wanted)
    return grad_x, grad_x if same else grad_h if h_wanted else None, *others


class _Recorded(torch.autograd.Function):
    """The operator as autograd records it outside of torch.compile, where it costs torch less time."""

    @staticmethod
    def forward(ctx, run: Callable, x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, times: float, eps: float):
        ctx.backward_operator = backward_of(run)
        ctx.times, ctx.eps = times, eps
        ctx.save_for_backward(x, h, weight)
        return unrecorded(run, x, h, weight, bias, times, eps)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        refuse_tangents(grad)
        return None, *_gradients(ctx.backward_operator, ctx, grad, ctx.needs_input_grad[2]), None, None


def _fake(x, h, weight, bias, times, eps):
    _check.one_device((x, h, weight, bias), "add_layer_norm")
    return x.new_empty(x.shape, dtype=weight.dtype)


def _fake_backward(grad, x, h, weight, times, eps, h_gradient):
    _check.one_device((grad, x, h, weight), "add_layer_norm_backward")
    rows = x.shape[0] if h_gradient else 0
    grad_h = h.new_empty(rows, h.shape[1])
    return x.new_empty(x.shape), grad_h, weight.new_empty(weight.shape), weight.new_empty(weight.shape)


def _save(ctx, inputs, output) -> None:
    x, h, weight, _, ctx.times, ctx.eps = inputs
    ctx.save_for_backward(x, h, weight)


def _save_backward(ctx, inputs, output) -> None:
    *tensors, ctx.times, ctx.eps, ctx.h_gradient = inputs
    ctx.save_for_backward(*tensors)


def _backward_backward(ctx, along_x: Tensor, along_h: Tensor, along_weight: Tensor, along_bias: Tensor) -> tuple:
    """Derivative of the backward operator, through the definition."""
    grad, x, h, weight = ctx.saved_tensors
    inputs = [x, h, weight, torch.zeros_like(weight)]  # nothing depends on the value of bias
    directions = [along_x, along_h if ctx.h_gradient else None, along_weight, along_bias]
    results = double_backward(lambda x: _definition(x, ctx.times, ctx.eps), [grad], inputs, directions)
    return *results[:4], None, None, None


def _rule(library: str) -> None:
    namespace = getattr(torch.ops, library)
    if not hasattr(namespace, "add_layer_norm"):
        return

    def backward(ctx, grad):
        return *_gradients(namespace.add_layer_norm_backward, ctx, grad, ctx.needs_input_grad[1]), None, None

    declare(library, "add_layer_norm", _fake, backward, _save)
    declare(library, "add_layer_norm_backward", _fake_backward, _backward_backward, _save_backward)


register_rule(_rule)
