"""Graph transformer attention over the edges into each receiver, as plain PyTorch.

The operator that every backend implements::

    edge_attention(Tensor query, Tensor key, Tensor value, Tensor edge, Tensor weight, Tensor? keep,
                   Tensor edges, Tensor offsets, int heads) -> Tensor

``keep`` is a constant: only here does it have a derivative.
"""

import math

from torch import Tensor

from .segment import segment_reduce


def edge_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    edge: Tensor,
    weight: Tensor,
    keep: Tensor | None,
    edges: Tensor,
    offsets: Tensor,
    heads: int,
) -> Tensor:
    receiver, sender = edges[0].long(), edges[1].long()
    heads_of = (heads, query.shape[1] // heads)
    along = edge @ weight.T
    keys, values = ((of_node[sender] + along).unflatten(1, heads_of) for of_node in (key, value))
    scores = (query.unflatten(1, heads_of)[receiver] * keys).sum(2) / math.sqrt(heads_of[1])
    weights = _softmax(scores, receiver, edges, offsets)
    if keep is not None:
        weights = weights * keep
    messages = (weights[..., None] * values).flatten(1)
    return segment_reduce(messages, edges[0], edges[2], offsets[0], "sum")


def _softmax(scores: Tensor, receiver: Tensor, edges: Tensor, offsets: Tensor) -> Tensor:
    """Over the edges into each receiver, (E, K)."""
    index = receiver[:, None].expand_as(scores)
    lowest = scores.new_full((offsets.shape[1] - 1, scores.shape[1]), -math.inf)
    top = lowest.scatter_reduce(0, index, scores.detach(), "amax")
    powers = (scores - top[receiver]).exp()
    return powers / segment_reduce(powers, edges[0], edges[2], offsets[0], "sum")[receiver]
