"""The tiles of frame_message's backward pass: one kernel that runs a tile again and then in reverse.

A program walks over tiles of edges in the order of their numbers. Inputs of activations go through a scratch array of
its own, which stays in the caches, and gradients of weights into sums of its own, which the host adds in a fixed order:
no atomics. Of every edge it leaves the gradient by the first Linear's output and a few numbers, see ``Traces``.
"""

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import memory, number
from ._host import jit
from .activation import activated, sigmoid
from .frame_message_tile import (
    all_moved,
    along,
    basis_vectors,
    clamped,
    coefficients_of,
    combined,
    edge_geometry,
    first_layer,
    gate_of,
    linear,
    load_edge_block,
    load_edge_weights,
    load_rows,
    load_square,
    load_vector,
    mean_scale,
    seeming_offset,
    store_edge_block,
    store_rows,
    weight_of,
)
from .product import product

# Rows of the smallest product: the gradients by up to three coefficients are rows of one operand.
HEAD_ROWS = 16
_HEAD_ROWS = tl.constexpr(HEAD_ROWS)


class Traces(NamedTuple):
    """What the kernel leaves of edges.

    Attributes:
        first: (chunk, H) gradient by the first Linear's output, of the edges of one chunk.
        coefficients: (1 or 3, E) coefficients of the basis.
        radial: (E,) gradient by r.
        edge_attr: (E, D) gradient by edge_attr, where there are such features.
        edge_weight: (E,) gradient by edge_weight, where there is one.
    """

    first: Tensor
    coefficients: Tensor
    radial: Tensor
    edge_attr: tuple
    edge_weight: tuple


@triton.jit
def add_to(sums, values):
    """Add a vector or a matrix to an array of sums."""
    if len(values.shape) == 1:
        place = sums + tl.arange(0, values.shape[0])
    else:
        place = sums + tl.arange(0, values.shape[0])[:, None] * values.shape[1] + tl.arange(0, values.shape[1])[None, :]
    tl.store(place, tl.load(place) + values)


@triton.jit
def add_product(sums, a, b, STORED: tl.constexpr, spec):
    """Add a b to an array of sums."""
    rows: tl.constexpr = a.shape[0]
    columns: tl.constexpr = b.shape[1]
    place = sums + tl.arange(0, rows)[:, None] * columns + tl.arange(0, columns)[None, :]
    tl.store(place, product(a, b, tl.load(place), STORED, spec.precision))


@triton.jit
def add_layer(sums, grad, z, STORED: tl.constexpr, spec):
    """Add a tile's gradients by the weight and bias of a Linear that was applied to z."""
    add_product(sums[0], tl.trans(grad), z, STORED, spec)
    add_to(sums[1], tl.sum(grad, 0))


@triton.jit
def keep(scratch, layer, tile):
    rows: tl.constexpr = tile.shape[0]
    columns: tl.constexpr = tile.shape[1]
    place = (layer * rows + tl.arange(0, rows)[:, None]) * columns + tl.arange(0, columns)[None, :]
    tl.store(scratch + place, tile.to(scratch.dtype.element_ty))


@triton.jit
def kept(scratch, layer, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DTYPE: tl.constexpr):
    place = (layer * ROWS + tl.arange(0, ROWS)[:, None]) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    return tl.load(scratch + place).to(DTYPE)


@triton.jit
def coefficient_gradients(coefficients, vectors, grad_vector, spec):
    """Gradients by the head's outputs; where a component of the vector was cut, its gradient is 0."""
    vector = combined(coefficients, vectors)
    bounded = clamped(vector, spec)
    grads = ()
    for k in tl.static_range(len(vectors)):
        total = tl.zeros_like(grad_vector[0])
        for axis in tl.static_range(3):
            inside = bounded[axis] == vector[axis]
            total += tl.where(inside, vectors[k][axis] * grad_vector[axis], 0.0)
        if spec.tanh:
            total *= 1.0 - coefficients[k] * coefficients[k]
        grads = grads + (total,)
    return grads, bounded


