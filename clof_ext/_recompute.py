"""Second derivatives that kernels do not make: the reference is run and differentiated twice."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def made_by_kernels(ctx, along_weights: Sequence[Tensor | None]) -> bool:
    """Whether kernels make the derivative of a backward pass, given the cotangents of its gradients of weights.

    On CPUs they do, if it will not be differentiated again, unless the loss depends on gradients of weights, which that
    of a force field does not.
    """
    last = not torch.is_grad_enabled()
    return last and ctx.saved_tensors[0].device.type == "cpu" and all(along is None for along in along_weights)


def double_backward(
    run: Callable[[list[Tensor]], Tensor | tuple[Tensor, ...]],
    cotangents: Sequence[Tensor],
    inputs: Sequence[Tensor],
    directions: Sequence[Tensor | None],
) -> list[Tensor | None]:
    """Derivatives of an op's backward pass.

    It costs the memory of the unfused op and about the time of two of its backward passes. Derivatives of any order
    follow from it.

    Args:
        run: the op by its definition, as a function of the inputs.
        cotangents: gradients of its results.
        inputs: what the backward pass gives gradients of.
        directions: for each input the cotangent of its gradient, or None for zero.

    Returns:
        Gradients of the cotangents, then of the inputs; None where there is none.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        cotangents, inputs = ([_variable(tensor) for tensor in tensors] for tensors in (cotangents, inputs))
        outputs = run(inputs)
        first = torch.autograd.grad(
            outputs, inputs, cotangents, create_graph=True, allow_unused=True, materialize_grads=True
        )
        # One number whose gradients are the directional derivatives.
        along = sum((value * direction).sum() for value, direction in zip(first, directions) if direction is not None)
        return list(torch.autograd.grad(along, [*cotangents, *inputs], allow_unused=True, create_graph=create_graph))


def _variable(tensor: Tensor) -> Tensor:
    """The same numbers as a variable of its own, which no other input depends on."""
    view = tensor.view_as(tensor)
    return view if view.requires_grad else view.requires_grad_()
