"""Tensors from scalars by the frames of edges, reduced into receivers."""

from torch import Tensor

from .. import _check
from .._backends import implementation
from .._register import register
from ..graph import EdgePlan, as_plan


def aggregate(
    scalars: Tensor,
    pos: Tensor,
    edge_index: Tensor | EdgePlan,
    num_nodes: int | None = None,
    *,
    order: int = 1,
    reduce: str = "sum",
    mode: str = "soft",
    backend: str | None = None,
) -> Tensor:
    """Equivariant tensors on nodes from invariant scalars on edges (tensorization), reduced over each node's edges.

    T_i = reduce over edges e into i of sum over k1, ..., kr of s_e[k1, ..., kr] e_k1 (x) ... (x) e_kr for each of K
    channels, with e_k the axes of the edge's frame (see ``edge_frame``). In ``orthonormal`` mode the exact inverse of
    ``project``. Neither frames nor the tensors of edges are written to memory; sums are made in the order of the
    edges, so results repeat bit for bit.

    Args:
        scalars: (E, K, 3**order), or (E, 3**order) without the axis of channels; of the dtype of pos, or bfloat16 or
            float16 beside float32 positions (sums are then made in float32); differentiable, twice.
        pos: (N, 3) node positions, float32 or float64; differentiable, twice.
        edge_index: (2, E) receivers and senders, or an EdgePlan.
        num_nodes: N; read off pos if not given.
        order: 0, 1, 2 or 3.
        reduce: ``"sum"``, or ``"mean"``: divided by max(number of edges into i, 1).
        mode: frame mode, see ``edge_frame``.
        backend: force one backend.

    Returns:
        (N, K, 3, ..., 3) with ``order`` axes of size 3, or without that of channels, in the dtype of ``scalars``; 0 for
        nodes without edges.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape, device, index, order, reduce or mode.

    Source: Du et al., ICML 2022, equation 6 and section 4.2 (vectorization).
    """
    _check.positions(pos)
    _check.features(scalars, pos, "scalars")
    _check.order(order)
    _check.one_of(reduce, _check.REDUCTIONS, "reduce")
    _check.one_of(mode, _check.MODES, "mode")
    if num_nodes is not None and num_nodes != pos.shape[0]:
        raise ValueError(f"num_nodes must be the number of positions, {pos.shape[0]}; got {num_nodes}.")
    plan = as_plan(edge_index, pos.shape[0], pos.device)
    single = scalars.dim() == 2 and scalars.shape[1] == 3**order
    _check.shape(scalars, (plan.num_edges, *([] if single else ["K"]), 3**order), "scalars")
    run = implementation("aggregate", pos.device, backend)
    tensor = run(scalars.unsqueeze(1) if single else scalars, pos, plan.edges, plan.offsets, order, reduce, mode)
    return tensor.squeeze(1) if single else tensor


def _fake(scalars, pos, edges, offsets, order, reduce, mode):
    return scalars.new_empty(pos.shape[0], scalars.shape[1], *[3] * order)


def _fake_backward(grad_tensor, scalars, pos, edges, offsets, order, reduce, mode):
    return scalars.new_empty(scalars.shape), pos.new_empty(pos.shape)


def _fake_double_backward(
    grad_grad_scalars, grad_grad_pos, grad_tensor, scalars, pos, edges, offsets, order, reduce, mode
):
    return grad_tensor.new_empty(grad_tensor.shape), scalars.new_empty(scalars.shape), pos.new_empty(pos.shape)


register("aggregate", n_inputs=2, fakes=(_fake, _fake_backward, _fake_double_backward))
