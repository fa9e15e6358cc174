"""Put the fused layers in the place of published ones inside a model, and take them out again."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

from torch import nn

from ._verify import Agreement, check_call, compare, measure
from .nn.families import CLASSES, FusedForward, UnrecognisedError, fused_forward, holds_layers, is_candidate

THE_MODEL = "(the model itself)"


@dataclass
class Report:
    """What ``replace_layers`` did.

    Attributes:
        replaced: path of each replaced layer in the model -> name of its class.
        left: path of each layer that looked like a published one and was left -> why.
        verified: largest differences before and after, in units of each tensor's largest value; None if not asked.
    """

    replaced: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    verified: Agreement | None = None

    def as_dict(self) -> dict:
        """Plain dicts, ready for JSON."""
        return asdict(self)

    def __str__(self) -> str:
        if not self.replaced and not self.left:
            return f"No layer of a published class ({', '.join(CLASSES)}) was found; nothing was replaced."
        lines = [f"Replaced {len(self.replaced)} of {len(self.replaced) + len(self.left)} published layers."]
        lines += [f"  replaced {path}: {name}" for path, name in self.replaced.items()]
        lines += [f"  left {path}: {reason}" for path, reason in self.left.items()]
        if self.verified is not None:
            lines.append(
                f"Verified: outputs differ by at most {self.verified.outputs:.1e} of their largest value, "
                f"gradients by {self.verified.gradients:.1e}."
            )
        return "\n".join(lines)


def replace_layers(
    model: nn.Module, *, verify: tuple | Mapping | None = None, tolerance: float | None = None
) -> Report:
    """Let the published layers inside a model run fused, in place.

    Clof_GCL, E_GCL and E_GCL_vel of ClofNet's and EGNN's public programs, EquivariantBlock of E(3) Equivariant
    Diffusion and its descendants, and the layers of DGL and egnn-pytorch (these on CPUs) are recognised by class name,
    attributes and modules, and by a trial on a small graph against what they should compute. Only the forward of each
    instance is exchanged: the model keeps its class, weights, parameter names, hooks, dtype, device, training mode and
    call signature, and optimizers keep working. Layers with anything unusual (parts, activations, hooks on fused parts,
    derived classes) are left, with the reason in the report.

    A replaced layer returns new positions and does not write into those that it was given, which ClofNet's and EGNN's
    do. Under ``torch.func`` transforms, ``vmap`` and forward-mode differentiation it runs its own forward, and so it
    does after a change of its options or modules: every call looks for one. Replaced layers do not work inside
    ``nn.DataParallel`` and as shallow copies, which copy forwards without binding them to the copies;
    DistributedDataParallel and ``copy.deepcopy`` are fine.

    Args:
        model: any module; it may be a layer itself.
        verify: arguments of a call of the model, a tuple, or a dict of keyword arguments. The model is called on
            copies of them before and after, and outputs and all gradients are compared; tensors may be inside
            containers and objects that ``copy.deepcopy`` copies.
        tolerance: largest difference of an output that ``verify`` allows, in units of the output's largest value;
            gradients may differ by ten times that. If not given, what rounding in the output's dtype explains.

    Returns:
        What was replaced, what was left, and why; ``print`` it.

    Raises:
        TypeError: model or verify is of a wrong type, or something of a call of ``verify`` cannot be copied.
        ValueError: tolerance is not above 0, or is given without verify; with ``verify``, the model returns nothing
            that can be compared.
        RuntimeError: with ``verify``, the results disagree; the model is then as it was.
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}.")
    if tolerance is not None and (verify is None or not tolerance > 0):
        raise ValueError(f"tolerance must be above 0, beside verify; got {tolerance!r}.")
    if verify is None:
        return _replace(model)[0]
    check_call(verify)
    before = measure(model, verify)
    report, layers = _replace(model)
    try:
        report.verified = compare(before, measure(model, verify), tolerance)
    except BaseException:
        _restore(layers)
        raise
    return report


def restore_layers(model: nn.Module) -> None:
    """Give every replaced layer inside a model its own forward back."""
    _restore([layer for layer in model.modules() if _is_replaced(layer)])


@contextlib.contextmanager
def replaced(
    model: nn.Module, *, verify: tuple | Mapping | None = None, tolerance: float | None = None
) -> Iterator[Report]:
    """``replace_layers`` inside a ``with`` block; layers that were replaced before stay so after it."""
    already = {id(layer) for layer in model.modules() if _is_replaced(layer)}
    report = replace_layers(model, verify=verify, tolerance=tolerance)
    try:
        yield report
    finally:
        _restore([layer for layer in model.modules() if _is_replaced(layer) and id(layer) not in already])


def _replace(model: nn.Module) -> tuple[Report, list[nn.Module]]:
    """The report, and the layers that were replaced."""
    report, layers = Report(), []
    try:
        for path, layer in _candidates(model):
            if replace_layer(layer, path or THE_MODEL, report):
                layers.append(layer)
    except BaseException:
        _restore(layers)
        raise
    return report, layers


def _candidates(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of published names, with their paths; what a published layer is made of is that layer's business."""
    inside = None
    for path, layer in model.named_modules():
        if (inside is not None and path.startswith(inside)) or not is_candidate(layer):
            continue
        if not holds_layers(layer):
            inside = f"{path}." if path else ""
        yield path, layer


def replace_layer(layer: nn.Module, name: str, report: Report) -> bool:
    """Replace one layer of a published name if it is as published; the report tells, under ``name``."""
    try:
        if _is_replaced(layer):
            raise UnrecognisedError("it was replaced before")
        layer.forward = fused_forward(layer)
    except UnrecognisedError as reason:
        report.left[name] = f"{type(layer).__name__}: {reason}"
        return False
    report.replaced[name] = type(layer).__name__
    return True


def _is_replaced(layer: nn.Module) -> bool:
    return isinstance(vars(layer).get("forward"), FusedForward)


def _restore(layers: list[nn.Module]) -> None:
    for layer in layers:
        del layer.forward