@triton.jit
def as_rows(values):
    """Up to three vectors as the first rows of a matrix of zeros."""
    row = tl.arange(0, _HEAD_ROWS)[:, None]
    out = tl.zeros([_HEAD_ROWS, values[0].shape[0]], values[0].dtype)
    for k in tl.static_range(len(values)):
        out = tl.where(row == k, values[k][None, :], out)
    return out


@triton.jit
def by_head(grads, head, spec):
    """The gradient by the head's input."""
    DTYPE: tl.constexpr = grads[0].dtype
    out = grads[0][:, None] * load_vector(head[0], spec, DTYPE)[None, :]
    for k in tl.static_range(1, len(grads)):
        out += grads[k][:, None] * load_vector(head[0] + k * spec.hidden, spec, DTYPE)[None, :]
    return out


@triton.jit
def vector_gradients(grad_vector, graph, receiver, mask, DTYPE: tl.constexpr, spec):
    """The gradient by each edge's vector, before the edge's weight."""
    scale = mean_scale(graph, receiver, mask, DTYPE, spec.vector_mean)
    out = ()
    for axis in tl.static_range(3):
        out = out + (tl.load(grad_vector + receiver * 3 + axis, mask=mask, other=0.0) * scale,)
    return out


@triton.jit
def message_gradients(grad_message, graph, receiver, mask, DTYPE: tl.constexpr, spec):
    """The gradient by each edge's message, before the edge's weight."""
    rows = load_rows(grad_message, receiver, mask, spec.hidden, spec.padded).to(DTYPE)
    return rows * mean_scale(graph, receiver, mask, DTYPE, spec.message_mean)[:, None]


@triton.jit
def through_gate(grad, message, gate, layer, spec):
    """Gradients by the message before its gate and by what att_mlp says, given that by the gated message."""
    by_gate = tl.sum(grad * message, 1) * gate * (1.0 - gate)
    return grad * gate[:, None] + by_gate[:, None] * load_vector(layer[0], spec, grad.dtype)[None, :], by_gate


