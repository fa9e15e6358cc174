"""The forward pass of frame_message: one kernel, whose programs own receivers; no atomics, nothing kept of edges."""

import triton
import triton.language as tl

from . import memory, number
from ._host import jit
from .activation import activated, sigmoid
from .frame_message_tile import (
    all_moved,
    basis_vectors,
    clamped,
    coefficients_of,
    combined,
    edge_geometry,
    first_layer,
    gate_of,
    linear,
    mean_scale,
    seeming_offset,
    store_rows,
    weight_of,
)
from .product import selected_sum


@triton.jit
def sums_of(values, own):
    """For each receiver the sum of its edges' values."""
    out = ()
    for k in tl.static_range(len(values)):
        out = out + (tl.sum(tl.where(own, values[k][None, :], 0.0), 1),)
    return out


@jit
def message_kernel(
    inputs,
    given_weights,
    edges,
    offsets,
    num_nodes,
    num_edges,
    message,
    vector,
    spec,
    NODES: tl.constexpr,
    EDGES: tl.constexpr,
):
    """For each receiver: its messages and vectors, reduced. The edges of a program's receivers lie side by side."""
    geometry: tl.constexpr = inputs.pos.dtype.element_ty
    stored: tl.constexpr = inputs.receiver_part.dtype.element_ty
    graph = (edges, offsets, num_nodes, num_edges)
    node = memory.rows_of_program(NODES)
    first = tl.program_id(0) * NODES
    begin = tl.load(offsets + first).to(tl.int64)
    end = tl.load(offsets + tl.minimum(first + NODES, num_nodes))
    messages = tl.zeros([NODES, spec.padded], geometry)
    zero = tl.zeros([NODES], geometry)
    vectors = (zero, zero, zero)
    for start in range(begin, end, EDGES):
        weights = all_moved(given_weights, seeming_offset(start))
        place = start + tl.arange(0, EDGES)
        mask = place < end
        edge = tl.load(edges + 2 * num_edges.to(tl.int64) + place, mask=mask, other=0).to(tl.int64)
        radial = edge_geometry(inputs.pos, graph, edge, mask, spec)[3]
        z = activated(first_layer(inputs, weights, graph, edge, mask, radial, geometry, spec), spec.activation)[0]
        for k in tl.static_range(len(weights.layers)):
            z = activated(linear(z, weights.layers[k], stored, spec), spec.activation)[0]
        if len(weights.gate) > 0:
            z *= sigmoid(gate_of(z, weights.gate, spec))[:, None]
        weight = weight_of(inputs, edge, mask, geometry)
        receiver = memory.node_of(graph, edge, mask, 0)
        own = (receiver[None, :] == node[:, None]) & mask[None, :]
        messages = selected_sum(own, z * weight[:, None], messages, stored, spec.precision)
        if len(weights.coordinates) > 0:
            z = activated(linear(z, weights.coordinates, stored, spec), spec.activation)[0]
        coefficients = coefficients_of(z, weights.head, spec)
        # Read again: kept from above, it would take registers that the products need.
        x_i, x_j, d, _ = edge_geometry(inputs.pos + seeming_offset(start + EDGES), graph, edge, mask, spec)
        vector_of_edge = clamped(combined(coefficients, basis_vectors(x_i, x_j, d, spec)), spec)
        vectors = number.add(vectors, sums_of(number.scaled(vector_of_edge, weight), own))
    exists = node < num_nodes
    store_rows(
        message,
        node,
        exists,
        messages * mean_scale(graph, node, exists, geometry, spec.message_mean)[:, None],
        spec.hidden,
        spec.padded,
    )
    scale = mean_scale(graph, node, exists, geometry, spec.vector_mean)
    memory.store_values(vector, node * 3, exists, number.scaled(vectors, scale))
