"""frame_message's backward pass for wide features: a kernel for each Linear, which stays on the chip.

``rerun_kernel`` runs a chunk's edges forward again and keeps the inputs of activations in an array in global memory.
Then a kernel for each Linear, from the last to the first, replaces the inputs of the activation before it by their
gradients. Its programs hold the weight in shared memory and sums of its gradient in registers for all of their tiles,
and add them to sums of their own in memory once: no atomics. See ``frame_message_backward`` for what edges leave.
"""

import triton
import triton.language as tl

from . import memory, number
from ._host import jit
from .activation import activated, sigmoid
from .frame_message_backward import (
    HEAD_ROWS,
    add_to,
    as_rows,
    by_head,
    coefficient_gradients,
    message_gradients,
    through_gate,
    vector_gradients,
)
from .frame_message_tile import (
    all_moved,
    along,
    basis_vectors,
    coefficients_of,
    edge_geometry,
    first_layer,
    gate_of,
    linear,
    load_edge_block,
    load_edge_weights,
    load_square,
    moved,
    seeming_offset,
    store_edge_block,
    weight_of,
)
from .product import product

_HEAD_ROWS = tl.constexpr(HEAD_ROWS)


@triton.jit
def unaligned(base):
    """The same pointer, of which the compiler does not know that it is at a multiple of 16 bytes, if it is of float32.

    Then a lane holds single numbers of a row that it loads. Products of TF32 numbers take operands that are transposed
    in shared memory: lanes that hold four numbers each would write to two or four of its banks at a time, and these
    write to eight. All that is loaded, stored and computed with such a row has to be spread over lanes in this way.
    """
    return base + tl.minimum(tl.program_id(0), 0) if base.dtype.element_ty == tl.float32 else base


@triton.jit
def load_tile(base, first, ROWS: tl.constexpr, spec):
    """Rows of a chunk from the first one on, padded with zeros. The array holds whole tiles: no row needs a mask."""
    column = tl.arange(0, spec.padded)[None, :]
    place = base + first * spec.hidden + (tl.arange(0, ROWS)[:, None] * spec.hidden + column)
    if spec.hidden == spec.padded:
        return tl.load(place)
    else:
        return tl.load(place, mask=column < spec.hidden, other=0.0)


@triton.jit
def store_tile(base, first, values, spec):
    column = tl.arange(0, spec.padded)[None, :]
    place = base + first * spec.hidden + (tl.arange(0, values.shape[0])[:, None] * spec.hidden + column)
    values = values.to(base.dtype.element_ty)
    if spec.hidden == spec.padded:
        tl.store(place, values)
    else:
        tl.store(place, values, mask=column < spec.hidden)


