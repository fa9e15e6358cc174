"""Projection of tensors on the frames of edges."""

from torch import Tensor

from .. import _check
from .._backends import implementation
from .._register import register
from ..graph import EdgePlan, as_plan

SOURCES = ("receiver", "sender", "edge")


def project(
    tensor: Tensor,
    pos: Tensor,
    edge_index: Tensor | EdgePlan,
    *,
    order: int = 1,
    source: str = "receiver",
    mode: str = "soft",
    backend: str | None = None,
) -> Tensor:
    """Invariant scalars of tensors: their components along the frame of every edge (scalarization).

    s[k1, ..., kr] = sum over i1, ..., ir of F[k1, i1] ... F[kr, ir] T[i1, ..., ir] for each of K channels, with F the
    frame of the edge (see ``edge_frame``). Frames are never written to memory.

    Args:
        tensor: tensors of the given order, (N, K, 3, ..., 3) on nodes or (E, K, 3, ..., 3) on edges (order axes of
            size 3; none for order 0), or one for each node or edge without the axis of channels, as vectors (N, 3).
            Of the dtype of pos, or bfloat16 or float16 beside float32 positions; differentiable, twice.
        pos: (N, 3) node positions, float32 or float64; differentiable, twice.
        edge_index: (2, E) receivers and senders, or an EdgePlan.
        order: 0, 1, 2 or 3.
        source: where the tensors are: on each edge's ``"receiver"`` or ``"sender"``, or on the ``"edge"`` itself.
        mode: frame mode, see ``edge_frame``.
        backend: force one backend.

    Returns:
        (E, K, 3**order), or (E, 3**order) without the axis of channels; the last axis in row-major order of
        (k1, ..., kr), in the dtype of ``tensor``.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape, device, index, order, source or mode.

    Source: Du et al., ICML 2022, equation 5 and section 4.2.
    """
    _check.positions(pos)
    _check.features(tensor, pos, "tensor")
    _check.order(order)
    _check.one_of(source, SOURCES, "source")
    _check.one_of(mode, _check.MODES, "mode")
    plan = as_plan(edge_index, pos.shape[0], pos.device)
    rows = plan.num_edges if source == "edge" else pos.shape[0]
    axes = [3] * order
    single = tensor.dim() == 1 + order and list(tensor.shape[1:]) == axes
    _check.shape(tensor, (rows, *axes) if single else (rows, "K", *axes), "tensor")
    run = implementation("project", pos.device, backend)
    scalars = run(tensor.unsqueeze(1) if single else tensor, pos, plan.edges, plan.offsets, order, source, mode)
    return scalars.squeeze(1) if single else scalars


def _fake(tensor, pos, edges, offsets, order, source, mode):
    return tensor.new_empty(edges.shape[1], tensor.shape[1], 3**order)


def _fake_backward(grad_scalars, tensor, pos, edges, offsets, order, source, mode):
    return tensor.new_empty(tensor.shape), pos.new_empty(pos.shape)


def _fake_double_backward(
    grad_grad_tensor, grad_grad_pos, grad_scalars, tensor, pos, edges, offsets, order, source, mode
):
    return grad_scalars.new_empty(grad_scalars.shape), tensor.new_empty(tensor.shape), pos.new_empty(pos.shape)


register("project", n_inputs=2, fakes=(_fake, _fake_backward, _fake_double_backward))
