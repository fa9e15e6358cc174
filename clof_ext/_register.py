"""Fake implementations, derivatives and autocast rules of the operators, for every library that defines them.

Every geometry op follows one pattern, so one rule serves all. With differentiable inputs x and constants k::

    <op>(*x, *k)                                                    -> y
    <op>_backward(grad_y, *x, *k)                                   -> one gradient for each x
    <op>_double_backward(*grad_of_grad_x, grad_y, *x, *k)           -> gradient for grad_y, then for each x
"""

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ._transforms import one_by_one, refuse_tangents

COMPILED = "clof_ext"
TRITON = "clof_ext_triton"


@dataclass(frozen=True)
class Operator:
    """What PyTorch must know of an op beside its kernels."""

    name: str
    n_inputs: int
    fakes: tuple[Callable, Callable, Callable]


_rules: list[Callable[[str], None]] = []


def register(name: str, *, n_inputs: int, fakes: tuple[Callable, Callable, Callable]) -> None:
    """Declare an op that follows the pattern above; ``activate`` applies it to a library."""
    _rules.append(lambda library: _apply(library, Operator(name, n_inputs, fakes)))


def register_rule(rule: Callable[[str], None]) -> None:
    """Declare an op with rules of its own: a function of the library's name."""
    _rules.append(rule)


def activate(library: str) -> None:
    """Give the operators of a library their fakes, derivatives and autocast rules."""
    for rule in _rules:
        rule(library)


def _apply(library: str, op: Operator) -> None:
    stages = (op.name, f"{op.name}_backward", f"{op.name}_double_backward")
    namespace = getattr(torch.ops, library)
    backward, double_backward = getattr(namespace, stages[1]), getattr(namespace, stages[2])
    n = op.n_inputs

    def forward_backward(ctx, grad):
        arguments = restore(ctx)
        grads = as_tuple(backward(grad, *arguments))
        return *where_given(grads, arguments[:n]), *[None] * (len(arguments) - n)

    def backward_backward(ctx, *grads):
        arguments = restore(ctx)
        given = where_given(grads, arguments[1 : n + 1])
        results = as_tuple(double_backward(*given, *arguments))
        return results[0], *where_given(results[1:], arguments[1 : n + 1]), *[None] * (len(arguments) - n - 1)

    derivatives = (forward_backward, backward_backward, no_third_derivative(op.name))
    for stage, fake, derivative in zip(stages, op.fakes, derivatives, strict=True):
        declare(library, stage, fake, derivative, save)
    autocast_to_float32(library, op.name)


def declare(
    library: str, name: str, fake: Callable, derivative: Callable | None = None, save: Callable | None = None
) -> None:
    """Give an operator its fake implementation, its batching rule and, where it has one, its derivative.

    ``save`` keeps what the derivative reads, see ``torch.library.register_autograd``.
    """
    qualified = f"{library}::{name}"
    torch.library.register_fake(qualified, fake)
    torch.library.register_vmap(qualified, one_by_one(getattr(getattr(torch.ops, library), name)))
    if derivative is not None:

        def backward(ctx, *grads):
            refuse_tangents(*_tensors_of(grads))
            return derivative(ctx, *grads)

        torch.library.register_autograd(qualified, backward, setup_context=save)


def autocast_to_float32(library: str, name: str) -> None:
    """Have autocast call an operator in float32."""
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(f"{library}::{name}", device, torch.float32)


def _tensors_of(grads: Iterable) -> Iterator[Tensor | None]:
    """Gradients of an operator's results, which may be lists."""
    for grad in grads:
        yield from grad if isinstance(grad, list | tuple) else (grad,)


def is_recorded(*values: object) -> bool:
    """Whether autograd would record an op of these values: tensors, None, and what checks will refuse."""
    return torch.is_grad_enabled() and any(getattr(value, "requires_grad", False) for value in values)


def record(function: type[torch.autograd.Function], *arguments):
    """``function.apply(*arguments)``, without what torch does for torch.func each time, which takes microseconds.

    Where that looks on, call the operator in place of the function: its rules are written for it.
    """
    return super(torch.autograd.Function, function).apply(*arguments)


def unrecorded(operator: Callable, *arguments):
    """Call an operator where autograd has nothing to record.

    Otherwise torch asks the rule registered for it, in Python, which takes as long as the kernels of a small graph.
    """
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*arguments)


@functools.cache
def sibling_of(operator: Callable, suffix: str) -> Callable:
    """The operator of the same library whose name is that of another and a suffix."""
    return getattr(getattr(torch.ops, operator.default.namespace), f"{operator.__name__}_{suffix}")


def backward_of(operator: Callable) -> Callable:
    """The operator of the backward pass of one."""
    return sibling_of(operator, "backward")


def in_backward(operator: Callable, *arguments):
    """Call the operator of a backward pass: recorded where that is to be differentiated in turn."""
    return operator(*arguments) if torch.is_grad_enabled() else unrecorded(operator, *arguments)


def save(ctx, inputs, output) -> None:
    """Keep an operator's arguments, tensors the way autograd wants them."""
    ctx.save_for_backward(*[value for value in inputs if isinstance(value, Tensor)])
    ctx.others = [None if isinstance(value, Tensor) else (value,) for value in inputs]


def restore(ctx) -> list:
    """The arguments that ``save`` kept, in their order."""
    tensors = iter(ctx.saved_tensors)
    return [next(tensors) if other is None else other[0] for other in ctx.others]


def as_tuple(value):
    return (value,) if isinstance(value, Tensor) else tuple(value)


def where_given(values, inputs) -> list:
    """None in the place of every optional input that was None."""
    return [None if given is None else value for value, given in zip(values, inputs, strict=True)]


def no_third_derivative(name: str) -> Callable:
    def backward(ctx, *grads):
        raise NotImplementedError(
            f"{name} has first and second derivatives in its kernels, no third; use backend='reference' for more."
        )

    return backward
