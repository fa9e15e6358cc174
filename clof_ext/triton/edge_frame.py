"""Complete local frame of every edge, its backward pass and the backward pass of that."""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..reference.edge_frame import PARALLEL_ROUNDINGS
from . import memory, number, vec3
from ._host import EDGES, LANES, NODES, Graph, checked_like, jit, launch, operator

_ROUNDINGS = tl.constexpr(PARALLEL_ROUNDINGS)
_EPSILON_32 = tl.constexpr(torch.finfo(torch.float32).eps)
_EPSILON_64 = tl.constexpr(torch.finfo(torch.float64).eps)


@triton.jit
def axis_scale(vector, threshold_squared, MODE: tl.constexpr):
    """The factor that makes an axis of a vector and, where the axis is no unit vector, the inverse of its length."""
    squared = vec3.dot(vector, vector)
    defined = squared[0] > threshold_squared
    norm = number.square_root(number.where(defined, squared, 1.0))
    inverse = number.reciprocal(norm)
    if MODE == "soft":
        factor = number.reciprocal(number.shift(number.where(defined, norm, 0.0), 1.0))
        return factor, number.where(defined, number.shift(inverse, 1.0), 0.0)
    else:
        return (number.where(defined, inverse, 0.0),)


@triton.jit
def axis_of(vector, scale, MODE: tl.constexpr):
    if MODE == "raw":
        return vector
    else:
        return vec3.scale(scale[0], vector)


@triton.jit
def axis_vjp(scale, axis, grad, MODE: tl.constexpr):
    """Gradient by the vector of an axis. No power of its norm is made, which for w is a square of lengths."""
    if MODE == "raw":
        return grad
    else:
        along = vec3.dot(grad, axis)
        if MODE == "soft":
            along = number.mul(scale[1], along)
        return vec3.scale(scale[0], vec3.sub(grad, vec3.scale(along, axis)))


@triton.jit
def parallel_threshold(d, x_i):
    """What |d x x_i|^2 must pass for its direction to be more than rounding."""
    rounding = _ROUNDINGS * (_EPSILON_64 if d[0][0].dtype == tl.float64 else _EPSILON_32)
    return rounding * rounding * (vec3.dot(d, d)[0] * vec3.dot(x_i, x_i)[0])


@triton.jit
def frame_parts(x_i, x_j, MODE: tl.constexpr):
    """What a frame and its derivative share: d, the scales of a and b, and the frame, rows a, b, c."""
    d = vec3.sub(x_i, x_j)
    # x_i x x_j, written so that it is exactly 0 for coincident points.
    w = vec3.cross(d, x_i)
    scale_a = axis_scale(d, 0.0, MODE)
    scale_b = axis_scale(w, parallel_threshold(d, x_i), MODE)
    a = axis_of(d, scale_a, MODE)
    b = axis_of(w, scale_b, MODE)
    return d, scale_a, scale_b, (a, b, vec3.cross(a, b))


@triton.jit
def frame_of(x_i, x_j, MODE: tl.constexpr):
    return frame_parts(x_i, x_j, MODE)[3]


@triton.jit
def frame_vjp(parts, x_i, grad, MODE: tl.constexpr):
    """Gradients by the positions of receiver and sender, given the gradient by the frame."""
    d, scale_a, scale_b, frame = parts
    grad_a = vec3.add(grad[0], vec3.cross(frame[1], grad[2]))
    grad_b = vec3.add(grad[1], vec3.cross(grad[2], frame[0]))
    grad_d = axis_vjp(scale_a, frame[0], grad_a, MODE)
    grad_w = axis_vjp(scale_b, frame[1], grad_b, MODE)
    total_d = vec3.add(grad_d, vec3.cross(x_i, grad_w))
    return vec3.add(total_d, vec3.cross(grad_w, d)), vec3.neg(total_d)


@jit
def map_kernel(
    pos,
    pos_tangent,
    edges,
    offsets,
    num_nodes,
    num_edges,
    frame,
    MODE: tl.constexpr,
    DUAL: tl.constexpr,
    EDGES: tl.constexpr,
):
    """For each edge: its frame, or the derivative of its frame in the direction of the tangents."""
    edge = memory.rows_of_program(EDGES)
    mask = edge < num_edges
    x_i, x_j = memory.load_ends(pos, pos_tangent, (edges, offsets, num_nodes, num_edges), edge, mask, DUAL)
    rows = frame_of(x_i, x_j, MODE)
    for k in tl.static_range(3):
        memory.store_values(frame, edge * 9 + 3 * k, mask, number.results(rows[k]))


