"""What of PyTorch looks on where calls are made: torch.compile, torch.func, forward-mode differentiation."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch._C._functorch import TransformType, get_interpreter_stack
from torch.autograd import forward_ad


def is_traced() -> bool:
    """Whether calls are recorded or carried out by anything but autograd's backward mode."""
    return torch.compiler.is_compiling() or is_transformed()


def is_transformed() -> bool:
    """The same without torch.compile: ``torch.func`` (``grad``, ``vmap``, ``jvp``), or forward mode."""
    return is_forward_mode() or torch._C._are_functorch_transforms_active()


def is_forward_mode() -> bool:
    """Whether derivatives are carried forward, by ``jvp`` too."""
    return forward_ad._current_level >= 0


def without_kernels() -> str | None:
    """Why operators cannot be called here but their definitions can, or None.

    In forward mode torch drops the tangents of operators that have no rule for them, without a word; to
    ``torch.func.grad`` and what is made of it, it gives no rules of operators at all.
    """
    if torch.compiler.is_compiling():
        return None
    if is_forward_mode():
        return "kernels have no forward-mode derivatives"
    if torch._C._are_functorch_transforms_active() and any(
        level.key() == TransformType.Grad for level in get_interpreter_stack()
    ):
        return "torch.func does not differentiate kernels"
    return None


def refuse_tangents(*values: Tensor | None) -> None:
    """Raise where derivatives are carried forward through a backward pass, which would lose them without a word.

    Raises:
        NotImplementedError: one of the values carries a tangent.
    """
    if is_forward_mode() and any(_has_tangent(value) for value in values):
        raise NotImplementedError(
            "a backward pass of clof_ext's kernels cannot be differentiated in forward mode; run the forward pass "
            "in forward mode, too, or under clof_ext.backend('reference')."
        )


def one_by_one(operator: Callable) -> Callable:
    """The batching rule of an operator for vmap: the operator is called for each entry of the batch."""

    def rule(info, in_dims: tuple, *arguments) -> tuple:
        if not info.batch_size:
            raise ValueError(f"vmap of {operator} needs a batch of at least one entry; got none.")
        results = [operator(*_entry(arguments, in_dims, k)) for k in range(info.batch_size)]
        return _stacked(results), _zeros_like(results[0])

    return rule


def _has_tangent(value: Tensor | None) -> bool:
    return value is not None and forward_ad.unpack_dual(value).tangent is not None


def _entry(value: object, dim: object, k: int) -> object:
    """Entry k of what is batched along a dimension, tensors in lists as well; all of what is not."""
    if isinstance(value, list | tuple):
        return [_entry(*pair, k) for pair in zip(value, dim, strict=True)]
    return value if dim is None else value.select(dim, k)


def _stacked(results: list) -> Tensor | list:
    """The results of each call as one result: a tensor, or tensors and lists of them."""
    if isinstance(results[0], Tensor):
        return torch.stack(results)
    return type(results[0])(_stacked(list(parts)) for parts in zip(*results, strict=True))


def _zeros_like(result: Tensor | list) -> int | list:
    """The dimension of the batch, 0, in the place of each tensor of a result."""
    return 0 if isinstance(result, Tensor) else type(result)(map(_zeros_like, result))
