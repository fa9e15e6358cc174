"""What both passes of frame_message do with a tile of edges.

A tile is a block of edges by hidden features, held in registers. Hidden features are padded to a power of two: what a
mask hides of weights is 0, so that padding adds nothing to any product, and it is never written.
"""

from typing import NamedTuple

import triton
import triton.language as tl
from torch import Tensor

from . import memory, segment, vec3
from .activation import tanh
from .edge_frame import axis_of, axis_scale, frame_of
from .product import product


class Spec(NamedTuple):
    """What a kernel is compiled for."""

    hidden: tl.constexpr
    padded: tl.constexpr
    edge_dim: tl.constexpr
    edge_block: tl.constexpr
    basis: tl.constexpr
    mode: tl.constexpr
    activation: tl.constexpr
    tanh: tl.constexpr
    clamp: tl.constexpr
    message_mean: tl.constexpr
    vector_mean: tl.constexpr
    precision: tl.constexpr


class Inputs(NamedTuple):
    """Arrays on nodes and edges; edge_attr and edge_weight are tuples, empty where there are none.

    The first Linear is applied to the features of nodes before the kernels run: receiver_part and sender_part.
    """

    receiver_part: Tensor
    sender_part: Tensor
    pos: Tensor
    edge_attr: tuple
    edge_weight: tuple


class Weights(NamedTuple):
    """Weights (out, in) and biases (out,) of the Linears; a tuple is empty where there is no such Linear.

    Attributes:
        radial: (H,) the column of the first Linear that multiplies r.
        edge: (H, D) its columns for edge features.
        layers: weight and bias of each further Linear of edge_mlp.
        gate: those of att_mlp.
        coordinates: those of coord_mlp's first Linear, where it is not the last.
        head: the weight of its last Linear, and the bias where there is one.
    """

    radial: Tensor
    edge: tuple
    layers: tuple
    gate: tuple
    coordinates: tuple
    head: tuple


@triton.jit
def moved(pointers, offset):
    out = ()
    for k in tl.static_range(len(pointers)):
        out = out + (pointers[k] + offset,)
    return out


@triton.jit
def all_moved(weights, offset):
    """The same weights, each as many numbers further."""
    layers = ()
    for k in tl.static_range(len(weights.layers)):
        layers = layers + (moved(weights.layers[k], offset),)
    return Weights(
        weights.radial + offset,
        moved(weights.edge, offset),
        layers,
        moved(weights.gate, offset),
        moved(weights.coordinates, offset),
        moved(weights.head, offset),
    )


@triton.jit
def seeming_offset(counter):
    """0, which only seems to depend on a loop's counter, never negative.

    Arrays at addresses that do not depend on it would be loaded before the loop, all at once, or at least their
    addresses would be computed there; and registers hold neither.
    """
    return 16 * tl.minimum(counter, 0)


