"""The published layers: how one is recognised, and the fused forward that computes the same."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from .. import _check
from .activation import activation_name
from .edge_pair import joined
from .frame_conv import LayerOptions, convolve


class UnrecognisedError(Exception):
    """Why a layer is not one that the fused forward can stand for."""


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


@dataclass(frozen=True)
class FusedForward:
    """Stands in the place of a published layer's forward, with its arguments and its results.

    The layer keeps its parameters and modules; this reads them. Positions are returned as a new tensor, where the
    published layers also write into the one that they are given.
    """

    layer: nn.Module
    options: LayerOptions

    def __call__(self, h, edge_index, coord, edge_attr=None, node_attr=None):
        return self._run(h, edge_index, coord, None, edge_attr, node_attr)

    def _run(self, h, edge_index, coord, vel, edge_attr, node_attr):
        if hooked_part(self.layer) is not None:
            # Hooks that came after the replacement still have to see what they were registered for.
            velocity = () if vel is None else (vel,)
            return type(self.layer).forward(self.layer, h, edge_index, coord, *velocity, edge_attr, node_attr)
        # Geometry is never computed in half precision.
        pos = coord if coord.dtype in _check.GEOMETRY_DTYPES else coord.float()
        arguments = (h, pos, joined(edge_index), edge_attr, vel, node_attr)
        h, pos = convolve(self.layer, self.options, *arguments)
        return h, pos.to(coord.dtype), edge_attr


class FusedVelocityForward(FusedForward):
    """The same for the layers that read velocities."""

    def __call__(self, h, edge_index, coord, vel, edge_attr=None, node_attr=None):
        return self._run(h, edge_index, coord, vel, edge_attr, node_attr)


def fused_forward(layer: nn.Module) -> FusedForward:
    """The fused forward of a published layer, from its class name, attributes and modules.

    Raises:
        UnrecognisedError: anything about the layer is not as published.
    """
    name = type(layer).__name__
    if name not in KINDS:
        raise UnrecognisedError(f"its class {name} is derived from a published one and may compute something else")
    if "forward" in vars(layer):
        raise UnrecognisedError("its forward was exchanged by other code")
    kind = KINDS[name]
    _check_parts(layer, kind)
    options = _options(layer, kind)
    part = hooked_part(layer)
    if part is not None:
        raise UnrecognisedError(f"{part} has hooks, which the fused forward would not call")
    return (FusedVelocityForward if kind.velocity else FusedForward)(layer, options)


def hooked_part(layer: nn.Module) -> str | None:
    """The name of a fused part that has hooks, or None; the parts are Sequentials of modules without children."""
    for name in FUSED_PARTS:
        part = layer._modules.get(name)
        if part is not None and (_has_hooks(part) or any(map(_has_hooks, part._modules.values()))):
            return name
    return None


def _has_hooks(module: nn.Module) -> bool:
    return bool(
        module._forward_hooks or module._forward_pre_hooks or module._backward_hooks or module._backward_pre_hooks
    )


def _check_parts(layer: nn.Module, kind: Kind) -> None:
    """The layer's own modules are the published ones, and it has no other state."""
    needed = {"edge_mlp", "node_mlp", "coord_mlp"}
    needed |= {"coord_mlp_vel"} if kind.velocity else set()
    needed |= {"layer_norm"} if kind.layer_norm else set()
    found = set(layer._modules)
    extra = [*(found - needed - {"att_mlp"}), *layer._parameters, *layer._buffers]
    if extra:
        raise UnrecognisedError(f"it has parts that the published layer has not: {_listed(extra)}")
    if needed - found:
        raise UnrecognisedError(f"it lacks parts of the published layer: {_listed(needed - found)}")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _options(layer: nn.Module, kind: Kind) -> LayerOptions:
    """What the layer does beside its parameters; the patterns of its fused parts are checked on the way."""
    edge_mlp, coord_mlp = _sequence(layer, "edge_mlp"), _sequence(layer, "coord_mlp")
    tanh = bool(coord_mlp) and type(coord_mlp[-1]) is nn.Tanh
    any_module = None
    _check_pattern(edge_mlp, "edge_mlp", [nn.Linear, any_module] * (len(edge_mlp) // 2))
    _check_pattern(coord_mlp, "coord_mlp", [nn.Linear, any_module, nn.Linear] + [nn.Tanh] * tanh)
    if "att_mlp" in layer._modules:
        _check_pattern(_sequence(layer, "att_mlp"), "att_mlp", [nn.Linear, nn.Sigmoid])
    activations = [*edge_mlp[1::2], coord_mlp[1]]
    names = {activation_name(module) for module in activations}
    if len(names) > 1 or None in names:
        listed = _listed({str(module) for module in activations})
        raise UnrecognisedError(f"its activations, {listed}, are not one that the fused forward knows")
    return LayerOptions(kind.basis, activation=names.pop(), tanh=tanh, **_settings(layer))


def _sequence(layer: nn.Module, name: str) -> list[nn.Module]:
    """The modules of a part; a class derived from Sequential may call them otherwise."""
    part = getattr(layer, name)
    if type(part) is not nn.Sequential:
        raise UnrecognisedError(f"{name} must be a Sequential; it is a {type(part).__name__}")
    return list(part)


def _check_pattern(found: list[nn.Module], name: str, pattern: list[type | None]) -> None:
    """The modules have exactly these types, None for any; a derived class may compute something else."""
    fits = len(found) == len(pattern) and all(
        expected in (None, type(module)) for module, expected in zip(found, pattern, strict=True)
    )
    if not fits:
        types = ", ".join(type(module).__name__ for module in found)
        raise UnrecognisedError(f"{name} is not built as published; it is made of {types}")


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
