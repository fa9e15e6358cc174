"""Graph transformer attention over the edges into each receiver."""

import torch
from torch import Tensor

from .. import _check
from .._backends import implementation
from .._precision import float32_under_autocast
from .._recompute import double_backward
from .._register import autocast_to_float32, declare, register_rule, restore, save
from ..graph import EdgePlan, as_plan
from ..reference import edge_attention as plain_edge_attention

DTYPES = (torch.float32, torch.float64)
# Inputs with a derivative: query, key, value, edge, weight. Behind them keep, the plan's two tensors, heads.
N_INPUTS = 5
N_CONSTANTS = 4


def edge_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge: Tensor,
    weight: Tensor,
    edge_index: Tensor | EdgePlan,
    *,
    heads: int,
    keep: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attention of each receiver i over its senders j, whose keys and values have a part that is linear in the edge.

    For each of K heads, of D = H / K consecutive features::

        alpha_ij = softmax over edges into i of <query_i, key_j + weight edge_ij> / sqrt(D)
        out_i    = sum over edges into i of keep_ij alpha_ij (value_j + weight edge_ij)

    The weight acts on a receiver's query and on its weighted mean of edges, once for each receiver in place of each
    edge. A tile of receivers is worked on at a time, and the backward pass computes it again: nothing of size edges x
    hidden is made but the gradient of ``edge``. Sums have one order for any number of threads.

    Args:
        query, key, value: (N, H), float32 or float64; under autocast halves are cast to float32.
        edge: (E, C) features of the edges.
        weight: (H, C).
        edge_index: (2, E), receivers and senders, or an EdgePlan.
        heads: K; H is a multiple of it.
        keep: (E, K) factors of the attention weights, as dropout makes them; a constant. None for ones.
        backend: force one backend.

    Returns:
        (N, H), 0 for receivers without edges. Differentiable in query, key, value, edge and weight, any number of
        times; second derivatives run through the reference.

    Raises:
        TypeError, ValueError: a wrong type, dtype, shape, device or index, or H is no multiple of heads.

    Source: Shi et al., "Masked Label Prediction", IJCAI 2021, section 3.1; the attention of Du et al., ICML 2022,
    section 6.2.
    """
    _check.is_tensor(query, "query")
    query, key, value, edge, weight, keep = float32_under_autocast(query, key, value, edge, weight, keep)
    _check.dtype(query, DTYPES, "query")
    _check.shape(query, ("N", "H"), "query")
    n_nodes, hidden = query.shape
    _check.whole(heads, "heads", 1)
    if hidden % heads:
        raise ValueError(f"heads must divide the {hidden} columns of query; got {heads}.")
    plan = as_plan(edge_index, n_nodes, query.device)
    _like(key, query, (n_nodes, hidden), "key")
    _like(value, query, (n_nodes, hidden), "value")
    _like(edge, query, (plan.num_edges, "C"), "edge")
    _like(weight, query, (hidden, edge.shape[1]), "weight")
    if keep is not None:
        _like(keep, query, (plan.num_edges, heads), "keep")
        keep = keep.detach()
    run = implementation("edge_attention", query.device, backend)
    return run(query, key, value, edge, weight, keep, plan.edges, plan.offsets, heads)


def _like(tensor: Tensor, query: Tensor, shape: tuple, name: str) -> None:
    _check.is_tensor(tensor, name)
    _check.dtype(tensor, (query.dtype,), name)
    _check.shape(tensor, shape, name)
    _check.same_device(tensor, query.device, name, "query")


def _fake(query, key, value, edge, weight, keep, edges, offsets, heads):
    return query.new_empty(query.shape)


def _fake_backward(grad, *inputs):
    return tuple(tensor.new_empty(tensor.shape) for tensor in inputs[:N_INPUTS])


def _backward_backward(ctx, *directions: Tensor) -> tuple:
    """Derivative of the backward operator, through the reference."""
    grad, *arguments = restore(ctx)
    inputs, constants = arguments[:N_INPUTS], arguments[N_INPUTS:]
    results = double_backward(lambda x: plain_edge_attention(*x, *constants), [grad], inputs, directions)
    return *results, *[None] * N_CONSTANTS


def _rule(library: str) -> None:
    namespace = getattr(torch.ops, library)
    if not hasattr(namespace, "edge_attention"):
        return

    def backward(ctx, grad):
        return *namespace.edge_attention_backward(grad, *restore(ctx)), *[None] * N_CONSTANTS

    declare(library, "edge_attention", _fake, backward, save)
    declare(library, "edge_attention_backward", _fake_backward, _backward_backward, save)
    autocast_to_float32(library, "edge_attention")


register_rule(_rule)
