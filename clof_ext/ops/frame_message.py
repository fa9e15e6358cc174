"""The fused edge block of one message-passing layer."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from .. import _check
from .._backends import Size, fitting, implementation
from .._cast import autocast_dtype, cast_all, cast_each, cast_features, dtype_after, gradients_of
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
    unrecorded,
    where_given,
)
from .._transforms import is_traced, refuse_tangents
from ..graph import EdgePlan, as_plan
from ..reference import frame_message as plain_frame_message
from ..reference.frame_message import ACTIVATIONS, BASIS_SIZE

MAX_EDGE_DEPTH = 3
MAX_COORD_DEPTH = 2
# Tensors of an operator before its weights: h, pos, edge_attr, edge_weight; the backward operator has two more.
N_TENSORS = 4
N_COTANGENTS = 2
# Of _Recorded before its tensors.
N_ARGUMENTS = 4


def frame_message(
    h: Tensor,
    pos: Tensor,
    edge_index: Tensor | EdgePlan,
    edge_attr: Tensor | None = None,
    *,
    edge_mlp: Sequence[Tensor],
    coord_mlp: Sequence[Tensor],
    att_mlp: Sequence[Tensor] = (),
    edge_weight: Tensor | None = None,
    basis: str = "complete",
    mode: str = "soft",
    activation: str = "silu",
    tanh: bool = False,
    clamp: float = math.inf,
    message_reduce: str = "sum",
    vector_reduce: str = "mean",
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Messages and vectors of all edges, reduced into their receivers: everything of a layer that lives on edges.

    For every edge with receiver i, sender j, d = x_i - x_j and r = |d|^2 (never normalised)::

        m = edge_mlp([h_i, h_j, r, edge_attr])        every Linear followed by the activation
        m = m * sigmoid(att_mlp(m))                   where att_mlp is given
        q = coord_mlp(m)                              the activation between its Linears; then tanh as an option
        t = clamp(q_0 a + q_1 b + q_2 c)              per component; with the basis "radial" t = clamp(q_0 a)
        M_i = reduce of w m,  V_i = reduce of w t     over the edges of i; w = edge_weight, else 1

    (a, b, c) is the frame of the edge in the given mode (see ``edge_frame``). The mean divides by max(n_i, 1) with n_i
    the number of edges of i, whatever their weights. Nothing of size edges x hidden is kept by the fused backends.

    Weights are plain tensors, weight (out, in) then bias (out,) of each Linear in the order of application. The Linears
    may have unequal widths on CPUs alone: W features of the first of edge_mlp, H of a message, C of the first of
    coord_mlp.

    Args:
        h: (N, F) node features, of the dtype of pos, or bfloat16 or float16 beside float32 positions. Under autocast
            features and weights are cast to its dtype; positions never are.
        pos: (N, 3) node positions in any unit of length, float32 or float64.
        edge_index: (2, E) receivers and senders, or an EdgePlan.
        edge_attr: (E, D) edge features in the dtype of h, or None (D = 0).
        edge_mlp: 1 to 3 Linears, (W, 2 F + 1 + D), then (H, W), then (H, H), all with bias; of a single one W = H.
        coord_mlp: 1 or 2 Linears, the last to 3 outputs (basis "complete") or 1 ("radial"), before it (C, H); the last
            bias may be left out.
        att_mlp: one Linear (1, H) with bias, or nothing.
        edge_weight: (E,) weight of each edge in the sums, or a mask of zeros and ones.
        basis: ``"complete"`` or ``"radial"``.
        mode: frame mode, see ``edge_frame``.
        activation: ``"silu"``, ``"relu"``, ``"leaky_relu"`` (slope 0.2), ``"softplus"``, ``"tanh"`` or ``"gelu"``.
        tanh: bound the coefficients q by tanh.
        clamp: bound of each component of t, above 0; the published layers use 100.
        message_reduce: ``"sum"`` (what the published layers do) or ``"mean"``.
        vector_reduce: ``"sum"`` or ``"mean"`` (what the published layers do).
        backend: force one backend.

    Returns:
        M (N, H) in the dtype of h and V (N, 3) in the dtype of pos; 0 for nodes without edges. Differentiable in
        h, pos, edge_attr, edge_weight and all weights.

    Precision on CPUs: float32 numbers are multiplied as such. Under ``torch.set_float32_matmul_precision("high")``
    processors with AMX split each into two of bfloat16 and make three products, with errors near 1e-5 of the largest
    value; under ``"medium"`` numbers are rounded to bfloat16 where that is faster. Geometry, activations and sums stay
    in float32, and the backward pass takes the precision of the forward pass.

    Singular cases: those of ``edge_frame``; an edge with undefined axes keeps its message and counts in n_i.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape, device, index or option.

    Source: Du et al., ICML 2022, section 4.3 and algorithm 1; with the basis "radial", Satorras et al., ICML 2021,
    equations 3 to 5.
    """
    _check.positions(pos)
    plan = as_plan(edge_index, pos.shape[0], pos.device)
    edge_mlp, coord_mlp = _check.listed(edge_mlp, "edge_mlp"), _check.listed(coord_mlp, "coord_mlp")
    att_mlp = _check.listed(att_mlp, "att_mlp")
    dtype = autocast_dtype(pos.device.type)
    tensors = (h, pos, edge_attr, edge_weight, *edge_mlp, *att_mlp, *coord_mlp)
    recorded = is_recorded(*tensors)
    forward, run = message_operators(h, edge_attr, edge_mlp, coord_mlp, pos.device, dtype, recorded, backend)
    options = basis, mode, activation, tanh, clamp, message_reduce, vector_reduce
    constants = message_constants(plan, edge_mlp, att_mlp, coord_mlp, options)

    def check(tensors: Sequence[Tensor | None]) -> None:
        _check_options(basis, mode, activation, tanh, clamp, message_reduce, vector_reduce)
        _check_tensors(tensors, plan.num_edges, basis, len(edge_mlp), len(att_mlp))

    # What has to be cast is cast by hand: the geometry in the op must stay as it is.
    if run is plain_frame_message or is_traced():
        tensors = _cast(cast_each, tensors, dtype)
        check(tensors)
        with nullcontext() if dtype is None else torch.autocast(pos.device.type, enabled=False):
            return run(*_as_inputs(tensors), *constants)
    try:
        # The same as above, without microseconds of Python.
        with nullcontext() if dtype is None else torch._C._DisableAutocast():
            if recorded:
                return record(_Recorded, forward, run, dtype, constants, *tensors)
            return unrecorded(run, *_as_inputs(_cast(cast_all, tensors, dtype)), *constants)
    except Exception:
        # The operator checks for itself; what is wrong is said in more detail, and with the right type, here.
        check(_cast(cast_each, tensors, dtype))
        raise


