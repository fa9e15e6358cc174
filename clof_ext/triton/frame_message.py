"""The fused edge block: its two operators."""

import torch
import triton
from torch import Tensor

from ..reference.frame_message import BASIS_SIZE
from ._host import LANES, NODES, launch, operator
from .frame_message_backward import Traces, tile_kernel
from .frame_message_config import multiprocessors, tile_for
from .frame_message_forward import message_kernel
from .frame_message_host import Block
from .frame_message_nodes import node_sum_kernel, position_kernel
from .frame_message_weights import WeightSums

# Receivers of a program: the fewest rows of a product.
RECEIVERS = 16
# Numbers that a program adds up at a time: eight for each thread of its four warps.
SUMMED, SUMMED_COLUMNS = 1024, 64
# The gradients by the first Linear's outputs of edges are kept for as many edges as fit in this many bytes.
CHUNK_BYTES = 2**28


def _chunk_edges(block: Block, tile: int) -> int:
    """Edges of a chunk: whole tiles, or all edges."""
    per_edge = block.hidden * block.h.element_size()
    return min(max(CHUNK_BYTES // per_edge // tile, 1) * tile, block.graph.num_edges)


def _empty_traces(block: Block, chunk: int) -> Traces:
    h, pos, edges = block.h, block.graph.pos, block.graph.num_edges
    return Traces(
        h.new_empty(chunk, block.hidden),
        pos.new_empty(BASIS_SIZE[block.switches.basis], edges),
        pos.new_empty(edges),
        () if block.edge_attr is None else (torch.empty_like(block.edge_attr),),
        () if block.edge_weight is None else (torch.empty_like(block.edge_weight),),
    )


def _edge_gradients(block: Block, grad_message: Tensor, grad_vector: Tensor) -> tuple[Traces, Tensor, WeightSums]:
    """What the backward kernel leaves of edges, the gradients by the first Linear's outputs of nodes, and the sums."""
    graph, tile, pos = block.graph, tile_for("backward", block.precision, block.hidden), block.graph.pos
    programs = min(tile.programs * multiprocessors(pos.device), triton.cdiv(graph.num_edges, tile.edges))
    chunk = _chunk_edges(block, tile.edges)
    traces, sums = _empty_traces(block, chunk), WeightSums.zeros(block, programs)
    scratch = block.h.new_empty(programs, block.switches.edge_depth, tile.edges, block.padded)
    of_nodes = pos.new_zeros(2, graph.num_nodes, block.hidden)
    columns = min(block.padded, SUMMED_COLUMNS)
    nodes = SUMMED // columns
    blocks = triton.cdiv(graph.num_nodes, nodes) * triton.cdiv(block.hidden, columns)
    for begin in range(0, graph.num_edges, max(chunk, 1)):
        end = min(begin + chunk, graph.num_edges)
        launch(
            tile_kernel,
            programs,
            pos,
            block.inputs,
            block.weights,
            *graph.plan,
            grad_message,
            grad_vector,
            traces,
            sums.of_first_program,
            scratch,
            begin,
            end,
            block.spec,
            SUMS=sums.row_length,
            **tile.constants,
        )
        launch(
            node_sum_kernel,
            2 * blocks,
            pos,
            traces.first,
            *graph.plan,
            of_nodes,
            begin,
            end,
            WIDTH=block.hidden,
            WHOLE=chunk == graph.num_edges,
            NODES=nodes,
            COLUMNS=columns,
        )
    return traces, of_nodes, sums


def _optional(found: tuple, given: Tensor | None, empty: tuple[int, ...], like: Tensor) -> Tensor:
    """The gradient of an optional input: of no numbers where there are none."""
    return found[0] if found else like.new_empty(empty if given is None else given.shape)


@operator
def frame_message(
    h: Tensor,
    pos: Tensor,
    edge_attr: Tensor | None,
    edge_weight: Tensor | None,
    weights: list[Tensor],
    edges: Tensor,
    offsets: Tensor,
    edge_depth: int,
    coord_depth: int,
    attention: bool,
    basis: str,
    mode: str,
    activation: str,
    tanh: bool,
    clamp: float,
    message_reduce: str,
    vector_reduce: str,
    precision: str = "highest",
) -> tuple[Tensor, Tensor]:
    block = Block.checked(
        h, pos, edge_attr, edge_weight, weights, edges, offsets,
        edge_depth, coord_depth, attention, basis, mode, activation, tanh, clamp, message_reduce, vector_reduce,
        precision,
    )  # fmt: skip
    graph, tile = block.graph, tile_for("forward", block.precision, block.hidden)
    message, vector = block.h.new_empty(graph.num_nodes, block.hidden), torch.empty_like(graph.pos)
    launch(
        message_kernel,
        triton.cdiv(graph.num_nodes, RECEIVERS),
        pos,
        block.inputs,
        block.weights,
        *graph.plan,
        message,
        vector,
        block.spec,
        NODES=RECEIVERS,
        **tile.constants,
    )
    return message, vector


@operator
def frame_message_backward(
    grad_message: Tensor,
    grad_vector: Tensor,
    h: Tensor,
    pos: Tensor,
    edge_attr: Tensor | None,
    edge_weight: Tensor | None,
    weights: list[Tensor],
    edges: Tensor,
    offsets: Tensor,
    edge_depth: int,
    coord_depth: int,
    attention: bool,
    basis: str,
    mode: str,
    activation: str,
    tanh: bool,
    clamp: float,
    message_reduce: str,
    vector_reduce: str,
    precision: str = "highest",
) -> tuple[Tensor, Tensor, Tensor, Tensor, list[Tensor]]:
    block = Block.checked(
        h, pos, edge_attr, edge_weight, weights, edges, offsets,
        edge_depth, coord_depth, attention, basis, mode, activation, tanh, clamp, message_reduce, vector_reduce,
        precision,
    )  # fmt: skip
    cotangents = block.checked_cotangents(grad_message, grad_vector)
    traces, of_nodes, sums = _edge_gradients(block, *cotangents)
    grad_pos = torch.empty_like(block.graph.pos)
    launch(
        position_kernel,
        triton.cdiv(block.graph.num_nodes, NODES),
        pos,
        block.inputs,
        *block.graph.plan,
        cotangents[1],
        traces.coefficients,
        traces.radial,
        grad_pos,
        block.spec,
        NODES=NODES,
        LANES=LANES,
    )
    return (
        block.node_gradient(of_nodes),
        grad_pos,
        _optional(traces.edge_attr, edge_attr, (0, 0), h),
        _optional(traces.edge_weight, edge_weight, (0,), h),
        sums.gradients(of_nodes),
    )
