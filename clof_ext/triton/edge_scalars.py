"""Invariant scalars of every edge, their backward pass and the backward pass of that."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference.edge_scalars import COS_NORM_SHIFT, MIN_SIN_SQUARED
from . import memory, number, vec3
from ._host import EDGES, LANES, NODES, Graph, checked_like, jit, launch, operator
from .edge_frame import frame_of, frame_parts, frame_vjp

WIDTH, WIDTH_WITH_VELOCITY = 8, 14

_SHIFT = tl.constexpr(COS_NORM_SHIFT)
_FLOOR = tl.constexpr(MIN_SIN_SQUARED)


@triton.jit
def norm_of(v):
    """|v|, or 1 where v = 0, and whether v is not 0."""
    squared = vec3.dot(v, v)
    positive = squared[0] > 0
    return number.square_root(number.where(positive, squared, 1.0)), positive


@triton.jit
def shifted_norm(v):
    norm, positive = norm_of(v)
    return number.shift(number.where(positive, norm, 0.0), _SHIFT)


@triton.jit
def cosine(p, q):
    return number.div(vec3.dot(p, q), number.mul(shifted_norm(p), shifted_norm(q)))


@triton.jit
def sine_squared(cos):
    return number.shift(number.neg(number.mul(cos, cos)), 1.0)


@triton.jit
def sine(cos):
    squared = sine_squared(cos)
    return number.square_root(number.where(squared[0] > _FLOOR, squared, _FLOOR))


@triton.jit
def norm_vjp(v, grad):
    """Gradient by v, given that by |v|: 0 where v = 0."""
    norm, positive = norm_of(v)
    return vec3.scale(number.where(positive, number.div(grad, norm), 0.0), v)


@triton.jit
def angle_vjp(p, q, grad_sin, grad_cos):
    """Gradients by p and q."""
    cos = cosine(p, q)
    through_sin = number.div(number.mul(grad_sin, cos), sine(cos))
    grad = number.sub(grad_cos, number.where(sine_squared(cos)[0] > _FLOOR, through_sin, 0.0))
    shifted_p, shifted_q = shifted_norm(p), shifted_norm(q)
    common = number.div(grad, number.mul(shifted_p, shifted_q))
    along = number.mul(grad, cos)
    return (
        vec3.sub(vec3.scale(common, q), norm_vjp(p, number.div(along, shifted_p))),
        vec3.sub(vec3.scale(common, p), norm_vjp(q, number.div(along, shifted_q))),
    )


@triton.jit
def scalars_of(frame, x, v):
    """The columns of edge_scalars; v is () without velocities."""
    p, q = vec3.matvec(frame, x[0]), vec3.matvec(frame, x[1])
    cos = cosine(p, q)
    out = (sine(cos), cos) + p + q
    for end in tl.static_range(len(v)):
        out = out + vec3.matvec(frame, v[end])
    return out


@triton.jit
def scalars_vjp(x, v, grad, MODE: tl.constexpr):
    """Gradients by the position and, after it, the velocity of receiver and sender, given those by the columns."""
    parts = frame_parts(x[0], x[1], MODE)
    frame = parts[3]
    from_p, from_q = angle_vjp(vec3.matvec(frame, x[0]), vec3.matvec(frame, x[1]), grad[0], grad[1])
    grad_p, grad_q = vec3.add(grad[2:5], from_p), vec3.add(grad[5:8], from_q)
    grad_frame = vec3.add_matrix(vec3.outer(grad_p, x[0]), vec3.outer(grad_q, x[1]))
    for end in tl.static_range(len(v)):
        grad_frame = vec3.add_matrix(grad_frame, vec3.outer(grad[8 + 3 * end : 11 + 3 * end], v[end]))
    through_i, through_j = frame_vjp(parts, x[0], grad_frame, MODE)
    receiver = vec3.add(vec3.transposed_matvec(frame, grad_p), through_i)
    sender = vec3.add(vec3.transposed_matvec(frame, grad_q), through_j)
    if len(v) > 0:
        receiver = receiver + vec3.transposed_matvec(frame, grad[8:11])
        sender = sender + vec3.transposed_matvec(frame, grad[11:14])
    return receiver, sender


@triton.jit
def load_velocities(vel, vel_tangent, graph, edge, mask, DUAL: tl.constexpr):
    if vel is None:
        return ()
    else:
        return memory.load_ends(vel, vel_tangent, graph, edge, mask, DUAL)


@jit
def map_kernel(
    pos,
    pos_tangent,
    vel,
    vel_tangent,
    edges,
    offsets,
    num_nodes,
    num_edges,
    scalars,
    WIDTH: tl.constexpr,
    MODE: tl.constexpr,
    DUAL: tl.constexpr,
    EDGES: tl.constexpr,
):
    """For each edge: its scalars, or their derivative in the direction of the tangents."""
    edge = memory.rows_of_program(EDGES)
    mask = edge < num_edges
    graph = (edges, offsets, num_nodes, num_edges)
    x = memory.load_ends(pos, pos_tangent, graph, edge, mask, DUAL)
    v = load_velocities(vel, vel_tangent, graph, edge, mask, DUAL)
    columns = scalars_of(frame_of(x[0], x[1], MODE), x, v)
    memory.store_values(scalars, edge * WIDTH, mask, number.results(columns))


@jit
def sum_kernel(
    grad_scalars,
    pos,
    pos_tangent,
    vel,
    vel_tangent,
    edges,
    offsets,
    num_nodes,
    num_edges,
    grad_pos,
    grad_vel,
    WIDTH: tl.constexpr,
    MODE: tl.constexpr,
    DUAL: tl.constexpr,
    NODES: tl.constexpr,
    LANES: tl.constexpr,
):
    """For each node: its gradients, or the derivatives of those in the direction of the tangents."""
    node = memory.rows_of_program(NODES)
    graph = (edges, offsets, num_nodes, num_edges)
    zero = tl.zeros([NODES, LANES], pos.dtype.element_ty)
    totals = (zero, zero, zero)
    if vel is not None:
        totals = totals + totals
    for role in range(2):
        start, end = memory.segment_of(graph, node, node < num_nodes, role)
        for step in range(0, tl.max(end - start), LANES):
            edge, mask = memory.edges_from(graph, start + step, end, role, LANES)
            x = memory.load_ends(pos, pos_tangent, graph, edge, mask, DUAL)
            v = load_velocities(vel, vel_tangent, graph, edge, mask, DUAL)
            grad = memory.load_numbers(grad_scalars, None, edge * WIDTH, mask, WIDTH, pos.dtype.element_ty, DUAL)
            receiver, sender = scalars_vjp(x, v, grad, MODE)
            totals = number.add(totals, memory.of_role(role, number.results(receiver), number.results(sender)))
    sums = memory.lane_sums(totals)
    memory.store_values(grad_pos, node * 3, node < num_nodes, sums[0:3])
    if vel is not None:
        memory.store_values(grad_vel, node * 3, node < num_nodes, sums[3:6])


def _optional_vectors(graph: Graph, tensor: Tensor | None, name: str) -> Tensor | None:
    return None if tensor is None else graph.vectors(tensor, name)


def _width(vel: Tensor | None) -> int:
    return WIDTH if vel is None else WIDTH_WITH_VELOCITY


def _map(graph: Graph, vel: Tensor | None, pos_tangent: Tensor | None = None, vel_tangent: Tensor | None = None):
    scalars = graph.pos.new_empty(graph.num_edges, _width(vel))
    launch(
        map_kernel,
        triton.cdiv(graph.num_edges, EDGES),
        scalars,
        graph.pos,
        pos_tangent,
        vel,
        vel_tangent,
        *graph.plan,
        scalars,
        WIDTH=_width(vel),
        MODE=graph.mode,
        DUAL=pos_tangent is not None,
        EDGES=EDGES,
    )
    return scalars


def _sum(
    graph: Graph,
    grad_scalars: Tensor,
    vel: Tensor | None,
    pos_tangent: Tensor | None = None,
    vel_tangent: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Gradients by positions and velocities (empty without any), or their derivatives along the tangents."""
    grad_scalars = checked_like(grad_scalars, graph.pos, (graph.num_edges, _width(vel)), "grad_scalars", "pos")
    grad_pos = torch.empty_like(graph.pos)
    grad_vel = graph.pos.new_empty(0, 3) if vel is None else torch.empty_like(vel)
    launch(
        sum_kernel,
        triton.cdiv(graph.num_nodes, NODES),
        grad_pos,
        grad_scalars,
        graph.pos,
        pos_tangent,
        vel,
        vel_tangent,
        *graph.plan,
        grad_pos,
        grad_vel,
        WIDTH=_width(vel),
        MODE=graph.mode,
        DUAL=pos_tangent is not None,
        NODES=NODES,
        LANES=LANES,
    )
    return grad_pos, grad_vel


