"""The edges of molecules as the ops read them, and the pairs of atoms that edges join."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from .._precision import float32_under_autocast
from ..graph import EdgePlan, prepare_graph, prepare_segments
from ..ops import segment_sum
from .per_graph import once_per_graph


@dataclass(frozen=True, eq=False)
class DirectedEdges:
    """Edges from sources to targets in their given order, and the P pairs of atoms that they join, either way.

    Attributes:
        source, target: (E,) int64.
        plan: the edges for the ops, with the targets as receivers.
        pair: (E,) int64, the edge's pair.
        edges_of_pairs: the edges as segments, one for each pair.
        low, high: (P,) int64, the pair's atoms.
        pairs_of_low, pairs_of_high: the pairs as segments, one for each atom.
    """

    source: Tensor
    target: Tensor
    plan: EdgePlan
    pair: Tensor
    edges_of_pairs: EdgePlan
    low: Tensor
    high: Tensor
    pairs_of_low: EdgePlan
    pairs_of_high: EdgePlan


@once_per_graph
def directed(edge_index: Tensor, num_nodes: int) -> DirectedEdges:
    """Prepare edges once; cached, as their plan is, for the life of ``edge_index``.

    Args:
        edge_index: (2, E) sources and targets.
        num_nodes: N.

    Raises:
        TypeError, ValueError: see ``prepare_graph``.
    """
    source, target = edge_index
    joined = torch.minimum(source, target) * num_nodes + torch.maximum(source, target)
    numbers, pair = joined.unique(return_inverse=True)
    low, high = numbers // max(num_nodes, 1), numbers % max(num_nodes, 1)
    return DirectedEdges(
        source,
        target,
        prepare_graph(torch.stack((target, source)), num_nodes),
        pair,
        prepare_segments(pair, len(numbers)),
        low,
        high,
        prepare_segments(low, num_nodes),
        prepare_segments(high, num_nodes),
    )


def pair_product(h: Tensor, weight: Tensor, of_edge: Tensor, edges: DirectedEdges) -> Tensor:
    """softplus(weight @ (h_i * h_j) + of_edge_ij) of every edge: (E, W).

    h_i * h_j is that of the edge back, too, and mapped once for both; in float32 under autocast.

    Args:
        h: (N, H).
        weight: (W, H).
        of_edge: (E, W).
        edges: i and j.
    """
    operands = float32_under_autocast(h, weight, of_edge)
    with torch.autocast(h.device.type, enabled=False):
        return _PairProduct.apply(*operands, edges)


class _PairProduct(torch.autograd.Function):
    @staticmethod
    def forward(ctx, h, weight, of_edge, edges):
        of_pairs = (h.index_select(0, edges.low) * h.index_select(0, edges.high)) @ weight.T
        before = of_pairs.index_select(0, edges.pair).add_(of_edge)
        ctx.save_for_backward(h, weight, before)
        ctx.edges = edges
        return softplus(before)

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        h, weight, before = ctx.saved_tensors
        edges = ctx.edges
        grad_before = torch.ops.aten.softplus_backward(grad, before, 1, 20)
        of_pairs = segment_sum(grad_before, edges.edges_of_pairs)
        low, high = h.index_select(0, edges.low), h.index_select(0, edges.high)
        grad_weight = of_pairs.T @ (low * high)
        grad_product = of_pairs @ weight
        grad_h = segment_sum(high.mul_(grad_product), edges.pairs_of_low)
        grad_h += segment_sum(low.mul_(grad_product), edges.pairs_of_high)
        return grad_h, grad_weight, grad_before, None
