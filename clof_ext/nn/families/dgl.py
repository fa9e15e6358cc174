"""DGL's EGNNConv, whose edges run from source j to destination i::

    m_ij = edge_mlp([h_j, h_i, r, e_ij]),   r = |x_j - x_i|^2
    x_i  = x_i + mean_j coord_mlp(m_ij) (x_j - x_i) / sqrt(r),   h_i = node_mlp([h_i, sum_j m_ij])

Coincident nodes have no direction here; there DGL's own derivatives are nan, and these are 0.
"""

import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ... import _check, ops
from ..mlp import linear_tensors, perceptron, with_children
from .fused import FusedForward
from .recognition import (
    UnrecognisedError,
    check_pattern,
    check_state,
    common_activation,
    perceptron_activation,
    sequence,
)
from .trial import N_NODES, bare_copy, random, trial_edges

CLASS = "EGNNConv"
SPACE = 3
# Parts whose modules the fused forward does not call: it reads their weights.
FUSED_PARTS = ("edge_mlp", "coord_mlp")


@dataclass(frozen=True)
class FusedConv(FusedForward):
    """A layer that is called with a graph; only positions in space are fused."""

    activation: str
    node_activation: str | None

    def fused(self, graph, node_feat, coord_feat, edge_feat=None):
        if coord_feat.shape[1] != SPACE:
            return type(self.layer).forward(self.layer, graph, node_feat, coord_feat, edge_feat)
        layer, (sources, destinations) = self.layer, graph.edges()
        # Geometry is never computed in half precision.
        pos = coord_feat if coord_feat.dtype in _check.GEOMETRY_DTYPES else coord_feat.float()
        weight, *rest = linear_tensors(layer.edge_mlp)
        of_source, of_destination, of_edge = weight.tensor_split((layer.in_size, 2 * layer.in_size), 1)
        message, vector = ops.frame_message(
            *(node_feat, pos, torch.stack((destinations, sources)), edge_feat if layer.edge_feat_size else None),
            edge_mlp=[torch.cat((of_destination, of_source, of_edge), 1), *rest],
            coord_mlp=linear_tensors(layer.coord_mlp),
            basis="radial",
            mode="orthonormal",
            activation=self.activation,
            clamp=math.inf,
        )
        h = perceptron(layer.node_mlp, self.node_activation, node_feat, message.to(node_feat.dtype))
        # The vectors of the op point to the receiver, DGL's from it.
        return h, (pos - vector).to(coord_feat.dtype)

    def uncalled(self) -> Iterator[tuple[str, nn.Module]]:
        for name in FUSED_PARTS:
            yield from ((name, module) for module in with_children(self.layer._modules[name]))

    def trials(self, generator: torch.Generator) -> Iterator[tuple[nn.Module, tuple]]:
        layer, (destinations, sources) = self.layer, trial_edges()
        graph = sys.modules["dgl"].graph((sources, destinations), num_nodes=N_NODES)
        h, pos = (random(generator, N_NODES, size) for size in (layer.in_size, SPACE))
        edge_feat = random(generator, len(sources), layer.edge_feat_size) if layer.edge_feat_size else None
        yield bare_copy(layer, generator), (graph, h, pos, edge_feat)

    def outcome(self, result: object, arguments: tuple) -> dict[str, Tensor]:
        if not (isinstance(result, tuple) and len(result) == 2):
            raise UnrecognisedError("it does not return features and positions")
        return {"features": result[0], "positions": result[1]}


def fused_forward(layer: nn.Module) -> FusedConv:
    """The fused forward of a layer, from its class name, attributes and modules.

    Raises:
        UnrecognisedError: anything about the layer is not as published, or there is no DGL to try it with.
    """
    check_state(layer, {"edge_mlp", "node_mlp", "coord_mlp"})
    edge_mlp, coord_mlp = sequence(layer, "edge_mlp"), sequence(layer, "coord_mlp")
    check_pattern(edge_mlp, "edge_mlp", [nn.Linear, None, nn.Linear, None])
    check_pattern(coord_mlp, "coord_mlp", [nn.Linear, None, nn.Linear])
    if "dgl" not in sys.modules:
        raise UnrecognisedError("dgl is not imported, and without its graphs the layer cannot be tried")
    activation = common_activation([*edge_mlp[1::2], coord_mlp[1]])
    return FusedConv(layer, activation, perceptron_activation(layer, ("node_mlp",)))
