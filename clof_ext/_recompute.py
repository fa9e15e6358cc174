"""Second derivatives that kernels do not make: the reference is run and differentiated twice."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

# The definition of an op keeps some forty arrays of a row for each edge. It takes as many rows at a time as have so
# many numbers in each of these: few enough for a CPU's caches, and so many that a GPU computes longer than it takes to
# start its kernels.
CHUNK_NUMBERS = {"cpu": 2**20, "cuda": 2**23}


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
    # Tensors have the dtypes that the pass was computed in, whatever autocast is at work where it is differentiated.
    with torch.enable_grad(), torch.autocast(cotangents[0].device.type, enabled=False):
        cotangents, inputs = ([_variable(tensor) for tensor in tensors] for tensors in (cotangents, inputs))
        outputs = run(inputs)
        first = torch.autograd.grad(
            outputs, inputs, cotangents, create_graph=True, allow_unused=True, materialize_grads=True
        )
        # One number whose gradients are the directional derivatives.
        along = sum((value * direction).sum() for value, direction in zip(first, directions) if direction is not None)
        return list(torch.autograd.grad(along, [*cotangents, *inputs], allow_unused=True, create_graph=create_graph))


@dataclass(frozen=True)
class Rows:
    """Rows that an op's results are sums over, or that it computes one by one: of edges, or of nodes.

    Attributes:
        count: how many there are.
        width: numbers of a row in the widest array that the definition keeps.
        cotangents, inputs: for each of them whether it has these rows, to be cut with them.
    """

    count: int
    width: int
    cotangents: Sequence[bool]
    inputs: Sequence[bool]


def double_backward_by_rows(
    run: Callable[[list[Tensor], slice], Tensor | tuple[Tensor, ...]],
    cotangents: Sequence[Tensor],
    inputs: Sequence[Tensor],
    directions: Sequence[Tensor | None],
    rows: Rows,
) -> list[Tensor | None]:
    """``double_backward`` of some rows at a time, where its results are not to be differentiated again.

    ``run`` gets inputs that were cut to the rows of a slice, and the slice. Results that have no such rows are summed,
    halves in float32.
    """
    device = cotangents[0].device.type
    most = max(1, CHUNK_NUMBERS.get(device, CHUNK_NUMBERS["cpu"]) // max(1, rows.width))
    if torch.is_grad_enabled() or rows.count <= most:
        return double_backward(lambda some: run(some, slice(None)), cotangents, inputs, directions)
    parts = []
    for begin in range(0, rows.count, most):
        chunk = slice(begin, begin + most)
        parts.append(
            double_backward(
                lambda some, chunk=chunk: run(some, chunk),
                _cut(cotangents, rows.cotangents, chunk),
                _cut(inputs, rows.inputs, chunk),
                _cut(directions, rows.inputs, chunk),
            )
        )
    has_rows = (*rows.cotangents, *rows.inputs)
    return [_joined(results, cut) for results, cut in zip(zip(*parts, strict=True), has_rows, strict=True)]


def _cut(tensors: Sequence[Tensor | None], has_rows: Sequence[bool], chunk: slice) -> list[Tensor | None]:
    pairs = zip(tensors, has_rows, strict=True)
    return [value[chunk] if cut and value is not None else value for value, cut in pairs]


def _joined(parts: tuple[Tensor | None, ...], has_rows: bool) -> Tensor | None:
    if parts[0] is None:
        return None
    if has_rows:
        return torch.cat(parts)
    dtype = parts[0].dtype
    wide = torch.promote_types(dtype, torch.float32)
    return sum(part.to(wide) for part in parts).to(dtype)


def _variable(tensor: Tensor) -> Tensor:
    """The same numbers as a variable of its own, which no other input depends on."""
    view = tensor.view_as(tensor)
    return view if view.requires_grad else view.requires_grad_()
