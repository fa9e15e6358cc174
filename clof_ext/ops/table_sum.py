"""Sums of weighted runs of a table's rows."""

import torch
from torch import Tensor

from .. import _check
from .._backends import implementation
from .._precision import float32_under_autocast
from .._recompute import double_backward
from .._register import autocast_to_float32, declare, register_rule
from ..reference import table_sum as plain_table_sum

DTYPES = (torch.float32, torch.float64)


def table_sum(
    table: Tensor,
    first: Tensor,
    share: Tensor,
    base: Tensor | None = None,
    *,
    relu: bool = False,
    backend: str | None = None,
) -> Tensor:
    """Functions of one variable each, read between the rows of a table and added up.

    With T runs of W consecutive rows for each row of the result::

        out_e = base_e + sum over t and w of share[e, t, w] table[first[e, t] + w],  with relu its positive part

    The table's gradient is summed by the row at which a run starts, in one order for any number of threads.

    Args:
        table: (R, H), float32 or float64; under autocast halves are cast to float32.
        first: (E, T) int32 in [0, R - W].
        share: (E, T, W).
        base: (E, H), or None for zeros.
        relu: keep the positive part only.
        backend: force one backend.

    Returns:
        (E, H). Differentiable in table, share and base, any number of times; second derivatives run through the
        reference.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape or device, or a run that leaves the table.
    """
    _check.is_tensor(table, "table")
    table, share, base = float32_under_autocast(table, share, base)
    _check.dtype(table, DTYPES, "table")
    _check.shape(table, ("R", "H"), "table")
    _check.is_tensor(first, "first")
    _check.dtype(first, (torch.int32,), "first")
    _check.shape(first, ("E", "T"), "first")
    _check.same_device(first, table.device, "first", "table")
    _like(share, table, (*first.shape, "W"), "share")
    if base is not None:
        _like(base, table, (first.shape[0], table.shape[1]), "base")
    run = implementation("table_sum", table.device, backend)
    if first.numel() and not (torch.compiler.is_compiling() or first.is_meta):
        low, high = (int(end) for end in first.aminmax())
        most = table.shape[0] - share.shape[2]
        if low < 0 or high > most:
            raise ValueError(f"first must hold numbers from 0 to {most}; got {low if low < 0 else high}.")
    return run(table, first, share, base, relu)


def _like(tensor: Tensor, table: Tensor, shape: tuple, name: str) -> None:
    _check.is_tensor(tensor, name)
    _check.dtype(tensor, (table.dtype,), name)
    _check.shape(tensor, shape, name)
    _check.same_device(tensor, table.device, name, "table")


def _fake(table, first, share, base, relu):
    return table.new_empty(first.shape[0], table.shape[1])


def _fake_backward(grad, table, first, share, share_gradient):
    rows = first.shape[0] if share_gradient else 0
    return table.new_empty(table.shape), table.new_empty(rows, *share.shape[1:])


def _save(ctx, inputs, output) -> None:
    table, first, share, base, ctx.relu = inputs
    ctx.save_for_backward(table, first, share, output if ctx.relu else None)
    ctx.has_base = base is not None


def _save_backward(ctx, inputs, output) -> None:
    *tensors, ctx.share_gradient = inputs
    ctx.save_for_backward(*tensors)


def _backward_backward(ctx, along_table: Tensor, along_share: Tensor) -> tuple:
    """Derivative of the backward operator, through the reference."""
    grad, table, first, share = ctx.saved_tensors

    def run(inputs):
        return plain_table_sum(inputs[0], first, inputs[1], None, False)

    directions = [along_table, along_share if ctx.share_gradient else None]
    of_grad, of_table, of_share = double_backward(run, [grad], [table, share], directions)
    return of_grad, of_table, None, of_share, None


def _rule(library: str) -> None:
    namespace = getattr(torch.ops, library)
    if not hasattr(namespace, "table_sum"):
        return

    def backward(ctx, grad):
        table, first, share, out = ctx.saved_tensors
        if ctx.relu:
            grad = torch.ops.aten.threshold_backward(grad, out, 0)
        wanted = ctx.needs_input_grad[2]
        grad_table, grad_share = namespace.table_sum_backward(grad, table, first, share, wanted)
        return grad_table, None, grad_share if wanted else None, grad if ctx.has_base else None, None

    declare(library, "table_sum", _fake, backward, _save)
    declare(library, "table_sum_backward", _fake_backward, _backward_backward, _save_backward)
    autocast_to_float32(library, "table_sum")


register_rule(_rule)
