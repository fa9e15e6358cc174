"""The fused edge block of one message-passing layer, as plain PyTorch.

The operator that every backend implements::

    frame_message(Tensor h, Tensor pos, Tensor? edge_attr, Tensor? edge_weight, Tensor[] weights,
                  Tensor edges, Tensor offsets, int edge_depth, int coord_depth, bool attention,
                  str basis, str mode, str activation, bool tanh, float clamp,
                  str message_reduce, str vector_reduce, str precision="highest")
        -> (Tensor message, Tensor vector)

``weights`` holds the Linear layers in the order in which they are applied, each as weight (out, in), then bias (out,):
``edge_depth`` layers of edge_mlp, one of att_mlp if ``attention``, ``coord_depth`` layers of coord_mlp. Only the very
last bias may be missing; it is missing where the number of tensors is odd. ``precision`` is that of products of
float32 numbers, ``"highest"``, ``"high"`` or ``"medium"``; here torch's own products follow torch's setting.
"""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .edge_frame import axis, frame_of
from .segment import segment_reduce

LEAKY_SLOPE = 0.2

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "silu": F.silu,
    "relu": F.relu,
    "leaky_relu": partial(F.leaky_relu, negative_slope=LEAKY_SLOPE),
    "softplus": F.softplus,
    "tanh": torch.tanh,
    "gelu": F.gelu,
}
BASIS_SIZE = {"complete": 3, "radial": 1}


def layers_of(weights: list[Tensor]) -> list[tuple[Tensor, Tensor | None]]:
    """(weight, bias) of every Linear layer in the flat list of an operator."""
    padded = [*weights, None] if len(weights) % 2 else weights
    return list(zip(padded[::2], padded[1::2]))


def basis_vectors(x_i: Tensor, x_j: Tensor, basis: str, mode: str) -> Tensor:
    """The vectors that the coefficients multiply, (E, 3, 3) or (E, 1, 3)."""
    if basis == "complete":
        return frame_of(x_i, x_j, mode)
    return axis(x_i - x_j, 0.0, mode)[:, None]


def first_layer(h: Tensor, per_edge: Tensor, edges: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Linear([h_i, h_j, per_edge]), with the parts of h_i and h_j computed once per node."""
    n_in = h.shape[1]
    of_receiver = F.linear(h, weight[:, :n_in], bias)
    of_sender = F.linear(h, weight[:, n_in : 2 * n_in])
    return of_receiver[edges[0].long()] + of_sender[edges[1].long()] + F.linear(per_edge, weight[:, 2 * n_in :])


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
    act = ACTIVATIONS[activation]
    layers = layers_of(weights)
    x_i, x_j = pos[edges[0].long()], pos[edges[1].long()]

    radial = (x_i - x_j).square().sum(-1, keepdim=True).to(h.dtype)
    per_edge = radial if edge_attr is None else torch.cat((radial, edge_attr), 1)
    message = act(first_layer(h, per_edge, edges, *layers[0]))
    for layer in layers[1:edge_depth]:
        message = act(F.linear(message, *layer))
    if attention:
        message = message * F.linear(message, *layers[edge_depth]).sigmoid()

    coefficients = message
    for layer in layers[-coord_depth:-1]:
        coefficients = act(F.linear(coefficients, *layer))
    coefficients = F.linear(coefficients, *layers[-1])
    if tanh:
        coefficients = coefficients.tanh()
    vectors = basis_vectors(x_i, x_j, basis, mode)
    vector = (coefficients.to(pos.dtype)[..., None] * vectors).sum(1).clamp(-clamp, clamp)

    if edge_weight is not None:
        message = message * edge_weight.to(message.dtype)[:, None]
        vector = vector * edge_weight.to(vector.dtype)[:, None]
    index, perm, starts = edges[0], edges[2], offsets[0]
    return (
        segment_reduce(message, index, perm, starts, message_reduce),
        segment_reduce(vector, index, perm, starts, vector_reduce),
    )