def message_constants(
    plan: EdgePlan,
    edge_mlp: Sequence[Tensor],
    att_mlp: Sequence[Tensor],
    coord_mlp: Sequence[Tensor],
    options: tuple[str, str, str, bool, float, str, str],
) -> tuple:
    """What the operators take after their tensors; the options are basis to vector_reduce in the op's order."""
    depths = len(edge_mlp) // 2, (len(coord_mlp) + 1) // 2, len(att_mlp) > 0
    return plan.edges, plan.offsets, *depths, *options, matmul_precision(plan.device.type)


def _cast(cast: Callable, tensors: Sequence[Tensor | None], dtype: torch.dtype | None) -> Sequence[Tensor | None]:
    """The tensors of a call as autocast wants them: all but the positions, cast by one of the functions for that."""
    return cast_features(cast, tensors, dtype, geometry=1)


def _as_inputs(tensors: Sequence[Tensor | None]) -> tuple:
    """The same as arguments of an operator, which has the weights in a list."""
    return *tensors[:N_TENSORS], list(tensors[N_TENSORS:])


def message_operators(
    h: Tensor,
    edge_attr: Tensor | None,
    edge_mlp: Sequence[Tensor],
    coord_mlp: Sequence[Tensor],
    device: torch.device,
    dtype: torch.dtype | None,
    recorded: bool,
    backend: str | None = None,
) -> tuple[Callable, Callable]:
    """The operator that makes a forward pass, and the one whose gradients are taken; the plain definition for both.

    Kernels may hold a forward pass whose gradients others have to make: both give the same numbers. ``dtype`` is that
    of autocast.
    """
    run = implementation("frame_message", device, backend)
    if device.type != "cuda" or not edge_mlp:
        return run, run
    size = message_size(dtype_after(h, dtype), edge_attr, edge_mlp, coord_mlp, recorded)
    differentiated = fitting("frame_message", run, backend, size)
    forward = fitting("frame_message", run, backend, size._replace(gradients=False)) if recorded else differentiated
    return differentiated if differentiated is plain_frame_message else forward, differentiated