@operator
def edge_scalars(pos: Tensor, vel: Tensor | None, edges: Tensor, offsets: Tensor, mode: str) -> Tensor:
    graph = Graph.checked(pos, edges, offsets, mode)
    return _map(graph, _optional_vectors(graph, vel, "vel"))


@operator
def edge_scalars_backward(
    grad_scalars: Tensor, pos: Tensor, vel: Tensor | None, edges: Tensor, offsets: Tensor, mode: str
) -> tuple[Tensor, Tensor]:
    graph = Graph.checked(pos, edges, offsets, mode)
    return _sum(graph, grad_scalars, _optional_vectors(graph, vel, "vel"))


@operator
def edge_scalars_double_backward(
    grad_grad_pos: Tensor,
    grad_grad_vel: Tensor | None,
    grad_scalars: Tensor,
    pos: Tensor,
    vel: Tensor | None,
    edges: Tensor,
    offsets: Tensor,
    mode: str,
) -> tuple[Tensor, Tensor, Tensor]:
    graph = Graph.checked(pos, edges, offsets, mode)
    vel = _optional_vectors(graph, vel, "vel")
    tangents = (
        graph.vectors(grad_grad_pos, "grad_grad_pos"),
        _optional_vectors(graph, grad_grad_vel, "grad_grad_vel"),
    )
    return _map(graph, vel, *tangents), *_sum(graph, grad_scalars, vel, *tangents)
