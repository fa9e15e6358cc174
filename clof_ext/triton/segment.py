"""Reduction of rows into segments and its adjoint."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from .. import _check
from . import memory
from ._host import jit, launch, operator

# Numbers of a program: one for each thread of its four warps.
NUMBERS = 128


@triton.jit
def weight_of(start, end, DTYPE: tl.constexpr, MEAN: tl.constexpr):
    """Factor of each segment: 1 for a sum, 1 / max(size, 1) for a mean."""
    if MEAN:
        return 1.0 / tl.maximum(end - start, 1).to(DTYPE)
    else:
        return tl.full(start.shape, 1.0, DTYPE)


@jit
def reduce_kernel(
    values,
    perm,
    offsets,
    out,
    num_segments,
    width,
    DTYPE: tl.constexpr,
    MEAN: tl.constexpr,
    SEGMENTS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """One number of the result to each lane, summed in the order of the rows."""
    blocks = tl.cdiv(width, COLUMNS)
    segment = (tl.program_id(0) // blocks).to(tl.int64) * SEGMENTS + tl.arange(0, SEGMENTS)
    column = (tl.program_id(0) % blocks) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    exists = segment < num_segments
    start = tl.load(offsets + segment, mask=exists, other=0)
    end = tl.load(offsets + segment + 1, mask=exists, other=0)
    total = tl.zeros([SEGMENTS, COLUMNS], DTYPE)
    for step in range(0, tl.max(end - start)):
        row = tl.load(perm + start + step, mask=start + step < end, other=0).to(tl.int64)
        mask = (start + step < end)[:, None] & (column < width)
        total += tl.load(values + row[:, None] * width + column, mask=mask, other=0.0).to(DTYPE)
    total *= weight_of(start, end, DTYPE, MEAN)[:, None]
    tl.store(out + segment[:, None] * width + column, total, mask=exists[:, None] & (column < width))


@jit
def gather_kernel(
    grad, index, offsets, out, num_rows, width, DTYPE: tl.constexpr, MEAN: tl.constexpr, NUMBERS: tl.constexpr
):
    """One number of the result to each lane."""
    place = memory.rows_of_program(NUMBERS)
    mask = place // width < num_rows
    segment = tl.load(index + place // width, mask=mask, other=0).to(tl.int64)
    start = tl.load(offsets + segment, mask=mask, other=0)
    end = tl.load(offsets + segment + 1, mask=mask, other=0)
    value = tl.load(grad + segment * width + place % width, mask=mask, other=0.0).to(DTYPE)
    tl.store(out + place, value * weight_of(start, end, DTYPE, MEAN), mask=mask)


_SUM_TYPE = {
    torch.float64: tl.float64,
    torch.float32: tl.float32,
    torch.bfloat16: tl.float32,
    torch.float16: tl.float32,
}


def _rows_like(values: Tensor, count: int) -> Tensor:
    return values.new_empty(count, *values.shape[1:])


def _check_arguments(
    values: Tensor, num_rows: int, index: Tensor, perm: Tensor, offsets: Tensor, reduce: str, name: str
) -> None:
    _check.dtype(values, tuple(_SUM_TYPE), name)
    _check.shape(values, (num_rows, *values.shape[1:]), name)
    _check.one_of(reduce, _check.REDUCTIONS, "reduce")
    _check.shape(perm, index.shape, "perm")
    for tensor, its_name in ((index, "index"), (perm, "perm"), (offsets, "offsets")):
        _check.shape(tensor, ("any",), its_name)
        _check.dtype(tensor, (torch.int32,), its_name)
        _check.same_device(tensor, values.device, its_name, name)


@operator
def segment_reduce(values: Tensor, index: Tensor, perm: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    _check_arguments(values, index.shape[0], index, perm, offsets, reduce, "values")
    num_segments = offsets.shape[0] - 1
    out = _rows_like(values, num_segments)
    if values.numel() == 0:
        return out.zero_()
    width = values.numel() // values.shape[0]
    columns = min(triton.next_power_of_2(width), NUMBERS)
    segments = NUMBERS // columns
    launch(
        reduce_kernel,
        triton.cdiv(num_segments, segments) * triton.cdiv(width, columns),
        out,
        values.contiguous(),
        perm.contiguous(),
        offsets.contiguous(),
        out,
        num_segments,
        width,
        DTYPE=_SUM_TYPE[values.dtype],
        MEAN=reduce == "mean",
        SEGMENTS=segments,
        COLUMNS=columns,
    )
    return out


@operator
def segment_gather(grad: Tensor, index: Tensor, perm: Tensor, offsets: Tensor, reduce: str) -> Tensor:
    _check_arguments(grad, offsets.shape[0] - 1, index, perm, offsets, reduce, "grad")
    out = _rows_like(grad, index.shape[0])
    if out.numel() > 0:
        launch(
            gather_kernel,
            triton.cdiv(out.numel(), NUMBERS),
            out,
            grad.contiguous(),
            index.contiguous(),
            offsets.contiguous(),
            out,
            index.shape[0],
            out.numel() // index.shape[0],
            DTYPE=_SUM_TYPE[grad.dtype],
            MEAN=reduce == "mean",
            NUMBERS=NUMBERS,
        )
    return out