def message_size(
    dtype: torch.dtype,
    edge_attr: Tensor | None,
    edge_mlp: Sequence[Tensor],
    coord_mlp: Sequence[Tensor],
    gradients: bool,
) -> Size:
    """What kernels on GPUs are asked about; what is wrong with the tensors, the checks say."""
    # Of coord_mlp's Linears the last makes coefficients, and may have no bias.
    hidden = (len(coord_mlp) + 1) // 2 - 1
    widths = {weight.shape[0] for weight in (*edge_mlp[::2], *coord_mlp[: 2 * hidden : 2]) if weight.dim() == 2}
    edge_dim = 0 if edge_attr is None else edge_attr.shape[1]
    return Size(edge_mlp[0].shape[0], edge_dim, dtype, gradients, len(widths) <= 1)


def _check_options(
    basis: str, mode: str, activation: str, tanh: bool, clamp: float, message_reduce: str, vector_reduce: str
) -> None:
    _check.one_of(basis, tuple(BASIS_SIZE), "basis")
    _check.one_of(mode, _check.MODES, "mode")
    _check.one_of(activation, tuple(ACTIVATIONS), "activation")
    _check.one_of(message_reduce, _check.REDUCTIONS, "message_reduce")
    _check.one_of(vector_reduce, _check.REDUCTIONS, "vector_reduce")
    _check.one_of(tanh, (True, False), "tanh")
    _check.above_zero(clamp, "clamp")


def _check_tensors(tensors: Sequence[Tensor | None], num_edges: int, basis: str, n_edge: int, n_att: int) -> None:
    """All of a call: of the weights the first are edge_mlp's, then come att_mlp's."""
    (h, pos, edge_attr, edge_weight), weights = tensors[:N_TENSORS], list(tensors[N_TENSORS:])
    edge_mlp, att_mlp, coord_mlp = weights[:n_edge], weights[n_edge : n_edge + n_att], weights[n_edge + n_att :]
    _check_features(h, pos, edge_attr, edge_weight, num_edges)
    _check_edge_mlp(edge_mlp, h, edge_attr)
    hidden = edge_mlp[-1].shape[0]
    _check_att_mlp(att_mlp, h, hidden)
    _check_coord_mlp(coord_mlp, h, hidden, basis)


def _check_features(
    h: Tensor, pos: Tensor, edge_attr: Tensor | None, edge_weight: Tensor | None, num_edges: int
) -> None:
    _check.features(h, pos, "h")
    _check.shape(h, (pos.shape[0], "F"), "h")
    for value, shape, name in ((edge_attr, (num_edges, "D"), "edge_attr"), (edge_weight, (num_edges,), "edge_weight")):
        if value is not None:
            _check_like(value, h, name)
            _check.shape(value, shape, name)


def _check_like(value: Tensor, h: Tensor, name: str) -> None:
    _check.is_tensor(value, name)
    if value.dtype != h.dtype:
        raise TypeError(f"{name} must be {_check.names([h.dtype])} like h; got {_check.names([value.dtype])}.")
    _check.same_device(value, h.device, name, "h")


def _check_linear(tensors: list[Tensor], shape: tuple[int | str, int], h: Tensor, name: str) -> None:
    """One Linear: a weight of the given shape and, where there is one, a bias."""
    weight, *biases = tensors
    _check_like(weight, h, f"{name} weight")
    _check.shape(weight, shape, f"{name} weight")
    for bias in biases:
        _check_like(bias, h, f"{name} bias")
        _check.shape(bias, weight.shape[:1], f"{name} bias")


def _check_edge_mlp(tensors: list[Tensor], h: Tensor, edge_attr: Tensor | None) -> None:
    if len(tensors) % 2 or not 1 <= len(tensors) // 2 <= MAX_EDGE_DEPTH:
        raise ValueError(
            f"edge_mlp must be the weight and bias of 1 to {MAX_EDGE_DEPTH} Linears; got {len(tensors)} tensors."
        )
    columns = 2 * h.shape[1] + 1 + (0 if edge_attr is None else edge_attr.shape[1])
    _check_linear(tensors[:2], ("H", columns), h, "edge_mlp[0]")
    columns = tensors[0].shape[0]
    for k in range(2, len(tensors), 2):
        # The first two of three may be of any width.
        hidden = "H" if k == 2 else columns
        _check_linear(tensors[k : k + 2], (hidden, columns), h, f"edge_mlp[{k // 2}]")
        columns = tensors[k].shape[0]


