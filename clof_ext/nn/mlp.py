"""Multilayer perceptrons under the names that the published weights have: Linear at 0, 2, 4, ..."""

from collections.abc import Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor, nn

from .. import _check, ops
from .activation import KNOWN, MODULES, Known, settings

# Gain of the last Linear of the coordinate heads: positions start almost unmoved.
COORD_GAIN = 0.001
# What weights are read of, and its forward: looking them up in torch's modules takes longer than asking for them.
LINEAR, IDENTITY = nn.Linear, nn.Identity
OF_LINEAR, OF_SEQUENTIAL = nn.Linear.forward, nn.Sequential.forward
TENSORS = ("weight", "bias")


def mlp(sizes: list[int], activation: str, *, end: nn.Module | None = None) -> nn.Sequential:
    """Linear layers of the given sizes, the activation between them and ``end`` after the last."""
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(sizes):
        layers += [nn.Linear(n_in, n_out), _made(activation)]
    return nn.Sequential(*layers[:-1], *([] if end is None else [end]))


def activated_mlp(sizes: list[int], activation: str) -> nn.Sequential:
    """Linear layers of the given sizes, each followed by the activation."""
    return mlp(sizes, activation, end=_made(activation))


def coord_head(n_in: int, hidden_dim: int, n_out: int, activation: str, *, tanh: bool) -> nn.Sequential:
    """Linear, activation, a Linear without bias that starts small, and tanh as an option."""
    last = nn.Linear(hidden_dim, n_out, bias=False)
    nn.init.xavier_uniform_(last.weight, gain=COORD_GAIN)
    return nn.Sequential(nn.Linear(n_in, hidden_dim), _made(activation), last, *([nn.Tanh()] if tanh else []))


def _made(activation: str) -> nn.Module:
    _check.one_of(activation, tuple(MODULES), "activation")
    return MODULES[activation]()


def linear_tensors(sequence: nn.Sequential) -> list[Tensor]:
    """Weight and, where there is one, bias of every Linear, in order.

    A module finds its parameters slowly, by way of a failed look-up: those of a layer would cost as much as a small
    graph. They are looked up where they are, unless pruning or a parametrization made them something else.
    """
    tensors = []
    for module in sequence.__dict__["_modules"].values():
        if not isinstance(module, LINEAR):
            continue
        parameters = module.__dict__["_parameters"]
        for name in TENSORS:
            tensor = parameters[name] if name in parameters else getattr(module, name)
            if tensor is not None:
                tensors.append(tensor)
    return tensors


def perceptron(part: nn.Sequential, activation: str | None, *inputs: Tensor) -> Tensor:
    """What a part makes of inputs side by side, fused where that is known: it is Linears with ``activation`` between.

    With None, for hooks that have to be called, or where it has become anything else, its modules are called.
    """
    weights = weights_to_read(part, activation)
    return part(torch.cat(inputs, 1)) if weights is None else ops.mlp(inputs, weights, activation=activation)


def weights_to_read(part: nn.Module, activation: str | None) -> list[Tensor] | None:
    """Weight and bias of every Linear of a part, or None where its modules have to be called."""
    count = 0 if activation is None else n_linears(part, activation)
    if not count or have_hooks((part, *part.__dict__["_modules"].values())):
        return None
    tensors = linear_tensors(part)
    return tensors if len(tensors) == 2 * count else None


def n_linears(part: nn.Module, activation: str, end: Known | None = None) -> int:
    """Of how many Linears a part is, the activation between them and ``end`` after the last; 0 for anything else.

    The class of a Linear may be another where its forward is the same, as parametrizations make it.
    """
    own, (kind, options) = part.__dict__, KNOWN[activation]
    modules = [one for one in own["_modules"].values() if type(one) is not IDENTITY or "forward" in one.__dict__]
    if end is not None and not (modules and end.is_like(modules.pop())):
        return 0
    # Layers ask this on every call: what a module is like is asked here, without calls.
    for module in modules[::2]:
        if type(module).forward is not OF_LINEAR or "forward" in module.__dict__:
            return 0
    for module in modules[1::2]:
        if type(module) is not kind or "forward" in module.__dict__ or (options and settings(module) != options):
            return 0
    whole = len(modules) % 2 == 1 and type(part).forward is OF_SEQUENTIAL and "forward" not in own
    return len(modules) // 2 + 1 if whole else 0


def check_read(owner: nn.Module, name: str, activation: str, end: Known | None) -> None:
    """The weights of this part may be read in place of calling it.

    Raises:
        ValueError: it has become something else.
    """
    part = owner._modules[name]
    if not n_linears(part, activation, end):
        after = "nothing" if end is None else end.kind.__name__
        found = ", ".join(type(module).__name__ for module in part.children()) or type(part).__name__
        raise ValueError(
            f"{name} of {type(owner).__name__} must be Linears with {activation} between them and {after} behind, as "
            f"it was made: its weights are read, its modules are not called; got {found}."
        )


def with_children(part: nn.Module) -> Iterator[nn.Module]:
    """A part and what it directly holds: all there is of a Sequential of plain modules."""
    yield part
    yield from (child for child in part._modules.values() if child is not None)


def have_hooks(modules: Iterable[nn.Module]) -> bool:
    """Whether one of the modules has hooks. A loop over dicts: layers ask on every call."""
    for module in modules:
        own = module.__dict__
        if own["_forward_hooks"] or own["_forward_pre_hooks"] or own["_backward_hooks"] or own["_backward_pre_hooks"]:
            return True
    return False