@triton.jit
def load_rows(base, row, mask, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    """Rows of an array of WIDTH columns, padded with zeros."""
    column = tl.arange(0, PADDED)[None, :]
    seen = mask[:, None] if WIDTH == PADDED else mask[:, None] & (column < WIDTH)
    return tl.load(base + row[:, None] * WIDTH + column, mask=seen, other=0.0)


@triton.jit
def store_rows(base, row, mask, values, WIDTH: tl.constexpr, PADDED: tl.constexpr):
    column = tl.arange(0, PADDED)[None, :]
    seen = mask[:, None] if WIDTH == PADDED else mask[:, None] & (column < WIDTH)
    tl.store(base + row[:, None] * WIDTH + column, values.to(base.dtype.element_ty), mask=seen)


@triton.jit
def load_vector(base, spec, DTYPE: tl.constexpr):
    """H numbers, padded with zeros."""
    column = tl.arange(0, spec.padded)
    if spec.hidden == spec.padded:
        return tl.load(base + column).to(DTYPE)
    else:
        return tl.load(base + column, mask=column < spec.hidden, other=0.0).to(DTYPE)


@triton.jit
def load_square(base, spec):
    """The (H, H) weight of a Linear, padded with zeros."""
    row = tl.arange(0, spec.padded)
    if spec.hidden == spec.padded:
        return tl.load(base + row[:, None] * spec.hidden + row[None, :])
    else:
        return load_rows(base, row, row < spec.hidden, spec.hidden, spec.padded)


@triton.jit
def load_edge_block(base, row, mask, first, spec):
    """A block of columns of edge features, of rows of edges or of hidden features."""
    column = first + tl.arange(0, spec.edge_block)[None, :]
    return tl.load(
        base + row[:, None] * spec.edge_dim + column, mask=mask[:, None] & (column < spec.edge_dim), other=0.0
    )


@triton.jit
def store_edge_block(base, row, mask, first, values, spec):
    """Write such a block."""
    column = first + tl.arange(0, spec.edge_block)[None, :]
    tl.store(
        base + row[:, None] * spec.edge_dim + column,
        values.to(base.dtype.element_ty),
        mask=mask[:, None] & (column < spec.edge_dim),
    )


@triton.jit
def load_edge_weights(base, first, spec):
    """(H, block) columns of the first Linear, padded with zeros."""
    row = tl.arange(0, spec.padded)
    return load_edge_block(base, row, row < spec.hidden, first, spec)


@triton.jit
def edge_geometry(pos, graph, edge, mask, spec):
    """x_i, x_j and d as vectors of numbers, and r = |d|^2."""
    x_i, x_j = memory.load_ends(pos, None, graph, edge, mask, False)
    d = vec3.sub(x_i, x_j)
    return x_i, x_j, d, vec3.dot(d, d)[0]


@triton.jit
def plain_vector(v):
    """The values of a vector of numbers."""
    return (v[0][0], v[1][0], v[2][0])


@triton.jit
def basis_vectors(x_i, x_j, d, spec):
    """The vectors that the coefficients multiply: three, or one."""
    if spec.basis == "radial":
        return (plain_vector(axis_of(d, axis_scale(d, 0.0, spec.mode), spec.mode)),)
    else:
        frame = frame_of(x_i, x_j, spec.mode)
        return (plain_vector(frame[0]), plain_vector(frame[1]), plain_vector(frame[2]))


@triton.jit
def combined(coefficients, vectors):
    """The sum of coefficients times vectors."""
    out = ()
    for axis in tl.static_range(3):
        total = coefficients[0] * vectors[0][axis]
        for k in tl.static_range(1, len(vectors)):
            total += coefficients[k] * vectors[k][axis]
        out = out + (total,)
    return out


@triton.jit
def clamped(values, spec):
    out = ()
    for k in tl.static_range(len(values)):
        bound = tl.full(values[k].shape, spec.clamp, values[k].dtype)
        out = out + (tl.where(values[k] < -bound, -bound, tl.where(values[k] > bound, bound, values[k])),)
    return out


@triton.jit
def first_layer(inputs, weights, graph, edge, mask, radial, DTYPE: tl.constexpr, spec):
    """The first Linear of edge_mlp."""
    out = load_rows(inputs.receiver_part, memory.node_of(graph, edge, mask, 0), mask, spec.hidden, spec.padded).to(
        DTYPE
    )
    out += load_rows(inputs.sender_part, memory.node_of(graph, edge, mask, 1), mask, spec.hidden, spec.padded).to(DTYPE)
    out += radial.to(DTYPE)[:, None] * load_vector(weights.radial, spec, DTYPE)[None, :]
    if len(weights.edge) > 0:
        for column in tl.static_range(0, spec.edge_dim, spec.edge_block):
            features = load_edge_block(inputs.edge_attr[0], edge, mask, column, spec)
            weight = load_edge_weights(weights.edge[0], column, spec)
            out = product(features, tl.trans(weight), out, features.dtype, spec.precision)
    return out


@triton.jit
def linear(z, layer, STORED: tl.constexpr, spec):
    """A Linear of H outputs, applied to a tile."""
    bias = load_vector(layer[1], spec, z.dtype)
    total = tl.zeros(z.shape, z.dtype) + bias[None, :]
    return product(z, tl.trans(load_square(layer[0], spec)), total, STORED, spec.precision)


@triton.jit
def along(z, base, spec):
    """The product of every row of a tile with H weights."""
    return tl.sum(z * load_vector(base, spec, z.dtype)[None, :], 1)


@triton.jit
def gate_of(message, gate, spec):
    """What att_mlp says before its sigmoid."""
    return along(message, gate[0], spec) + tl.load(gate[1]).to(message.dtype)


@triton.jit
def coefficients_of(z, head, spec):
    """The coefficients of the basis, one for each of its vectors."""
    out = ()
    for k in tl.static_range(1 if spec.basis == "radial" else 3):
        value = along(z, head[0] + k * spec.hidden, spec)
        if len(head) > 1:
            value += tl.load(head[1] + k).to(z.dtype)
        out = out + (tanh(value) if spec.tanh else value,)
    return out


@triton.jit
def mean_scale(graph, node, mask, DTYPE: tl.constexpr, MEAN: tl.constexpr):
    """The factor of the sum over a node's edges: 1, or one by their number."""
    if MEAN:
        start, end = memory.segment_of(graph, node, mask, 0)
        return segment.weight_of(start, end, DTYPE, True)
    else:
        return tl.full(node.shape, 1.0, DTYPE)


@triton.jit
def weight_of(inputs, edge, mask, DTYPE: tl.constexpr):
    """The weight of each edge in the sums."""
    if len(inputs.edge_weight) > 0:
        return tl.load(inputs.edge_weight[0] + edge, mask=mask, other=0.0).to(DTYPE)
    else:
        return tl.full(edge.shape, 1.0, DTYPE)