def _check_att_mlp(tensors: list[Tensor], h: Tensor, hidden: int) -> None:
    if len(tensors) not in (0, 2):
        raise ValueError(f"att_mlp must be the weight and bias of one Linear, or nothing; got {len(tensors)} tensors.")
    if tensors:
        _check_linear(tensors, (1, hidden), h, "att_mlp[0]")


def _check_coord_mlp(tensors: list[Tensor], h: Tensor, hidden: int, basis: str) -> None:
    depth = (len(tensors) + 1) // 2
    if not 1 <= depth <= MAX_COORD_DEPTH:
        raise ValueError(
            f"coord_mlp must be the weights and biases of 1 to {MAX_COORD_DEPTH} Linears, the last bias optional; "
            f"got {len(tensors)} tensors."
        )
    if depth == 2:
        _check_linear(tensors[:2], ("C", hidden), h, "coord_mlp[0]")
        hidden = tensors[0].shape[0]
    _check_linear(tensors[2 * (depth - 1) :], (BASIS_SIZE[basis], hidden), h, f"coord_mlp[{depth - 1}]")


def _fake(h, pos, edge_attr, edge_weight, weights, edges, offsets, edge_depth, *options):
    _check.one_device((h, pos, edge_attr, edge_weight, *weights, edges, offsets), "frame_message")
    return h.new_empty(h.shape[0], weights[2 * (edge_depth - 1)].shape[0]), pos.new_empty(pos.shape)


def _fake_backward(grad_message, grad_vector, h, pos, edge_attr, edge_weight, weights, edges, offsets, *options):
    tensors = (grad_message, grad_vector, h, pos, edge_attr, edge_weight, *weights, edges, offsets)
    _check.one_device(tensors, "frame_message_backward")
    grad_edge_attr = h.new_empty(0, 0) if edge_attr is None else edge_attr.new_empty(edge_attr.shape)
    grad_edge_weight = h.new_empty(0) if edge_weight is None else edge_weight.new_empty(edge_weight.shape)
    grad_weights = [weight.new_empty(weight.shape) for weight in weights]
    return h.new_empty(h.shape), pos.new_empty(pos.shape), grad_edge_attr, grad_edge_weight, grad_weights


def _save(ctx, inputs, output) -> None:
    is_forward = isinstance(inputs[N_TENSORS], list)
    tensors = N_TENSORS if is_forward else N_TENSORS + N_COTANGENTS
    # The derivative of the backward operator asks which gradients have cotangents.
    ctx.set_materialize_grads(is_forward)
    weights, edges, offsets, *ctx.options = inputs[tensors:]
    ctx.n_tensors = tensors
    ctx.save_for_backward(edges, offsets, *inputs[:tensors], *weights)


def _restore(ctx) -> tuple[list[Tensor | None], list[Tensor], list]:
    """The tensors before the weights, the weights, and all constants of an operator."""
    edges, offsets, *tensors = ctx.saved_tensors
    return tensors[: ctx.n_tensors], tensors[ctx.n_tensors :], [edges, offsets, *ctx.options]


