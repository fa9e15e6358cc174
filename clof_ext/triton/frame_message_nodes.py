"""The sums over the edges of each node that end frame_message's backward pass."""

import triton
import triton.language as tl

from . import memory, number, vec3
from ._host import jit
from .edge_frame import axis_of, axis_scale, axis_vjp, frame_parts, frame_vjp
from .frame_message_tile import basis_vectors, clamped, combined, edge_geometry, mean_scale, weight_of


@triton.jit
def first_not_below(numbers, low, high, limit):
    """For each part [low, high) of ascending numbers the first place whose number is limit or more."""
    while tl.max(high - low) > 0:
        middle = (low + high) // 2
        searched = low < high
        below = tl.load(numbers + middle, mask=searched, other=0) < limit
        low = tl.where(searched & below, middle + 1, low)
        high = tl.where(searched & (below == 0), middle, high)
    return low


@jit
def node_sum_kernel(
    rows,
    edges,
    offsets,
    num_nodes,
    num_edges,
    sums,
    begin,
    end,
    WIDTH: tl.constexpr,
    WHOLE: tl.constexpr,
    NODES: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Add the rows of edges from begin to end to their receivers, sums[0], and to their senders, sums[1].

    Where these edges are the WHOLE graph, the sums are written instead. A node's edges lie in ascending order.
    """
    blocks: tl.constexpr = tl.cdiv(WIDTH, COLUMNS)
    role = tl.program_id(0) % 2
    block = tl.program_id(0) // 2
    node = (block // blocks).to(tl.int64) * NODES + tl.arange(0, NODES)
    column = (block % blocks) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    graph = (edges, offsets, num_nodes, num_edges)
    exists = node < num_nodes
    first, last = memory.segment_of(graph, node, exists, role)
    of_role = edges + num_edges.to(tl.int64) * (2 + role)
    out = sums + (num_nodes.to(tl.int64) * role + node[:, None]) * WIDTH + column
    seen = exists[:, None] & (column < WIDTH)
    total = tl.zeros([NODES, COLUMNS], sums.dtype.element_ty)
    if not WHOLE:
        # Most nodes have no edge in a chunk: for them nothing is searched, read or written.
        some = first < last
        some &= tl.load(of_role + first, mask=some, other=0) < end
        some &= tl.load(of_role + last - 1, mask=some, other=0) >= begin
        last = tl.where(some, last, first)
        first = first_not_below(of_role, first, last, begin)
        last = first_not_below(of_role, first, last, end)
        seen &= (first < last)[:, None]
        total = tl.load(out, mask=seen, other=0.0)
    for step in range(0, tl.max(last - first)):
        mask = first + step < last
        edge = tl.load(of_role + first + step, mask=mask, other=0).to(tl.int64)
        place = (edge - begin)[:, None] * WIDTH + column
        total += tl.load(rows + place, mask=mask[:, None] & (column < WIDTH), other=0.0).to(total.dtype)
    tl.store(out, total, mask=seen)


@triton.jit
def uncut(vector, grad, spec):
    """The gradient where the clamp let a component pass, elsewhere 0."""
    bounded = clamped(vector, spec)
    out = ()
    for axis in tl.static_range(3):
        out = out + (tl.where(bounded[axis] == vector[axis], grad[axis], 0.0),)
    return out


@triton.jit
def position_vjp(x_i, x_j, d, coefficients, grad, spec):
    """Gradients of an edge's vector by its receiver's and its sender's position."""
    rows = ()
    for k in tl.static_range(len(coefficients)):
        row = ()
        for axis in tl.static_range(3):
            row = row + ((coefficients[k] * grad[axis],),)
        rows = rows + (row,)
    if spec.basis == "radial":
        scale = axis_scale(d, 0.0, spec.mode)
        by_d = axis_vjp(scale, axis_of(d, scale, spec.mode), rows[0], spec.mode)
        return by_d, vec3.neg(by_d)
    else:
        return frame_vjp(frame_parts(x_i, x_j, spec.mode), x_i, rows, spec.mode)


@jit
def position_kernel(
    inputs,
    edges,
    offsets,
    num_nodes,
    num_edges,
    grad_vector,
    coefficients,
    grad_radial,
    grad_pos,
    spec,
    NODES: tl.constexpr,
    LANES: tl.constexpr,
):
    """For each node: the gradient by its position, from all edges that it receives and sends."""
    geometry: tl.constexpr = inputs.pos.dtype.element_ty
    axes: tl.constexpr = 1 if spec.basis == "radial" else 3
    node = memory.rows_of_program(NODES)
    graph = (edges, offsets, num_nodes, num_edges)
    zero = tl.zeros([NODES, LANES], geometry)
    totals = (zero, zero, zero)
    for role in range(2):
        start, end = memory.segment_of(graph, node, node < num_nodes, role)
        for step in range(0, tl.max(end - start), LANES):
            edge, mask = memory.edges_from(graph, start + step, end, role, LANES)
            x_i, x_j, d, _ = edge_geometry(inputs.pos, graph, edge, mask, spec)
            receiver = memory.node_of(graph, edge, mask, 0)
            scale = mean_scale(graph, receiver, mask, geometry, spec.vector_mean)
            scale *= weight_of(inputs, edge, mask, geometry)
            grad, of_edge = (), ()
            for axis in tl.static_range(3):
                grad = grad + (tl.load(grad_vector + receiver * 3 + axis, mask=mask, other=0.0) * scale,)
            for k in tl.static_range(axes):
                place = num_edges.to(tl.int64) * k + edge
                of_edge = of_edge + (tl.load(coefficients + place, mask=mask, other=0.0),)
            vector = combined(of_edge, basis_vectors(x_i, x_j, d, spec))
            by_receiver, by_sender = position_vjp(x_i, x_j, d, of_edge, uncut(vector, grad, spec), spec)
            by_r = (2.0 * tl.load(grad_radial + edge, mask=mask, other=0.0),)
            by_receiver = vec3.add(by_receiver, vec3.scale(by_r, d))
            by_sender = vec3.sub(by_sender, vec3.scale(by_r, d))
            totals = number.add(totals, memory.of_role(role, number.results(by_receiver), number.results(by_sender)))
    memory.store_values(grad_pos, node * 3, node < num_nodes, memory.lane_sums(totals))
