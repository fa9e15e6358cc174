"""The fused edge block: its two operators."""

from collections.abc import Callable

import torch
import triton
from torch import Tensor

from ..reference.frame_message import BASIS_SIZE
from ._host import LANES, NODES, launch, operator
from .frame_message_backward import Traces, tile_kernel
from .frame_message_config import SplitTiles, Tile, multiprocessors, ways
from .frame_message_forward import message_kernel
from .frame_message_host import Block
from .frame_message_nodes import node_sum_kernel, position_kernel
from .frame_message_split import coordinates_kernel, first_kernel, layer_kernel, rerun_kernel
from .frame_message_weights import WeightSums
from .tuning import fastest

# Receivers of a program: the fewest rows of a product.
RECEIVERS = 16
# Numbers that a program adds up at a time: eight for each thread of its four warps.
SUMMED, SUMMED_COLUMNS = 1024, 64
# What is kept of edges between the kernels of the backward pass, of as many edges as fit in this many bytes.
CHUNK_BYTES = 2**28
# The same where every Linear has a kernel, and the inputs of activations are kept too.
SPLIT_CHUNK_BYTES = 2**27


def _chunk_edges(block: Block, arrays: int, limit: int, tile: int) -> int:
    """Edges of a chunk, of which so many arrays of hidden features are kept: whole tiles, and no more than needed."""
    per_edge = arrays * block.hidden * block.h.element_size()
    return tile * min(max(limit // per_edge // tile, 1), triton.cdiv(block.graph.num_edges, tile))


def _traces(block: Block, first: Tensor) -> Traces:
    pos, edges = block.graph.pos, block.graph.num_edges
    return Traces(
        first,
        pos.new_empty(BASIS_SIZE[block.switches.basis], edges),
        pos.new_empty(edges),
        () if block.edge_attr is None else (torch.empty_like(block.edge_attr),),
        () if block.edge_weight is None else (torch.empty_like(block.edge_weight),),
    )


def _programs(block: Block, tile: Tile, edges: int) -> int:
    """Programs that fit on the GPU, or fewer where there are fewer tiles."""
    return min(tile.programs * multiprocessors(block.graph.pos.device), triton.cdiv(edges, tile.edges))


def _sum_of_nodes(block: Block, traces: Traces, of_nodes: Tensor, begin: int, end: int, whole: bool) -> None:
    """Add a chunk's gradients by the first Linear's outputs to those of the edges' nodes."""
    num_nodes = block.graph.num_nodes
    columns = min(block.padded, SUMMED_COLUMNS)
    nodes = SUMMED // columns
    launch(
        node_sum_kernel,
        2 * triton.cdiv(num_nodes, nodes) * triton.cdiv(block.hidden, columns),
        of_nodes,
        traces.first,
        *block.graph.plan,
        of_nodes,
        begin,
        end,
        WIDTH=block.hidden,
        WHOLE=whole,
        NODES=nodes,
        COLUMNS=columns,
    )


def _chunks(block: Block, chunk: int) -> list[tuple[int, int]]:
    edges = block.graph.num_edges
    return [(begin, min(begin + chunk, edges)) for begin in range(0, edges, max(chunk, 1))]


def _edge_gradients(block: Block, grad_message: Tensor, grad_vector: Tensor) -> tuple[Traces, Tensor, WeightSums]:
    """What the backward kernels leave of edges, the gradients by the first Linear's outputs of nodes, and the sums."""

    def run(way: Tile | SplitTiles) -> tuple[Traces, Tensor, WeightSums]:
        make = _split_edge_gradients if isinstance(way, SplitTiles) else _tile_edge_gradients
        return make(block, way, grad_message, grad_vector)

    return run(_fastest(block, "backward", run))


def _fastest(block: Block, direction: str, run: Callable[[Tile | SplitTiles], object]) -> Tile | SplitTiles:
    """How to make a pass. Graphs of one order of magnitude share a choice."""
    device = block.graph.pos.device
    key = {
        **{"products": block.precision, "dtype": block.h.dtype, "H": block.hidden},
        **{"D": 0 if block.edge_attr is None else block.edge_attr.shape[1]},
        **{"edge_depth": block.switches.edge_depth, "coord_depth": block.switches.coord_depth},
        "digits of E": len(str(block.graph.num_edges)),
    }
    return fastest(direction, key, ways(direction, block.precision, block.hidden, device), run, device)


def _tile_edge_gradients(
    block: Block, tile: Tile, grad_message: Tensor, grad_vector: Tensor
) -> tuple[Traces, Tensor, WeightSums]:
    """By one kernel for all Linears."""
    graph = block.graph
    chunk = _chunk_edges(block, 1, CHUNK_BYTES, tile.edges)
    programs = _programs(block, tile, graph.num_edges)
    traces, sums = _traces(block, block.h.new_empty(chunk, block.hidden)), WeightSums.zeros(block, programs)
    scratch = block.h.new_empty(programs, block.switches.edge_depth, tile.edges, block.padded)
    of_nodes = graph.pos.new_zeros(2, graph.num_nodes, block.hidden)
    for begin, end in _chunks(block, chunk):
        launch(
            tile_kernel,
            programs,
            graph.pos,
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
        _sum_of_nodes(block, traces, of_nodes, begin, end, chunk >= graph.num_edges)
    return traces, of_nodes, sums


def _split_edge_gradients(
    block: Block, tiles: SplitTiles, grad_message: Tensor, grad_vector: Tensor
) -> tuple[Traces, Tensor, WeightSums]:
    """By a kernel for each Linear."""
    graph, switches, inputs, weights = block.graph, block.switches, block.inputs, block.weights
    depth = switches.edge_depth
    arrays = depth + switches.coord_depth - 1
    chunk = _chunk_edges(block, arrays, SPLIT_CHUNK_BYTES, tiles.rerun.edges)
    kept = block.h.new_empty(arrays, chunk, block.hidden)
    traces = _traces(block, kept[0])
    rerun, coordinates, layer, first = programs = [_programs(block, tile, chunk) for tile in tiles]
    sums = WeightSums.zeros(block, max(programs))
    of_nodes = graph.pos.new_zeros(2, graph.num_nodes, block.hidden)
    for begin, end in _chunks(block, chunk):
        own, constants = sums.of_first_program, {"SUMS": sums.row_length}
        launch(
            rerun_kernel,
            rerun,
            graph.pos,
            inputs,
            weights,
            *graph.plan,
            grad_message,
            grad_vector,
            traces.coefficients,
            traces.edge_weight,
            own.head,
            own.gate,
            kept,
            chunk,
            begin,
            end,
            block.spec,
            **constants,
            **tiles.rerun.constants,
        )
        if weights.coordinates:
            launch(
                coordinates_kernel,
                coordinates,
                graph.pos,
                inputs,
                weights.gate,
                weights.coordinates[0],
                *graph.plan,
                grad_message,
                own.gate,
                *own.coordinates,
                kept[depth],
                kept[depth - 1],
                begin,
                end,
                block.spec,
                **constants,
                **tiles.coordinates.constants,
            )
        for k in reversed(range(depth - 1)):
            launch(
                layer_kernel,
                layer,
                graph.pos,
                graph.pos,
                weights.layers[k][0],
                *own.layers[k],
                kept[k + 1],
                kept[k],
                end - begin,
                block.spec,
                **constants,
                **tiles.layer.constants,
            )
        launch(
            first_kernel,
            first * max(1, len(own.edge)),
            graph.pos,
            inputs,
            weights,
            *graph.plan,
            traces,
            own,
            begin,
            end,
            block.spec,
            **constants,
            **tiles.first.constants,
        )
        _sum_of_nodes(block, traces, of_nodes, begin, end, chunk >= graph.num_edges)
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
    graph = block.graph
    message, vector = block.h.new_empty(graph.num_nodes, block.hidden), torch.empty_like(graph.pos)

    def run(tile: Tile) -> None:
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

    run(_fastest(block, "forward", run))
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
