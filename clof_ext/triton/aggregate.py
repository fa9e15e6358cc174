"""Tensors from scalars by the frames of edges, reduced into receivers, with the backward pass and that one's own."""

from torch import Tensor

from .. import _check
from ._host import checked_like, operator
from .tensor_form import RECEIVER, Form


def _form(pos: Tensor, edges: Tensor, offsets: Tensor, order: int, reduce: str, mode: str) -> Form:
    _check.one_of(reduce, _check.REDUCTIONS, "reduce")
    return Form.checked(pos, edges, offsets, order, RECEIVER, mode, mean=reduce == "mean")


@operator
def aggregate(
    scalars: Tensor, pos: Tensor, edges: Tensor, offsets: Tensor, order: int, reduce: str, mode: str
) -> Tensor:
    form = _form(pos, edges, offsets, order, reduce, mode)
    return form.by_t(form.checked_s(scalars, "scalars"))


@operator
def aggregate_backward(
    grad_tensor: Tensor,
    scalars: Tensor,
    pos: Tensor,
    edges: Tensor,
    offsets: Tensor,
    order: int,
    reduce: str,
    mode: str,
) -> tuple[Tensor, Tensor]:
    form = _form(pos, edges, offsets, order, reduce, mode)
    s, t = form.checked_pair(scalars, "scalars", grad_tensor, "grad_tensor")
    return form.by_s(t), form.by_pos(s, t)


@operator
def aggregate_double_backward(
    grad_grad_scalars: Tensor,
    grad_grad_pos: Tensor,
    grad_tensor: Tensor,
    scalars: Tensor,
    pos: Tensor,
    edges: Tensor,
    offsets: Tensor,
    order: int,
    reduce: str,
    mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    form = _form(pos, edges, offsets, order, reduce, mode)
    s, t = form.checked_pair(scalars, "scalars", grad_tensor, "grad_tensor")
    s_tangent = checked_like(grad_grad_scalars, s, s.shape, "grad_grad_scalars", "scalars")
    pos_tangent = form.graph.vectors(grad_grad_pos, "grad_grad_pos")
    return (
        form.by_t(s, s_tangent, pos_tangent),
        form.by_s(t, None, pos_tangent),
        form.by_pos(s, t, s_tangent, None, pos_tangent),
    )
