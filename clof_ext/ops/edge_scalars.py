"""Invariant scalars of every edge."""

from torch import Tensor

from .. import _check
from .._backends import implementation
from .._register import register
from ..graph import EdgePlan, as_plan


def edge_scalars(
    pos: Tensor,
    edge_index: Tensor | EdgePlan,
    vel: Tensor | None = None,
    *,
    mode: str = "soft",
    backend: str | None = None,
) -> Tensor:
    """The invariant scalars that ClofNet makes its edge features from; frames are never written to memory.

    With F the frame of the edge (see ``edge_frame``), p = F x_i and q = F x_j, the columns are::

        sin, cos, p (3), q (3)   and, with velocities,   F v_i (3), F v_j (3)
        cos = <p, q> / ((|p| + 1e-5) (|q| + 1e-5)),   sin = sqrt(max(1 - cos^2, 1e-10))

    Args:
        pos: (N, 3) node positions, float32 or float64; differentiable, twice.
        edge_index: (2, E) receivers and senders, or an EdgePlan.
        vel: (N, 3) node velocities, of the dtype of pos; differentiable, twice.
        mode: frame mode, see ``edge_frame``.
        backend: force one backend.

    Returns:
        (E, 8), or (E, 14) with velocities.

    Singular cases: where F = 0, cos = 0 and sin = 1. The derivative of sin, unbounded as |cos| -> 1, is 0 where
    1 - cos^2 <= 1e-10.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape, device, index or mode.

    Source: Du et al., ICML 2022, section 4.2 (scalarization), with the angle of the published program.
    """
    _check.positions(pos)
    if vel is not None:
        _check.velocities(vel, pos)
    _check.one_of(mode, _check.MODES, "mode")
    plan = as_plan(edge_index, pos.shape[0], pos.device)
    return implementation("edge_scalars", pos.device, backend)(pos, vel, plan.edges, plan.offsets, mode)


def _grad_vel(pos, vel):
    return pos.new_empty(0, 3) if vel is None else vel.new_empty(vel.shape)


def _fake(pos, vel, edges, offsets, mode):
    return pos.new_empty(edges.shape[1], 8 if vel is None else 14)


def _fake_backward(grad_scalars, pos, vel, edges, offsets, mode):
    return pos.new_empty(pos.shape), _grad_vel(pos, vel)


def _fake_double_backward(grad_grad_pos, grad_grad_vel, grad_scalars, pos, vel, edges, offsets, mode):
    return grad_scalars.new_empty(grad_scalars.shape), pos.new_empty(pos.shape), _grad_vel(pos, vel)


register("edge_scalars", n_inputs=2, fakes=(_fake, _fake_backward, _fake_double_backward))
