"""The layers of ClofNet's and EGNN's own programs."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ... import _check
from ..edge_pair import joined
from ..frame_conv import convolve
from ..layer_step import LayerOptions
from ..mlp import with_children
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


@dataclass(frozen=True)
class Kind:
    """What a published class has."""

    basis: str
    velocity: bool
    layer_norm: bool


KINDS = {
    "Clof_GCL": Kind("complete", velocity=True, layer_norm=True),
    "E_GCL": Kind("radial", velocity=False, layer_norm=False),
    "E_GCL_vel": Kind("radial", velocity=True, layer_norm=False),
}
# Parts whose modules the fused forward does not call: it reads their weights.
FUSED_PARTS = ("edge_mlp", "att_mlp", "coord_mlp")
# Parts that it calls unless it knows them.
NODE_PARTS = ("node_mlp", "coord_mlp_vel")
# What ClofNet's attention layer has, which bears the name of EGNN's.
ATTENTION_PART = "fc_query"
# Training mode and a factor of the last coordinate weights: ordinary vectors, and such that the published bound is
# reached.
TRIALS = ((True, 1.0), (False, 1e4))


@dataclass(frozen=True)
class FusedLayer(FusedForward):
    """A layer without velocities.

    Positions are returned as a new tensor, where the published layers also write into the one that they are given.
    """

    options: LayerOptions

    def fused(self, h, edge_index, coord, edge_attr=None, node_attr=None):
        return self._run(h, edge_index, coord, None, edge_attr, node_attr)

    def _run(self, h, edge_index, coord, vel, edge_attr, node_attr):
        # Geometry is never computed in half precision.
        pos = coord if coord.dtype in _check.GEOMETRY_DTYPES else coord.float()
        arguments = (h, pos, joined(edge_index), edge_attr, vel, node_attr)
        h, pos = convolve(self.layer, self.options, *arguments)
        return h, pos.to(coord.dtype), edge_attr

    def uncalled(self) -> Iterator[tuple[str, nn.Module]]:
        for name in FUSED_PARTS:
            part = self.layer._modules.get(name)
            if part is not None:
                yield from ((name, module) for module in with_children(part))

    def trials(self, generator: torch.Generator) -> Iterator[tuple[nn.Module, tuple]]:
        h_size, edge_size, attr_size = _input_sizes(self.layer, self.options)
        for training, scale in TRIALS:
            twin = bare_copy(self.layer, generator).train(training)
            head = next(part for part in reversed(twin.coord_mlp) if isinstance(part, nn.Linear))
            head.weight.mul_(scale)
            edges = trial_edges()
            h, pos, vel = (random(generator, N_NODES, size) for size in (h_size, 3, 3))
            edge_attr = random(generator, edges.shape[1], edge_size) if edge_size else None
            node_attr = random(generator, N_NODES, attr_size) if attr_size else None
            yield twin, (h, edges, pos, *self._velocity(vel), edge_attr, node_attr)

    def _velocity(self, vel: Tensor) -> tuple[Tensor, ...]:
        """The arguments that velocities are."""
        return ()

    def outcome(self, result: object, arguments: tuple) -> dict[str, Tensor]:
        if not (isinstance(result, tuple) and len(result) == 3 and result[2] is arguments[-2]):
            raise UnrecognisedError("it does not return features, positions and edge_attr")
        return {"features": result[0], "positions": result[1]}


class FusedVelocityLayer(FusedLayer):
    """A layer that reads velocities."""

    def fused(self, h, edge_index, coord, vel, edge_attr=None, node_attr=None):
        return self._run(h, edge_index, coord, vel, edge_attr, node_attr)

    def _velocity(self, vel: Tensor) -> tuple[Tensor, ...]:
        return (vel,)


def fused_forward(layer: nn.Module) -> FusedLayer:
    """The fused forward of a layer, from its class name, attributes and modules.

    Raises:
        UnrecognisedError: anything about the layer is not as published.
    """
    kind = KINDS[type(layer).__name__]
    if ATTENTION_PART in layer._modules:
        raise UnrecognisedError("it is ClofNet's attention layer, which is not fused; nn.FrameAttention is that layer")
    needed = {"edge_mlp", "node_mlp", "coord_mlp"}
    needed |= {"coord_mlp_vel"} if kind.velocity else set()
    needed |= {"layer_norm"} if kind.layer_norm else set()
    check_state(layer, needed, optional=("att_mlp",))
    return (FusedVelocityLayer if kind.velocity else FusedLayer)(layer, _options(layer, kind))


def _options(layer: nn.Module, kind: Kind) -> LayerOptions:
    """What the layer does beside its parameters; the patterns of its fused parts are checked on the way."""
    edge_mlp, coord_mlp = sequence(layer, "edge_mlp"), sequence(layer, "coord_mlp")
    tanh = bool(coord_mlp) and type(coord_mlp[-1]) is nn.Tanh
    any_module = None
    check_pattern(edge_mlp, "edge_mlp", [nn.Linear, any_module] * (len(edge_mlp) // 2))
    check_pattern(coord_mlp, "coord_mlp", [nn.Linear, any_module, nn.Linear] + [nn.Tanh] * tanh)
    if "att_mlp" in layer._modules:
        check_pattern(sequence(layer, "att_mlp"), "att_mlp", [nn.Linear, nn.Sigmoid])
    activation = common_activation([*edge_mlp[1::2], coord_mlp[1]])
    node_activation = perceptron_activation(layer, NODE_PARTS)
    return LayerOptions(
        kind.basis, activation=activation, tanh=tanh, node_activation=node_activation, **_settings(layer)
    )


def _settings(layer: nn.Module) -> dict:
    """The options that the two public programs name differently; what a copy leaves out has its default there."""
    if "residual" not in vars(layer):
        return {
            "recurrent": bool(getattr(layer, "recurrent", True)),
            "frame": "soft" if getattr(layer, "norm_diff", False) else "raw",
            "coords_weight": float(getattr(layer, "coords_weight", 1.0)),
        }
    # EGNN's stand-alone program: another normalisation, no bound, sums as an option.
    if getattr(layer, "normalize", False):
        raise UnrecognisedError("with normalize=True it divides by a distance without differentiating that")
    return {
        "recurrent": bool(layer.residual),
        "frame": "raw",
        "coords_weight": 1.0,
        "clamp": math.inf,
        "vector_reduce": getattr(layer, "coords_agg", "mean"),
    }


def _input_sizes(layer: nn.Module, options: LayerOptions) -> tuple[int, int, int]:
    """Columns of h, edge_attr and node_attr, from the shapes of the weights."""
    hidden = layer.coord_mlp[0].in_features
    node_mlp = [part for part in layer.node_mlp.modules() if isinstance(part, nn.Linear)]
    if "coord_mlp_vel" in layer._modules:
        h_size = next(part for part in layer.coord_mlp_vel.modules() if isinstance(part, nn.Linear)).in_features
    elif options.recurrent:
        h_size = node_mlp[-1].out_features
    else:
        # Nothing tells h from node_attr and edge_attr: any sizes that fit give a layer of the same weights.
        h_size = min(node_mlp[0].in_features - hidden, (layer.edge_mlp[0].in_features - 1) // 2)
    edge_size = layer.edge_mlp[0].in_features - 2 * h_size - 1
    attr_size = node_mlp[0].in_features - hidden - h_size
    if edge_size < 0 or attr_size < 0:
        raise UnrecognisedError("the shapes of its weights do not belong together")
    return h_size, edge_size, attr_size
