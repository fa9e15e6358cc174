"""Complete local frame of every edge."""

from torch import Tensor

from .. import _check
from .._backends import implementation
from .._register import register
from ..graph import EdgePlan, as_plan


def edge_frame(pos: Tensor, edge_index: Tensor | EdgePlan, *, mode: str = "soft", backend: str | None = None) -> Tensor:
    """Complete local frame (a, b, c) of every edge, built by cross products alone.

    With d = x_i - x_j, w = x_i x x_j and i the receiver, j the sender:

    ============== =============== =============== =======
    mode           a               b               c
    ============== =============== =============== =======
    soft           d / (|d| + 1)   w / (|w| + 1)   a x b
    raw            d               w               a x b
    orthonormal    d / |d|         w / |w|         a x b
    ============== =============== =============== =======

    Frames turn with the positions; b is a pseudovector, so a reflection is seen. They are not translation invariant:
    subtract each graph's mean first.

    Args:
        pos: (N, 3) node positions in any unit of length, float32 or float64; differentiable, twice.
        edge_index: (2, E) receivers and senders, or an EdgePlan.
        mode: ``"soft"`` (what the published weights expect), ``"raw"`` or ``"orthonormal"`` (the paper's theory).
        backend: force one backend.

    Returns:
        (E, 3, 3), rows a, b, c.

    Singular cases: where x_i = x_j, or x_i and x_j are parallel to within rounding, the axes that are undefined and
    their first and second derivatives are exactly 0.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape, device, index or mode.

    Source: Du et al., ICML 2022, section 4.1; ``soft`` is the published program's ``norm_diff=True``.
    """
    _check.positions(pos)
    _check.one_of(mode, _check.MODES, "mode")
    plan = as_plan(edge_index, pos.shape[0], pos.device)
    return implementation("edge_frame", pos.device, backend)(pos, plan.edges, plan.offsets, mode)


def _fake(pos, edges, offsets, mode):
    return pos.new_empty(edges.shape[1], 3, 3)


def _fake_backward(grad_frame, pos, edges, offsets, mode):
    return pos.new_empty(pos.shape)


def _fake_double_backward(grad_grad_pos, grad_frame, pos, edges, offsets, mode):
    return grad_frame.new_empty(grad_frame.shape), pos.new_empty(pos.shape)


register("edge_frame", n_inputs=1, fakes=(_fake, _fake_backward, _fake_double_backward))
