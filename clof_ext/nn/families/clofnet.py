"""ClofNet's own networks, whose edge features are made of all edges' frames; their layers are the family of egnn.py.

With x the centred positions and s_ij the scalars of an edge (``ops.edge_scalars``), with or without velocities::

    e_ij = fuse_edge([edge_attr_ij, s_ij]), or fuse_edge(s_ij) + gbf(edge_attr_ij)
    h, x = gcl_k(h, edges, x, vel, e)   for each layer;   the result is x + centroid
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ... import _check
from ...graph import EdgePlan, as_plan
from ..edge_features import edge_features
from ..edge_pair import joined
from ..mlp import linear_tensors, with_children
from .fused import FusedForward
from .recognition import UnrecognisedError, check_pattern, check_state, common_activation, sequence
from .trial import N_NODES, bare_copy, random, trial_edges


@dataclass(frozen=True)
class Kind:
    """What a published class has: velocities in its scalars, Gaussian features of edge_attr, a part it never reads."""

    velocity: bool
    gaussian: bool = False
    unread: tuple[str, ...] = ()


KINDS = {
    "ClofNet_vel": Kind(velocity=True),
    "ClofNet": Kind(velocity=False, unread=("embedding_edge",)),
    "ClofNet_vel_gbf": Kind(velocity=True, gaussian=True),
}
MARKS = ("fuse_edge", "embedding_node", "gcl_0")
PARAMETERS = ("x", "edges", "n_nodes")
# Nodes of a graph of the trial.
TRIAL_GRAPH = N_NODES // 2


@dataclass(frozen=True)
class FusedNetwork(FusedForward):
    """A network; its layers, its embedding and its Gaussian features are called, ``fuse_edge`` is read.

    Attributes:
        kind: what its class has.
        mode: of the frames that its scalars are components on.
        activation: of fuse_edge.
    """

    kind: Kind
    mode: str
    activation: str

    def fused(self, h, x, edges, vel, edge_attr, node_attr=None, n_nodes=5):
        network, dtype = self.layer, x.dtype
        h = network.embedding_node(h)
        # Geometry is never computed in half precision.
        graphs = (x if dtype in _check.GEOMETRY_DTYPES else x.float()).reshape(-1, n_nodes, 3)
        center = graphs.mean(1, keepdim=True)
        x = (graphs - center).reshape(x.shape)
        features = self._edge_features(as_plan(joined(edges), h.shape[0], x.device), x, vel, edge_attr)
        x = x.to(dtype)
        for layer in _layers(network):
            h, x, _ = layer(h, edges, x, vel, edge_attr=features, node_attr=node_attr)
        return (x.reshape(graphs.shape) + center.to(dtype)).reshape(x.shape)

    def _edge_features(self, plan: EdgePlan, x: Tensor, vel: Tensor, edge_attr: Tensor) -> Tensor:
        features = edge_features(
            *(x, vel.to(x.dtype) if self.kind.velocity else None, plan, None if self.kind.gaussian else edge_attr),
            linear_tensors(self.layer.fuse_edge),
            mode=self.mode,
            activation=self.activation,
            dtype=edge_attr.dtype,
        )
        if not self.kind.gaussian:
            return features
        kind = (0.5 * edge_attr[:, 0] + 0.5).long()
        return features + self.layer.gbf(edge_attr[:, 1], kind)

    def uncalled(self) -> Iterator[tuple[str, nn.Module]]:
        yield from (("fuse_edge", module) for module in with_children(self.layer.fuse_edge))

    def trials(self, generator: torch.Generator) -> Iterator[tuple[nn.Module, tuple]]:
        twin = bare_copy(self.layer, generator)
        node_size = twin.embedding_node.in_features
        edge_size = 2 if self.kind.gaussian else twin.fuse_edge[0].in_features - _n_scalars(self.kind)
        edges = trial_edges()
        h, pos, vel = (random(generator, N_NODES, size) for size in (node_size, 3, 3))
        edge_attr = random(generator, edges.shape[1], edge_size)
        if self.kind.gaussian:
            edge_attr[:, 0] = edge_attr[:, 0].sign()
        yield twin, (h, pos, list(edges), vel, edge_attr, None, TRIAL_GRAPH)

    def outcome(self, result: object, arguments: tuple) -> dict[str, Tensor]:
        if not isinstance(result, Tensor):
            raise UnrecognisedError("it does not return positions alone")
        return {"positions": result}


def fused_forward(network: nn.Module) -> FusedNetwork:
    """The fused forward of a network, from its class name, attributes and modules.

    Raises:
        UnrecognisedError: anything about the network is not as published.
    """
    kind = KINDS[type(network).__name__]
    layers = {f"gcl_{k}" for k in range(network.n_layers)}
    needed = {"embedding_node", "fuse_edge", *layers, *(("gbf",) if kind.gaussian else ())}
    check_state(network, needed, optional=kind.unread)
    modules = sequence(network, "fuse_edge")
    check_pattern(modules, "fuse_edge", [nn.Linear, None, nn.Linear, None])
    # With velocities the scalars are components on soft frames, whatever those of the layers.
    mode = "soft" if kind.velocity or network.norm_diff else "raw"
    return FusedNetwork(network, kind, mode, common_activation(modules[1::2]))


def _layers(network: nn.Module) -> list[nn.Module]:
    return [network._modules[f"gcl_{k}"] for k in range(network.n_layers)]


def _n_scalars(kind: Kind) -> int:
    return 14 if kind.velocity else 8