class _Recorded(torch.autograd.Function):
    """The operator as autograd records it outside of torch.compile.

    The rule that is registered for the operator does the same, but torch takes lists of tensors through its pytrees
    there, which costs more than the kernels of a small graph. The gradients are those of ``differentiated``. Under
    autocast, whose dtype is given, the tensors are cast here.
    """

    @staticmethod
    def forward(
        ctx,
        run: Callable,
        differentiated: Callable,
        dtype: torch.dtype | None,
        constants: tuple,
        *given: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        ctx.backward_operator = backward_of(differentiated)
        edges, offsets, *ctx.options = constants
        ctx.dtype = dtype
        tensors = _cast(cast_all, given, dtype)
        ctx.save_for_backward(edges, offsets, *given, *(() if dtype is None else tensors))
        return unrecorded(run, *_as_inputs(tensors), *constants)

    @staticmethod
    def backward(ctx, grad_message: Tensor, grad_vector: Tensor) -> tuple:
        refuse_tangents(grad_message, grad_vector)
        wanted = ctx.needs_input_grad[N_ARGUMENTS:]
        edges, offsets, *saved = ctx.saved_tensors
        given, tensors = saved[: len(wanted)], saved[-len(wanted) :]
        if ctx.dtype is not None and torch.is_grad_enabled():
            # To be differentiated in turn: the casts have to be recorded.
            tensors = _cast(cast_each, given, ctx.dtype)
        inputs = *_as_inputs(tensors), edges, offsets, *ctx.options
        grads, grad_weights = _gradients(ctx.backward_operator, grad_message, grad_vector, inputs)
        grads += grad_weights
        return *[None] * N_ARGUMENTS, *gradients_of(given, grads, wanted, ctx.dtype)


def _gradients(backward: Callable, grad_message: Tensor, grad_vector: Tensor, inputs: tuple) -> tuple[list, list]:
    """Gradients of the tensors before the weights and of the weights, of the forward operator of the inputs."""
    *grads, grad_weights = in_backward(backward, grad_message, grad_vector, *inputs)
    return where_given(grads, inputs[:N_TENSORS]), list(grad_weights)


def _fake_double_backward(along_h, along_pos, along_edge_attr, along_edge_weight, *inputs):
    h, pos, weights = *inputs[N_COTANGENTS : N_COTANGENTS + 2], inputs[N_COTANGENTS + N_TENSORS]
    edge_depth = inputs[N_COTANGENTS + N_TENSORS + 3]
    _check.one_device((along_h, along_pos, along_edge_attr, along_edge_weight, h), "frame_message_double_backward")
    cotangents = _fake(h, pos, None, None, weights, None, None, edge_depth)
    return *cotangents, *_fake_backward(*inputs)


def _by_kernels(ctx, operator: Callable, grads: tuple) -> tuple:
    """Derivative of the backward operator, where the gradients of weights have no cotangents."""
    given, weights, constants = _restore(ctx)
    inputs = given[N_COTANGENTS:]
    directions = [None if value is None else along for along, value in zip(grads, inputs)]
    for k in range(2):  # h and pos have a direction always
        directions[k] = torch.zeros_like(inputs[k]) if directions[k] is None else directions[k]
    *results, grad_weights = unrecorded(operator, *directions, *given, weights, *constants)
    return _with_constants(ctx, where_given(results, given), list(grad_weights))


def _by_reference(ctx, *grads):
    """Derivative of the backward operator, through the definition."""
    given, weights, (edges, offsets, *options) = _restore(ctx)
    *grads, grad_weights = grads
    present = [value is not None for value in given]

    def run(tensors: list[Tensor], some: slice) -> tuple[Tensor, Tensor]:
        remade = iter(tensors)
        inputs = [next(remade) if there else None for there in present[N_COTANGENTS:]]
        # A mean divides by the number of all edges, which stands in the offsets.
        return plain_frame_message(*inputs, list(remade), edges[:, some], offsets, *options)

    cotangents, inputs = given[:N_COTANGENTS], [value for value in given[N_COTANGENTS:] if value is not None]
    directions = [grad for grad, there in zip(grads, present[N_COTANGENTS:], strict=True) if there]
    # h, pos and the weights have no rows of edges; edge_attr and edge_weight, where they are given, have nothing else.
    of_edges = [False] * 2 + [True] * (len(inputs) - 2) + [False] * len(weights)
    rows = Rows(edges.shape[1], weights[0].shape[0], [False] * N_COTANGENTS, of_edges)
    results = iter(double_backward_by_rows(run, cotangents, [*inputs, *weights], [*directions, *grad_weights], rows))
    by_given = [next(results) if there else None for there in present]
    return _with_constants(ctx, by_given, list(results))


def _with_constants(ctx, grads: list[Tensor | None], grad_weights: list[Tensor]) -> tuple:
    """What a registered rule returns: None for every constant that torch passed on, without those at their default."""
    return *grads, grad_weights, *[None] * (len(ctx.needs_input_grad) - len(grads) - 1)


def _rule(library: str) -> None:
    namespace = getattr(torch.ops, library)
    if not hasattr(namespace, "frame_message"):
        return

    def forward_backward(ctx, grad_message, grad_vector):
        tensors, weights, constants = _restore(ctx)
        inputs = *tensors, weights, *constants
        grads, grad_weights = _gradients(namespace.frame_message_backward, grad_message, grad_vector, inputs)
        return _with_constants(ctx, grads, grad_weights)

    has_kernels = hasattr(namespace, "frame_message_double_backward")

    def backward_backward(ctx, *grads):
        if has_kernels and made_by_kernels(ctx, grads[-1]):
            return _by_kernels(ctx, namespace.frame_message_double_backward, grads)
        return _by_reference(ctx, *grads)

    declare(library, "frame_message", _fake, forward_backward, _save)
    declare(library, "frame_message_backward", _fake_backward, backward_backward, _save)
    if has_kernels:
        third = no_third_derivative("frame_message")
        declare(library, "frame_message_double_backward", _fake_double_backward, third)


register_rule(_rule)
