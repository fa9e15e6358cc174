"""A fused multilayer perceptron of rows."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .. import _check
from .._backends import MlpSize, fitting, implementation
from .._cast import autocast_dtype, cast_all, cast_each, dtype_after, gradients_of
from .._precision import matmul_precision
from .._recompute import Rows, double_backward_by_rows, made_by_kernels
from .._register import (
    backward_of,
    declare,
    in_backward,
    is_recorded,
    no_third_derivative,
    record,
    register_rule,
    sibling_of,
    unrecorded,
)
from .._transforms import is_traced, refuse_tangents
from ..reference import mlp as plain_mlp
from ..reference.frame_message import ACTIVATIONS

MAX_INPUTS = 4
MAX_DEPTH = 4
# Constants of both operators before what the backward operator alone has: activation, activate_last.
N_OPTIONS = 2
# Of _Recorded before its tensors.
N_ARGUMENTS = 4


def mlp(
    inputs: Sequence[Tensor],
    weights: Sequence[Tensor],
    *,
    activation: str = "silu",
    activate_last: bool = False,
    backend: str | None = None,
) -> Tensor:
    """A multilayer perceptron of rows whose columns lie in several tensors: of nodes, or of edges.

    With x = [inputs[0], inputs[1], ...] side by side, never written as one tensor::

        x = activation(x W_k^T + b_k)   for k = 1 ... depth, the last without the activation unless activate_last

    A tile of rows goes through all Linears at a time; the backward pass computes it again. Nothing of size rows x
    hidden is kept.

    Args:
        inputs: 1 to 4 tensors (R, D_k) of one dtype: float32, float64, bfloat16 or float16 (sums of halves are
            float32). Under autocast inputs and weights are cast to its dtype.
        weights: weight (out, in), then bias (out,) of 1 to 4 Linears, in the order of application; the first has as
            many inputs as all D_k together.
        activation: ``"silu"``, ``"relu"``, ``"leaky_relu"`` (slope 0.2), ``"softplus"``, ``"tanh"`` or ``"gelu"``.
        activate_last: the activation also after the last Linear.
        backend: force one backend.

    Returns:
        (R, out of the last Linear), in the dtype of the inputs. Differentiable in inputs and weights, any number of
        times; second derivatives on GPUs, by gradients of weights, and higher ones run through the reference.

    On CPUs the precision of products is that of ``frame_message``. On CUDA devices float32 numbers are multiplied as
    three products of TF32 parts, with errors near 1e-6, and under ``torch.set_float32_matmul_precision("high")`` or
    ``"medium"`` as TF32. Torch's own products run float64, more than 128 results of a Linear (64 where gradients are
    recorded), and weights beyond a multiprocessor's shared memory.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape, device or option, or too many inputs or Linears.

    Source: the networks phi of Du et al., ICML 2022, section 4.3.
    """
    inputs, weights = _check.listed(inputs, "inputs"), _check.listed(weights, "weights")
    first = inputs[0] if inputs else None
    if not isinstance(first, Tensor):
        _check_inputs(inputs)
    device = first.device
    dtype, n_inputs = autocast_dtype(device.type), len(inputs)
    recorded = is_recorded(*inputs, *weights)
    columns = tuple(tensor.shape[1] for tensor in inputs if _is_matrix(tensor))
    run = mlp_operator(columns, weights, dtype_after(first, dtype), device, recorded, backend)
    constants = (activation, activate_last, matmul_precision(device.type))
    if run is plain_mlp or is_traced():
        inputs, weights = cast_each(inputs, dtype), cast_each(weights, dtype)
        _check_all(inputs, weights, activation)
        return run(inputs, weights, *constants)
    try:
        if not recorded:
            tensors = cast_all([*inputs, *weights], dtype)
            return unrecorded(run, tensors[:n_inputs], tensors[n_inputs:], *constants)
        return record(_Recorded, run, dtype, constants, n_inputs, *inputs, *weights)
    except Exception:
        # The operator checks for itself; what is wrong is said in more detail, and with the right type, here.
        _check_all(cast_each(inputs, dtype), cast_each(weights, dtype), activation)
        raise


def mlp_into(
    out: Tensor, inputs: Sequence[Tensor], weights: Sequence[Tensor], *, activation: str, activate_last: bool
) -> None:
    """``mlp`` whose result is written to ``out``, rows of a larger tensor, and which nothing records.

    Raises:
        TypeError, ValueError, RuntimeError: as ``mlp``, and where ``out`` is not like the result.
    """
    device, dtype = out.device, autocast_dtype(out.device.type)
    constants = (activation, activate_last, matmul_precision(device.type))
    columns = tuple(tensor.shape[1] for tensor in inputs)
    run = mlp_operator(columns, weights, dtype_after(inputs[0], dtype), device, recorded=False)
    tensors = cast_all([*inputs, *weights], dtype)
    inputs, weights = tensors[: len(inputs)], tensors[len(inputs) :]
    _check_all(inputs, weights, activation)
    if run is plain_mlp:
        out.copy_(run(inputs, weights, *constants))
    else:
        unrecorded(sibling_of(run, "into"), out, inputs, weights, *constants)


def mlp_operator(
    columns: tuple[int, ...],
    weights: Sequence[Tensor],
    dtype: torch.dtype,
    device: torch.device,
    recorded: bool,
    backend: str | None = None,
) -> Callable:
    """The operator for inputs of so many columns, or the plain definition where no kernels hold them."""
    run = implementation("mlp", device, backend)
    if device.type != "cuda" or run is plain_mlp:
        return run
    # Of what is no matrix, nothing: the checks say what is wrong with it.
    outputs = tuple(tensor.shape[0] for tensor in weights[::2] if _is_matrix(tensor))
    return fitting("mlp", run, backend, MlpSize(columns, outputs, dtype, recorded))


def _is_matrix(value: object) -> bool:
    return isinstance(value, Tensor) and value.dim() == 2


def _check_all(inputs: list[Tensor], weights: list[Tensor], activation: str) -> None:
    _check.one_of(activation, tuple(ACTIVATIONS), "activation")
    _check_inputs(inputs)
    _check_weights(weights, inputs)


def _check_inputs(inputs: list[Tensor]) -> None:
    if not 1 <= len(inputs) <= MAX_INPUTS:
        raise ValueError(f"inputs must be 1 to {MAX_INPUTS} tensors; got {len(inputs)}.")
    for k, tensor in enumerate(inputs):
        _check.is_tensor(tensor, f"inputs[{k}]")
        _check.dtype(tensor, _check.FLOAT_DTYPES, f"inputs[{k}]")
        _check.shape(tensor, ("R" if k == 0 else inputs[0].shape[0], "D"), f"inputs[{k}]")
        _check_like(tensor, inputs[0], f"inputs[{k}]")


def _check_weights(weights: list[Tensor], inputs: list[Tensor]) -> None:
    if len(weights) % 2 or not 1 <= len(weights) // 2 <= MAX_DEPTH:
        raise ValueError(f"weights must be weight and bias of 1 to {MAX_DEPTH} Linears; got {len(weights)} tensors.")
    columns = sum(tensor.shape[1] for tensor in inputs)
    for k in range(0, len(weights), 2):
        _check_like(weights[k], inputs[0], f"weights[{k}]")
        _check.shape(weights[k], ("out", columns), f"weights[{k}]")
        columns = weights[k].shape[0]
        _check_like(weights[k + 1], inputs[0], f"weights[{k + 1}]")
        _check.shape(weights[k + 1], (columns,), f"weights[{k + 1}]")


def _check_like(tensor: Tensor, like: Tensor, name: str) -> None:
    _check.is_tensor(tensor, name)
    if tensor.dtype != like.dtype:
        raise TypeError(
            f"{name} must be {_check.names([like.dtype])} like inputs[0]; got {_check.names([tensor.dtype])}."
        )
    _check.same_device(tensor, like.device, name, "inputs[0]")


class _Recorded(torch.autograd.Function):
    """The operator as autograd records it outside of torch.compile, where lists of tensors cost torch less time.

    Under autocast, whose dtype is given, the tensors are cast here.
    """

    @staticmethod
    def forward(
        ctx, run: Callable, dtype: torch.dtype | None, constants: tuple, n_inputs: int, *given: Tensor
    ) -> Tensor:
        ctx.backward_operator = backward_of(run)
        ctx.dtype, ctx.constants, ctx.n_inputs = dtype, constants, n_inputs
        tensors = list(given) if dtype is None else cast_all(given, dtype)
        ctx.save_for_backward(*given, *([] if dtype is None else tensors))
        return unrecorded(run, tensors[:n_inputs], tensors[n_inputs:], *constants)

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple:
        refuse_tangents(grad)
        n, wanted = ctx.n_inputs, ctx.needs_input_grad[N_ARGUMENTS:]
        saved = list(ctx.saved_tensors)
        given, tensors = saved[: len(wanted)], saved[-len(wanted) :]
        if ctx.dtype is not None and torch.is_grad_enabled():
            # To be differentiated in turn: the casts have to be recorded.
            tensors = cast_each(given, ctx.dtype)
        some = any(wanted[:n])
        options = *ctx.constants[:N_OPTIONS], some, *ctx.constants[N_OPTIONS:]
        grads, grad_weights = in_backward(ctx.backward_operator, grad, tensors[:n], tensors[n:], *options)
        grads = [*(grads if some else [None] * n), *grad_weights]
        return *[None] * N_ARGUMENTS, *gradients_of(given, grads, wanted, ctx.dtype)


def _fake(inputs, weights, activation, activate_last, precision="highest"):
    _check.one_device((*inputs, *weights), "mlp")
    return inputs[0].new_empty(inputs[0].shape[0], weights[-1].shape[0])


def _fake_into(out, inputs, weights, activation, activate_last, precision="highest"):
    _check.one_device((out, *inputs, *weights), "mlp_into")


def _fake_backward(grad, inputs, weights, activation, activate_last, input_gradients, precision="highest"):
    _check.one_device((grad, *inputs, *weights), "mlp_backward")
    grads = [tensor.new_empty(tensor.shape) for tensor in inputs] if input_gradients else []
    return grads, [weight.new_empty(weight.shape) for weight in weights]


def _save(ctx, inputs, output) -> None:
    """The arguments of either operator: perhaps a cotangent, two lists of tensors, constants."""
    cotangents = [value for value in inputs[:1] if isinstance(value, Tensor)]
    # The derivative of the backward operator asks which gradients have cotangents.
    ctx.set_materialize_grads(not cotangents)
    some, weights, *ctx.constants = inputs[len(cotangents) :]
    ctx.save_for_backward(*cotangents, *some, *weights)
    ctx.n_inputs = len(some)


def _fake_double_backward(along, grad, inputs, weights, activation, activate_last, precision="highest"):
    _check.one_device((*along, grad), "mlp_double_backward")
    return grad.new_empty(grad.shape), *_fake_backward(grad, inputs, weights, activation, activate_last, True)


def _by_kernels(ctx, operator: Callable, along_inputs: list[Tensor | None]) -> tuple:
    """Derivative of the backward operator, where the gradients of weights have no cotangents."""
    grad, *tensors = ctx.saved_tensors
    inputs, weights = tensors[: ctx.n_inputs], tensors[ctx.n_inputs :]
    directions = [
        torch.zeros_like(value) if along is None else along for along, value in zip(along_inputs, inputs, strict=True)
    ]
    constants = *ctx.constants[:N_OPTIONS], *ctx.constants[N_OPTIONS + 1 :]
    grad_grad, grad_inputs, grad_weights = unrecorded(operator, directions, grad, inputs, weights, *constants)
    return _with_constants(ctx, grad_grad, list(grad_inputs), list(grad_weights))


def _by_reference(ctx, grads: list[Tensor], grad_weights: list[Tensor]) -> tuple:
    """Derivative of the backward operator, through the definition."""
    grad, *tensors = ctx.saved_tensors
    n = ctx.n_inputs
    options, input_gradients = ctx.constants[:N_OPTIONS], ctx.constants[N_OPTIONS]
    directions = [*(grads if input_gradients else [None] * n), *grad_weights]
    of_rows = [True] * n + [False] * (len(tensors) - n)
    rows = Rows(grad.shape[0], max(weight.shape[0] for weight in tensors[n::2]), [True], of_rows)
    results = double_backward_by_rows(lambda x, _: plain_mlp(x[:n], x[n:], *options), [grad], tensors, directions, rows)
    return _with_constants(ctx, results[0], results[1 : n + 1], results[n + 1 :])


def _with_constants(ctx, *grads) -> tuple:
    """What a registered rule returns: None for every constant that torch passed on, without those at their default."""
    return *grads, *[None] * (len(ctx.needs_input_grad) - len(grads))


def _rule(library: str) -> None:
    namespace = getattr(torch.ops, library)
    if not hasattr(namespace, "mlp"):
        return

    def forward_backward(ctx, grad):
        tensors, n = ctx.saved_tensors, ctx.n_inputs
        options = *ctx.constants[:N_OPTIONS], True, *ctx.constants[N_OPTIONS:]
        grads, grad_weights = namespace.mlp_backward(grad, list(tensors[:n]), list(tensors[n:]), *options)
        return _with_constants(ctx, list(grads), list(grad_weights))

    def backward_backward(ctx, grads, grad_weights):
        input_gradients = ctx.constants[N_OPTIONS]
        if input_gradients and made_by_kernels(ctx, grad_weights):
            return _by_kernels(ctx, namespace.mlp_double_backward, grads)
        return _by_reference(ctx, grads, grad_weights)

    declare(library, "mlp", _fake, forward_backward, _save)
    declare(library, "mlp_backward", _fake_backward, backward_backward, _save)
    declare(library, "mlp_double_backward", _fake_double_backward, no_third_derivative("mlp"))
    torch.library.register_fake(f"{library}::mlp_into", _fake_into)


register_rule(_rule)