@jit
def rerun_kernel(
    inputs,
    given_weights,
    edges,
    offsets,
    num_nodes,
    num_edges,
    grad_message,
    grad_vector,
    coefficient_trace,
    edge_weight_trace,
    head_sums,
    gate_sums,
    kept,
    chunk,
    begin,
    end,
    spec,
    SUMS: tl.constexpr,
    EDGES: tl.constexpr,
):
    """For each edge from begin to end: inputs of activations, gradients by the head and by the last of those inputs."""
    geometry: tl.constexpr = inputs.pos.dtype.element_ty
    stored: tl.constexpr = inputs.receiver_part.dtype.element_ty
    depth: tl.constexpr = len(given_weights.layers) + 1
    graph = (edges, offsets, num_nodes, num_edges)
    program = tl.program_id(0).to(tl.int64)
    size = chunk.to(tl.int64) * spec.hidden
    head = tl.zeros([_HEAD_ROWS, spec.padded], geometry)
    head_bias = tl.zeros([_HEAD_ROWS, EDGES], geometry)
    gate_sum = tl.zeros([spec.padded], geometry)
    gate_bias = tl.zeros([EDGES], geometry)
    for start in range(begin + program * EDGES, end, tl.num_programs(0) * EDGES):
        weights = all_moved(given_weights, seeming_offset(start))
        edge = start + tl.arange(0, EDGES)
        mask = edge < end
        radial = edge_geometry(inputs.pos, graph, edge, mask, spec)[3]
        z = first_layer(inputs, weights, graph, edge, mask, radial, geometry, spec)
        for k in tl.static_range(1, depth):
            store_tile(kept + (k - 1) * size, start - begin, z, spec)
            z = linear(activated(z, spec.activation)[0], weights.layers[k - 1], stored, spec)
        message, slope = activated(z, spec.activation)
        gate = tl.full([EDGES], 1.0, geometry)
        if len(weights.gate) > 0:
            gate = sigmoid(gate_of(message, weights.gate, spec))
        receiver = memory.node_of(graph, edge, mask, 0)
        by_weight = tl.zeros([EDGES], geometry)
        if len(inputs.edge_weight) > 0:
            by_message = message_gradients(grad_message, graph, receiver, mask, geometry, spec)
            by_weight = tl.sum(by_message * message, 1) * gate
        last = message * gate[:, None]
        head_slope = tl.full([EDGES, spec.padded], 1.0, geometry)
        if len(weights.coordinates) > 0:
            store_tile(kept + (depth - 1) * size, start - begin, z, spec)
            last, head_slope = activated(linear(last, weights.coordinates, stored, spec), spec.activation)
        coefficients = coefficients_of(last, weights.head, spec)

        by_vector = vector_gradients(grad_vector, graph, receiver, mask, geometry, spec)
        weight = weight_of(inputs, edge, mask, geometry)
        # Read again: kept from above, it would take registers that the products need.
        x_i, x_j, d, _ = edge_geometry(inputs.pos + seeming_offset(start + EDGES), graph, edge, mask, spec)
        vectors = basis_vectors(x_i, x_j, d, spec)
        grads, vector = coefficient_gradients(coefficients, vectors, number.scaled(by_vector, weight), spec)
        for k in tl.static_range(len(grads)):
            tl.store(coefficient_trace + k * num_edges.to(tl.int64) + edge, coefficients[k], mask=mask)
        if len(inputs.edge_weight) > 0:
            for axis in tl.static_range(3):
                by_weight += by_vector[axis] * vector[axis]
            tl.store(edge_weight_trace[0] + edge, by_weight.to(stored), mask=mask)
        rows = as_rows(grads)
        head = product(rows, last, head, stored, spec.precision)
        head_bias += rows
        grad = by_head(grads, weights.head, spec) * head_slope
        if len(weights.coordinates) > 0:
            store_tile(kept + depth * size, start - begin, grad, spec)
        else:
            by_message = message_gradients(grad_message, graph, receiver, mask, geometry, spec)
            grad += by_message * weight[:, None]
            if len(weights.gate) > 0:
                grad, by_gate = through_gate(grad, message, gate, weights.gate, spec)
                gate_sum += tl.sum(by_gate[:, None] * message, 0)
                gate_bias += by_gate
            store_tile(kept + (depth - 1) * size, start - begin, grad * slope, spec)
    own_head = moved(head_sums, program * SUMS)
    add_to(own_head[0], head)
    if len(head_sums) > 1:
        add_to(own_head[1], tl.sum(head_bias, 1))
    if len(given_weights.coordinates) == 0 and len(gate_sums) > 0:
        own_gate = moved(gate_sums, program * SUMS)
        add_to(own_gate[0], gate_sum)
        add_to(own_gate[1], tl.sum(as_rows((gate_bias,)), 1))


@triton.jit
def through_linear(grads, kept, square, first, ROWS: tl.constexpr, DTYPE: tl.constexpr, spec):
    """A tile's gradients by a Linear's outputs and by its inputs, which are an activation's, with that one's slopes."""
    grad = load_tile(grads, first, ROWS, spec)
    z = load_tile(kept, first, ROWS, spec).to(DTYPE)
    zero = tl.zeros([ROWS, spec.padded], DTYPE)
    out = product(grad, square, zero, grads.dtype.element_ty, spec.precision)
    value, slope = activated(z, spec.activation)
    return grad, out, value, slope


@jit
def coordinates_kernel(
    inputs,
    gate_layer,
    given_weight,
    edges,
    offsets,
    num_nodes,
    num_edges,
    grad_message,
    gate_sums,
    weight_sum,
    bias_sum,
    grads,
    kept,
    begin,
    end,
    spec,
    SUMS: tl.constexpr,
    EDGES: tl.constexpr,
):
    """coord_mlp's first Linear, the message and its gate, and the activation that they follow."""
    geometry: tl.constexpr = inputs.pos.dtype.element_ty
    stored: tl.constexpr = grads.dtype.element_ty
    graph = (edges, offsets, num_nodes, num_edges)
    program = tl.program_id(0).to(tl.int64)
    grads = unaligned(grads)
    kept = unaligned(kept)
    grad_message = unaligned(grad_message)
    square = load_square(given_weight, spec)
    by_square = tl.zeros([spec.padded, spec.padded], geometry)
    by_bias = tl.zeros([spec.padded], geometry)
    gate_sum = tl.zeros([spec.padded], geometry)
    gate_bias = tl.zeros([EDGES], geometry)
    for start in range(begin + program * EDGES, end, tl.num_programs(0) * EDGES):
        edge = start + tl.arange(0, EDGES)
        mask = edge < end
        grad, out, message, slope = through_linear(grads, kept, square, start - begin, EDGES, geometry, spec)
        gate = tl.full([EDGES], 1.0, geometry)
        if len(gate_layer) > 0:
            gate = sigmoid(gate_of(message, gate_layer, spec))
        by_square = product(tl.trans(grad), message * gate[:, None], by_square, stored, spec.precision)
        by_bias += tl.sum(grad.to(geometry), 0)
        receiver = memory.node_of(graph, edge, mask, 0)
        by_message = message_gradients(grad_message, graph, receiver, mask, geometry, spec)
        out += by_message * weight_of(inputs, edge, mask, geometry)[:, None]
        if len(gate_layer) > 0:
            out, by_gate = through_gate(out, message, gate, gate_layer, spec)
            gate_sum += tl.sum(by_gate[:, None] * message, 0)
            gate_bias += by_gate
        store_tile(kept, start - begin, out * slope, spec)
    own = program * SUMS
    add_to(weight_sum + own, by_square)
    add_to(bias_sum + own, by_bias)
    if len(gate_layer) > 0:
        add_to(gate_sums[0] + own, gate_sum)
        add_to(gate_sums[1] + own, tl.sum(as_rows((gate_bias,)), 1))


