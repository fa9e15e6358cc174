"""Comparison of a model with itself before and after a change, on a batch."""

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import count

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

# Largest difference of two correct programs, in units of the largest value of the tensor; gradients get ten times that.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5, torch.bfloat16: 3e-2, torch.float16: 5e-3}
GRADIENT_FACTOR = 10
# A gradient below this share of the largest one may be rounding alone.
NEGLIGIBLE = 1e-3
SEED = 0

Call = tuple | Mapping


@dataclass(frozen=True)
class Measurement:
    """What a model returned, and the gradients of a random combination of it."""

    outputs: dict[str, Tensor]
    gradients: dict[str, Tensor]


@dataclass(frozen=True)
class Agreement:
    """Largest differences, in units of the largest value of each tensor."""

    outputs: float
    gradients: float


def check_call(call: object) -> None:
    if not isinstance(call, tuple | Mapping):
        raise TypeError(
            "verify must be the arguments of a call of the model, a tuple or a dict of keyword arguments; "
            f"got {type(call).__name__}."
        )


def measure(model: nn.Module, call: Call) -> Measurement:
    """Call the model on copies of the arguments; its buffers, gradients and random numbers stay as they are."""
    buffers = {name: buffer.clone() for name, buffer in model.named_buffers()}
    devices = {tensor.device for tensor in model.parameters() if tensor.is_cuda}
    try:
        # Both measurements start from the caller's random state, so dropout falls alike.
        with torch.inference_mode(False), torch.enable_grad(), torch.random.fork_rng(devices):
            return _measure(model, call)
    finally:
        with torch.no_grad():
            for name, buffer in model.named_buffers():
                buffer.copy_(buffers[name])


def _measure(model: nn.Module, call: Call) -> Measurement:
    leaves: dict[str, Tensor] = {}
    positional, named = ((), dict(call)) if isinstance(call, Mapping) else (call, {})
    result = model(*_fresh(positional, "", leaves), **_fresh(named, "", leaves))
    outputs = dict(_tensors(result, "output"))
    if not outputs:
        raise ValueError(f"verify needs a model that returns floating tensors; got {type(result).__name__}.")
    roots = [output for output in outputs.values() if output.requires_grad]
    generator = torch.Generator().manual_seed(SEED)
    cotangents = [torch.randn(root.shape, generator=generator).to(root) for root in roots]
    wanted = {f"parameter {name}": value for name, value in model.named_parameters() if value.requires_grad} | leaves
    if not roots or not wanted:
        return Measurement(outputs, {})
    gradients = torch.autograd.grad(roots, list(wanted.values()), cotangents, allow_unused=True)
    # No gradient and a gradient of zeros mean the same.
    dense = {
        name: torch.zeros_like(wanted[name]) if value is None else value
        for name, value in zip(wanted, gradients, strict=True)
    }
    return Measurement(outputs, dense)


def _fresh(value: object, name: str, leaves: dict[str, Tensor]) -> object:
    """A copy of arguments whose floating tensors are differentiable; their leaves are noted.

    Objects that hold tensors in their own way are copied with them.
    """
    if isinstance(value, Tensor):
        copy = value.detach().clone()
        if not copy.is_floating_point():
            return copy
        leaves[f"argument {name}"] = copy.requires_grad_()
        # The published layers write into their arguments, which a leaf would refuse.
        return copy.clone()
    if isinstance(value, list | tuple):
        items = [_fresh(item, f"{name}[{k}]", leaves) for k, item in enumerate(value)]
        # Of a named tuple each item is an argument.
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    if type(value) is dict:
        return {key: _fresh(item, f"{name}[{key!r}]", leaves) for key, item in value.items()}
    return _with_tensors(value, name, lambda tensor, path: _fresh(tensor, path, leaves))


class _Exchange(TorchFunctionMode):
    """Lets ``copy.deepcopy`` put another tensor in the place of each, also of those that it refuses to copy."""

    def __init__(self, exchanged: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self._exchanged = exchanged

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func is not Tensor.__deepcopy__:
            return func(*args, **(kwargs or {}))
        tensor, memo = args
        if id(tensor) not in memo:
            memo[id(tensor)] = self._exchanged(tensor)
        return memo[id(tensor)]


def _with_tensors(value: object, name: str, exchanged: Callable[[Tensor, str], Tensor]) -> object:
    """A copy of any object, its tensors exchanged; they are numbered, since their names are the object's matter.

    Raises:
        TypeError: it cannot be copied.
    """
    numbers = count()
    with _Exchange(lambda tensor: exchanged(tensor, f"{name} tensor {next(numbers)}")):
        try:
            return copy.deepcopy(value)
        except (TypeError, NotImplementedError) as error:
            kind = type(value).__name__
            raise TypeError(f"verify needs what copy.deepcopy can copy; got for {name} a {kind}: {error}.") from error


def _tensors(value: object, name: str) -> Iterator[tuple[str, Tensor]]:
    """All floating tensors in nested results, with names."""
    if isinstance(value, Tensor):
        if value.is_floating_point():
            yield name, value
    elif isinstance(value, list | tuple):
        for k, item in enumerate(value):
            yield from _tensors(item, f"{name}[{k}]")
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, f"{name}[{key!r}]")
    else:
        found: list[tuple[str, Tensor]] = []
        _with_tensors(value, name, lambda tensor, path: found.append((path, tensor)) or tensor)
        for path, tensor in found:
            yield from _tensors(tensor, path)


def compare(before: Measurement, after: Measurement, tolerance: float | None) -> Agreement:
    """The largest differences.

    Raises:
        RuntimeError: a difference above the tolerance, which is that of the dtype if None.
    """
    table = TOLERANCE if tolerance is None else dict.fromkeys(TOLERANCE, tolerance)
    outputs = _largest_difference(before.outputs, after.outputs, table, negligible=0.0)
    largest = max((value.abs().max().item() for value in before.gradients.values() if value.numel()), default=0.0)
    wider = {dtype: GRADIENT_FACTOR * allowed for dtype, allowed in table.items()}
    gradients = _largest_difference(before.gradients, after.gradients, wider, negligible=NEGLIGIBLE * largest)
    return Agreement(outputs, gradients)


def _largest_difference(
    before: dict[str, Tensor], after: dict[str, Tensor], table: dict[torch.dtype, float], *, negligible: float
) -> float:
    largest = 0.0
    for name, expected in before.items():
        if not expected.numel():
            continue
        size = max(expected.abs().max().item(), negligible)
        error = (after[name] - expected).abs().max().item()
        relative = error / size if size else error
        allowed = table[expected.dtype]
        # Written so that nan is an error too.
        if not relative <= allowed:
            kind = "" if name.startswith("output") else "the gradient of "
            raise RuntimeError(
                f"The fused layers do not agree with the published ones: {kind}{name} differs by {relative:.1e} of "
                f"its largest value, allowed are {allowed:.1e}. The model was left as it was."
            )
        largest = max(largest, relative)
    return largest
