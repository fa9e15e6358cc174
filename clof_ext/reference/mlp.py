"""A multilayer perceptron of rows that lie in several tensors, as plain PyTorch.

The operator that every backend implements::

    mlp(Tensor[] inputs, Tensor[] weights, str activation, bool activate_last, str precision="highest") -> Tensor

``weights`` holds weight (out, in), then bias (out,) of every Linear, in the order in which they are applied.
``precision`` is what torch's setting for float32 products was when the op was called; torch's own products follow the
setting itself.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from .frame_message import ACTIVATIONS, layers_of


def mlp(
    inputs: list[Tensor],
    weights: list[Tensor],
    activation: str,
    activate_last: bool,
    precision: str = "highest",
) -> Tensor:
    act = ACTIVATIONS[activation]
    *layers, last = layers_of(weights)
    rows = inputs[0] if len(inputs) == 1 else torch.cat(inputs, 1)
    for layer in layers:
        rows = act(F.linear(rows, *layer))
    rows = F.linear(rows, *last)
    return act(rows) if activate_last else rows
