"""Projection of tensors on the frames of edges, its backward pass and the backward pass of that."""

from torch import Tensor

from .. import _check
from ..ops.project import SOURCES
from ._host import checked_like, operator
from .tensor_form import Form


def _form(pos: Tensor, edges: Tensor, offsets: Tensor, order: int, source: str, mode: str) -> Form:
    _check.one_of(source, SOURCES, "source")
    return Form.checked(pos, edges, offsets, order, SOURCES.index(source), mode)


@operator
def project(tensor: Tensor, pos: Tensor, edges: Tensor, offsets: Tensor, order: int, source: str, mode: str) -> Tensor:
    form = _form(pos, edges, offsets, order, source, mode)
    return form.by_s(form.checked_t(tensor, "tensor"))


@operator
def project_backward(
    grad_scalars: Tensor,
    tensor: Tensor,
    pos: Tensor,
    edges: Tensor,
    offsets: Tensor,
    order: int,
    source: str,
    mode: str,
) -> tuple[Tensor, Tensor]:
    form = _form(pos, edges, offsets, order, source, mode)
    s, t = form.checked_pair(grad_scalars, "grad_scalars", tensor, "tensor")
    return form.by_t(s), form.by_pos(s, t)


@operator
def project_double_backward(
    grad_grad_tensor: Tensor,
    grad_grad_pos: Tensor,
    grad_scalars: Tensor,
    tensor: Tensor,
    pos: Tensor,
    edges: Tensor,
    offsets: Tensor,
    order: int,
    source: str,
    mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    form = _form(pos, edges, offsets, order, source, mode)
    s, t = form.checked_pair(grad_scalars, "grad_scalars", tensor, "tensor")
    t_tangent = checked_like(grad_grad_tensor, t, t.shape, "grad_grad_tensor", "tensor")
    pos_tangent = form.graph.vectors(grad_grad_pos, "grad_grad_pos")
    return (
        form.by_s(t, t_tangent, pos_tangent),
        form.by_t(s, None, pos_tangent),
        form.by_pos(s, t, None, t_tangent, pos_tangent),
    )
