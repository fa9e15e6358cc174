"""ClofNet's edge features: a perceptron of the scalars of all edges' frames."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .. import ops
from .._backends import implementation
from .._cast import autocast_dtype, dtype_after
from .._register import is_recorded, unrecorded
from .._transforms import is_traced
from ..graph import EdgePlan
from ..ops.mlp import mlp_into

# Edges whose scalars are kept at one time where nothing is recorded. Those of all edges take nearly half of the
# memory of their features. On GPUs every part starts three kernels more, so there are few parts there.
EDGES_AT_ONCE = {"cpu": 2**14, "cuda": 2**18}


def edge_features(
    pos: Tensor,
    vel: Tensor | None,
    plan: EdgePlan,
    edge_attr: Tensor | None,
    weights: Sequence[Tensor],
    *,
    mode: str,
    activation: str,
    dtype: torch.dtype,
) -> Tensor:
    """``fuse_edge([edge_attr, s])`` with s the scalars of each edge, whose last Linear an activation follows, too.

    Args:
        pos, vel, plan, mode: see ``ops.edge_scalars``.
        edge_attr: (E, D), or None if scalars alone are read.
        weights, activation: see ``ops.mlp``.
        dtype: of the network, which scalars are rounded to.

    Returns:
        (E, out of the last Linear).

    Source: Du et al., ICML 2022, section 4.2.
    """
    given = () if edge_attr is None else (edge_attr,)
    options = {"activation": activation, "activate_last": True}
    at_once = EDGES_AT_ONCE.get(pos.device.type, plan.num_edges)
    # In this order: of a program that is traced for any number of edges, the number must not be asked for.
    if is_traced() or is_recorded(pos, vel, *given, *weights) or plan.num_edges <= at_once:
        scalars = ops.edge_scalars(pos, plan, vel, mode=mode).to(dtype)
        return ops.mlp((*given, scalars), weights, **options)

    scalars_of = implementation("edge_scalars", pos.device)
    features = pos.new_empty(
        plan.num_edges, weights[-1].shape[0], dtype=dtype_after(weights[-1], autocast_dtype(pos.device.type))
    )

    def make(part: slice) -> None:
        # Of the edges only receivers and senders are read, whatever their order.
        scalars = unrecorded(scalars_of, pos, vel, plan.edges[:, part], plan.offsets, mode).to(dtype)
        mlp_into(features[part], (*(tensor[part] for tensor in given), scalars), weights, **options)

    for begin in range(0, plan.num_edges, at_once):
        make(slice(begin, begin + at_once))
    return features
