"""How kernels read and write edges, nodes and the plan of a graph.

Kernels pass the plan on as ``graph = (edges, offsets, num_nodes, num_edges)``, with ``edges`` (4, E) and ``offsets``
(3, N + 1) of an EdgePlan; a ROLE is the row where they hold a node's edges. Places in memory are int64: E * K * 27
passes 2**31. What a mask hides is read as 0, and an edge of zeros adds exactly 0 to every sum.
"""

import triton
import triton.language as tl

RECEIVER = tl.constexpr(0)
SENDER = tl.constexpr(1)
# The row of `edges` with the edge numbers sorted by receiver; those sorted by sender follow.
_SORTED = tl.constexpr(2)


@triton.jit
def rows_of_program(ROWS: tl.constexpr):
    """The rows that this program owns."""
    return tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)


@triton.jit
def load_number(base, tangent, place, mask, DTYPE: tl.constexpr, DUAL: tl.constexpr):
    """A number in the type that computes; where no tangents are given its derivative is 0."""
    value = tl.load(base + place, mask=mask, other=0.0).to(DTYPE)
    if not DUAL:
        return (value,)
    elif tangent is None:
        return (value, tl.zeros_like(value))
    else:
        return (value, tl.load(tangent + place, mask=mask, other=0.0).to(DTYPE))


@triton.jit
def load_numbers(base, tangent, place, mask, COUNT: tl.constexpr, DTYPE: tl.constexpr, DUAL: tl.constexpr):
    """Numbers side by side, the first at a place."""
    out = ()
    for column in tl.static_range(COUNT):
        out = out + (load_number(base, tangent, place + column, mask, DTYPE, DUAL),)
    return out


@triton.jit
def load_matrix(base, tangent, place, mask, DTYPE: tl.constexpr, DUAL: tl.constexpr):
    """A 3 x 3 matrix by rows, the first number at a place."""
    out = ()
    for row in tl.static_range(3):
        out = out + (load_numbers(base, tangent, place + 3 * row, mask, 3, DTYPE, DUAL),)
    return out


@triton.jit
def store_values(base, place, mask, values):
    """Values side by side, the first at a place."""
    for column in tl.static_range(len(values)):
        tl.store(base + place + column, values[column], mask=mask)


@triton.jit
def node_of(graph, edge, mask, ROLE: tl.constexpr):
    """The receiver or sender of each edge."""
    edges, _, _, num_edges = graph
    return tl.load(edges + num_edges.to(tl.int64) * ROLE + edge, mask=mask, other=0).to(tl.int64)


@triton.jit
def load_ends(base, tangent, graph, edge, mask, DUAL: tl.constexpr):
    """The vectors of each edge's receiver and sender."""
    out = ()
    for ROLE in tl.static_range(2):
        node = node_of(graph, edge, mask, ROLE)
        out = out + (load_numbers(base, tangent, node * 3, mask, 3, base.dtype.element_ty, DUAL),)
    return out


@triton.jit
def segment_of(graph, node, mask, role):
    """Where each node's edges begin and end in the order of its role."""
    _, offsets, num_nodes, _ = graph
    begin = offsets + (num_nodes.to(tl.int64) + 1) * role + node
    return tl.load(begin, mask=mask, other=0), tl.load(begin + 1, mask=mask, other=0)


@triton.jit
def edges_from(graph, first, end, role, LANES: tl.constexpr):
    """The next LANES edges of each node, (nodes, LANES), and which of them exist."""
    edges, _, _, num_edges = graph
    place = first[:, None] + tl.arange(0, LANES)[None, :]
    mask = place < end[:, None]
    return tl.load(edges + num_edges.to(tl.int64) * (_SORTED + role) + place, mask=mask, other=0).to(tl.int64), mask


@triton.jit
def lane_sums(totals):
    """The sum of each tensor over its lanes."""
    out = ()
    for column in tl.static_range(len(totals)):
        out = out + (tl.sum(totals[column], 1),)
    return out


@triton.jit
def of_role(role, receivers, senders):
    """The values of one of the two roles."""
    out = ()
    for k in tl.static_range(len(receivers)):
        out = out + (tl.where(role == SENDER, senders[k], receivers[k]),)
    return out
