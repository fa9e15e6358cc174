"""Sums and means of rows over segments."""

import torch
from torch import Tensor

from .. import _check
from .._backends import implementation
from .._register import declare, register_rule
from ..graph import EdgePlan, prepare_segments


def segment_sum(
    values: Tensor, index: Tensor | EdgePlan, num_segments: int | None = None, *, backend: str | None = None
) -> Tensor:
    """Sum of the rows of each segment: out[s] = sum of values[e] over e with index[e] = s.

    Sums are made in the order of the rows, so results repeat bit for bit; bfloat16 and float16 are summed in float32.

    Args:
        values: (E, ...), float32, float64, bfloat16 or float16; differentiable, any number of times.
        index: (E,) int32 or int64 in [0, num_segments), in any order; or an EdgePlan, for sums into receivers.
        num_segments: number of rows of the result; read off the plan if an EdgePlan is given.
        backend: force one backend.

    Returns:
        (num_segments, ...), 0 for empty segments.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape, device or index.
    """
    return _reduce(values, index, num_segments, "sum", backend)


def segment_mean(
    values: Tensor, index: Tensor | EdgePlan, num_segments: int | None = None, *, backend: str | None = None
) -> Tensor:
    """Mean of the rows of each segment: ``segment_sum`` divided by max(number of rows, 1).

    Arguments, result and errors are those of ``segment_sum``.
    """
    return _reduce(values, index, num_segments, "mean", backend)


def _reduce(
    values: Tensor, index: Tensor | EdgePlan, num_segments: int | None, reduce: str, backend: str | None
) -> Tensor:
    _check.is_tensor(values, "values")
    _check.dtype(values, _check.FLOAT_DTYPES, "values")
    if values.dim() == 0:
        raise ValueError("values must have at least one axis, its rows; got a scalar.")
    plan = index if isinstance(index, EdgePlan) else _plan_of(index, num_segments)
    if num_segments is not None and num_segments != plan.num_nodes:
        raise ValueError(f"num_segments must be the plan's number of nodes, {plan.num_nodes}; got {num_segments}.")
    _check.same_device(values, plan.device, "values", "index")
    if values.shape[0] != plan.num_edges:
        raise ValueError(f"values must have a row for each entry of index, {plan.num_edges}; got {values.shape[0]}.")
    run = implementation("segment_reduce", values.device, backend)
    edges, offsets = plan.edges, plan.offsets
    return run(values, edges[0], edges[2], offsets[0], reduce)


def _plan_of(index: Tensor, num_segments: int | None) -> EdgePlan:
    _check.is_tensor(index, "index")
    _check.dtype(index, (torch.int64, torch.int32), "index")
    _check.shape(index, ("E",), "index")
    if num_segments is None:
        raise ValueError("num_segments must be given where index is a tensor; got None.")
    return prepare_segments(index, num_segments)


def _fake_reduce(values, index, perm, offsets, reduce):
    return values.new_empty(offsets.shape[0] - 1, *values.shape[1:])


def _fake_gather(grad, index, perm, offsets, reduce):
    return grad.new_empty(index.shape[0], *grad.shape[1:])


def _adjoint(stage: str, library: str):
    """Derivative of one of the two linear ops: the other one."""

    def backward(ctx, grad):
        index, perm, offsets = ctx.saved_tensors
        run = getattr(getattr(torch.ops, library), stage)
        return run(grad, index, perm, offsets, ctx.reduce), None, None, None, None

    return backward


def _save(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[1:4])
    ctx.reduce = inputs[4]


def _rule(library: str) -> None:
    pairs = (("segment_reduce", "segment_gather", _fake_reduce), ("segment_gather", "segment_reduce", _fake_gather))
    for stage, adjoint, fake in pairs:
        declare(library, stage, fake, _adjoint(adjoint, library), _save)


register_rule(_rule)