@jit
def sum_kernel(
    grad_frame,
    grad_tangent,
    pos,
    pos_tangent,
    edges,
    offsets,
    num_nodes,
    num_edges,
    grad_pos,
    MODE: tl.constexpr,
    DUAL: tl.constexpr,
    NODES: tl.constexpr,
    LANES: tl.constexpr,
):
    """For each node: its gradient, or the derivative of that in the direction of the tangents."""
    node = memory.rows_of_program(NODES)
    graph = (edges, offsets, num_nodes, num_edges)
    zero = tl.zeros([NODES, LANES], pos.dtype.element_ty)
    totals = (zero, zero, zero)
    for role in range(2):
        start, end = memory.segment_of(graph, node, node < num_nodes, role)
        for step in range(0, tl.max(end - start), LANES):
            edge, mask = memory.edges_from(graph, start + step, end, role, LANES)
            x_i, x_j = memory.load_ends(pos, pos_tangent, graph, edge, mask, DUAL)
            grad = memory.load_matrix(grad_frame, grad_tangent, edge * 9, mask, pos.dtype.element_ty, DUAL)
            receiver, sender = frame_vjp(frame_parts(x_i, x_j, MODE), x_i, grad, MODE)
            totals = number.add(totals, memory.of_role(role, number.results(receiver), number.results(sender)))
    memory.store_values(grad_pos, node * 3, node < num_nodes, memory.lane_sums(totals))


def map_edges(graph: Graph, pos_tangent: Tensor | None = None) -> Tensor:
    """The frames of all edges, or their derivative in the direction of pos_tangent."""
    frame = graph.pos.new_empty(graph.num_edges, 3, 3)
    launch(
        map_kernel,
        triton.cdiv(graph.num_edges, EDGES),
        frame,
        graph.pos,
        pos_tangent,
        *graph.plan,
        frame,
        MODE=graph.mode,
        DUAL=pos_tangent is not None,
        EDGES=EDGES,
    )
    return frame


def sum_nodes(
    graph: Graph, grad_frame: Tensor, pos_tangent: Tensor | None = None, grad_tangent: Tensor | None = None
) -> Tensor:
    """The gradient by the positions, or its derivative in the direction of the tangents."""
    grad_pos = torch.empty_like(graph.pos)
    launch(
        sum_kernel,
        triton.cdiv(graph.num_nodes, NODES),
        grad_pos,
        grad_frame,
        grad_tangent,
        graph.pos,
        pos_tangent,
        *graph.plan,
        grad_pos,
        MODE=graph.mode,
        DUAL=pos_tangent is not None,
        NODES=NODES,
        LANES=LANES,
    )
    return grad_pos


def _checked_grad(grad_frame: Tensor, graph: Graph) -> Tensor:
    return checked_like(grad_frame, graph.pos, (graph.num_edges, 3, 3), "grad_frame", "pos")


@operator
def edge_frame(pos: Tensor, edges: Tensor, offsets: Tensor, mode: str) -> Tensor:
    return map_edges(Graph.checked(pos, edges, offsets, mode))


@operator
def edge_frame_backward(grad_frame: Tensor, pos: Tensor, edges: Tensor, offsets: Tensor, mode: str) -> Tensor:
    graph = Graph.checked(pos, edges, offsets, mode)
    return sum_nodes(graph, _checked_grad(grad_frame, graph))


@operator
def edge_frame_double_backward(
    grad_grad_pos: Tensor, grad_frame: Tensor, pos: Tensor, edges: Tensor, offsets: Tensor, mode: str
) -> tuple[Tensor, Tensor]:
    graph = Graph.checked(pos, edges, offsets, mode)
    tangent = graph.vectors(grad_grad_pos, "grad_grad_pos")
    return map_edges(graph, tangent), sum_nodes(graph, _checked_grad(grad_frame, graph), tangent)