@jit
def layer_kernel(
    pos,
    given_weight,
    weight_sum,
    bias_sum,
    grads,
    kept,
    count,
    spec,
    SUMS: tl.constexpr,
    EDGES: tl.constexpr,
):
    """A Linear of edge_mlp after the first, and the activation before it."""
    geometry: tl.constexpr = pos.dtype.element_ty
    stored: tl.constexpr = grads.dtype.element_ty
    program = tl.program_id(0).to(tl.int64)
    grads = unaligned(grads)
    kept = unaligned(kept)
    square = load_square(given_weight, spec)
    by_square = tl.zeros([spec.padded, spec.padded], geometry)
    by_bias = tl.zeros([spec.padded], geometry)
    for start in range(program * EDGES, count.to(tl.int64), tl.num_programs(0) * EDGES):
        grad, out, value, slope = through_linear(grads, kept, square, start, EDGES, geometry, spec)
        by_square = product(tl.trans(grad), value, by_square, stored, spec.precision)
        by_bias += tl.sum(grad.to(geometry), 0)
        store_tile(kept, start, out * slope, spec)
    add_to(weight_sum + program * SUMS, by_square)
    add_to(bias_sum + program * SUMS, by_bias)


@jit
def first_kernel(
    inputs,
    weights,
    edges,
    offsets,
    num_nodes,
    num_edges,
    traces,
    sums,
    begin,
    end,
    spec,
    SUMS: tl.constexpr,
    EDGES: tl.constexpr,
):
    """The columns of the first Linear for r and for edge features: each program has one block of these features."""
    geometry: tl.constexpr = inputs.pos.dtype.element_ty
    stored: tl.constexpr = traces.first.dtype.element_ty
    blocks: tl.constexpr = tl.cdiv(spec.edge_dim, spec.edge_block) if spec.edge_dim > 0 else 1
    graph = (edges, offsets, num_nodes, num_edges)
    program = (tl.program_id(0) // blocks).to(tl.int64)
    programs = tl.num_programs(0) // blocks
    block = tl.program_id(0) % blocks
    column = block * spec.edge_block
    by_columns = tl.zeros([spec.padded, spec.edge_block], geometry)
    by_radial = tl.zeros([EDGES, spec.padded], geometry)
    if len(weights.edge) > 0:
        columns = load_edge_weights(weights.edge[0], column, spec)
    for start in range(begin + program * EDGES, end, programs * EDGES):
        edge = start + tl.arange(0, EDGES)
        mask = edge < end
        grad = load_tile(traces.first, start - begin, EDGES, spec)
        if len(weights.edge) > 0:
            features = load_edge_block(inputs.edge_attr[0], edge, mask, column, spec)
            by_columns = product(tl.trans(grad), features, by_columns, stored, spec.precision)
            zero = tl.zeros([EDGES, spec.edge_block], geometry)
            out = product(grad, columns, zero, stored, spec.precision)
            store_edge_block(traces.edge_attr[0], edge, mask, column, out, spec)
        if block == 0:
            by_first = grad.to(geometry)
            by_radial += by_first * edge_geometry(inputs.pos, graph, edge, mask, spec)[3][:, None]
            tl.store(traces.radial + edge, along(by_first, weights.radial, spec), mask=mask)
    own = program * SUMS
    if len(weights.edge) > 0:
        # The sums of the blocks lie side by side.
        add_to(sums.edge[0] + own + block * (spec.padded * spec.edge_block), by_columns)
    if block == 0:
        add_to(sums.radial + own, tl.sum(by_radial, 0))