@triton.jit
def store_edge_gradients(grad, grad_edge_attr, edge_attr, weight, sums, edge, mask, STORED: tl.constexpr, spec):
    """Gradients by edge features and by the columns of the first Linear that multiply them."""
    for column in tl.static_range(0, spec.edge_dim, spec.edge_block):
        features = load_edge_block(edge_attr, edge, mask, column, spec)
        add_product(sums[column // spec.edge_block], tl.trans(grad), features, STORED, spec)
        zero = tl.zeros([grad.shape[0], spec.edge_block], grad.dtype)
        out = product(grad, load_edge_weights(weight, column, spec), zero, STORED, spec.precision)
        store_edge_block(grad_edge_attr, edge, mask, column, out, spec)


@jit
def tile_kernel(
    inputs,
    given_weights,
    edges,
    offsets,
    num_nodes,
    num_edges,
    grad_message,
    grad_vector,
    traces,
    all_sums,
    all_scratch,
    begin,
    end,
    spec,
    SUMS: tl.constexpr,
    EDGES: tl.constexpr,
):
    """For each edge from begin to end: gradients of everything but positions, which need all edges of a node."""
    geometry: tl.constexpr = inputs.pos.dtype.element_ty
    stored: tl.constexpr = inputs.receiver_part.dtype.element_ty
    depth: tl.constexpr = len(given_weights.layers) + 1
    graph = (edges, offsets, num_nodes, num_edges)
    program = tl.program_id(0)
    for start in range(begin + program.to(tl.int64) * EDGES, end, tl.num_programs(0) * EDGES):
        # Another thread may still read what this tile will write over.
        tl.debug_barrier()
        nothing = seeming_offset(start)
        weights = all_moved(given_weights, nothing)
        sums = all_moved(all_sums, program.to(tl.int64) * SUMS + nothing)
        scratch = all_scratch + program.to(tl.int64) * (depth * EDGES * spec.padded) + nothing
        edge = start + tl.arange(0, EDGES)
        mask = edge < end

        # The forward pass again.
        radial = edge_geometry(inputs.pos, graph, edge, mask, spec)[3]
        z = first_layer(inputs, weights, graph, edge, mask, radial, geometry, spec)
        keep(scratch, 0, z)
        for k in tl.static_range(1, depth):
            z = linear(activated(z, spec.activation)[0], weights.layers[k - 1], stored, spec)
            keep(scratch, k, z)
        z = activated(z, spec.activation)[0]
        gate = tl.full([EDGES], 1.0, geometry)
        if len(weights.gate) > 0:
            gate = sigmoid(gate_of(z, weights.gate, spec))
            z *= gate[:, None]
        slope = tl.full([EDGES, spec.padded], 1.0, geometry)
        if len(weights.coordinates) > 0:
            z, slope = activated(linear(z, weights.coordinates, stored, spec), spec.activation)
        coefficients = coefficients_of(z, weights.head, spec)

        # The head, and the vector.
        receiver = memory.node_of(graph, edge, mask, 0)
        weight = weight_of(inputs, edge, mask, geometry)
        by_vector = vector_gradients(grad_vector, graph, receiver, mask, geometry, spec)
        x_i, x_j, d, _ = edge_geometry(inputs.pos, graph, edge, mask, spec)
        vectors = basis_vectors(x_i, x_j, d, spec)
        grads, vector = coefficient_gradients(coefficients, vectors, number.scaled(by_vector, weight), spec)
        for k in tl.static_range(len(grads)):
            tl.store(traces.coefficients + k * num_edges.to(tl.int64) + edge, coefficients[k], mask=mask)
        rows = as_rows(grads)
        add_product(sums.head[0], rows, z, stored, spec)
        if len(sums.head) > 1:
            add_to(sums.head[1], tl.sum(rows, 1))
        grad = by_head(grads, weights.head, spec) * slope

        # The message, gated, and the Linear before the head. What other threads kept is read from here on.
        tl.debug_barrier()
        if len(weights.coordinates) > 0:
            message = activated(kept(scratch, depth - 1, EDGES, spec.padded, geometry), spec.activation)[0]
            add_layer(sums.coordinates, grad, message * gate[:, None], stored, spec)
            zero = tl.zeros([EDGES, spec.padded], geometry)
            grad = product(grad, load_square(weights.coordinates[0], spec), zero, stored, spec.precision)
        message, slope = activated(kept(scratch, depth - 1, EDGES, spec.padded, geometry), spec.activation)
        by_message = message_gradients(grad_message, graph, receiver, mask, geometry, spec)
        if len(inputs.edge_weight) > 0:
            by_weight = tl.sum(by_message * message, 1) * gate
            for axis in tl.static_range(3):
                by_weight += by_vector[axis] * vector[axis]
            tl.store(traces.edge_weight[0] + edge, by_weight.to(stored), mask=mask)
        grad += by_message * weight[:, None]
        if len(weights.gate) > 0:
            grad, by_gate = through_gate(grad, message, gate, weights.gate, spec)
            add_to(sums.gate[0], tl.sum(by_gate[:, None] * message, 0))
            add_to(sums.gate[1], tl.sum(as_rows((by_gate,)), 1))
        grad *= slope

        # edge_mlp in reverse.
        for step in tl.static_range(1, depth):
            z = activated(kept(scratch, depth - 1 - step, EDGES, spec.padded, geometry), spec.activation)[0]
            add_layer(sums.layers[depth - 1 - step], grad, z, stored, spec)
            zero = tl.zeros([EDGES, spec.padded], geometry)
            grad = product(grad, load_square(weights.layers[depth - 1 - step][0], spec), zero, stored, spec.precision)
            # Computed anew: kept from above, slopes would take the registers that the products need.
            grad *= activated(kept(scratch, depth - 1 - step, EDGES, spec.padded, geometry), spec.activation)[1]
        store_rows(traces.first, edge - begin, mask, grad, spec.hidden, spec.padded)
        add_to(sums.radial, tl.sum(grad * radial[:, None], 0))
        tl.store(traces.radial + edge, along(grad, weights.radial, spec), mask=mask)
        if len(weights.edge) > 0:
            store_edge_gradients(
                grad, traces.edge_attr[0], inputs.edge_attr[0], weights.edge[0], sums.edge, edge, mask, stored, spec
            )
