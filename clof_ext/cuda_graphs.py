"""Modules whose GPU work is launched at once, for systems so small that launches take longer than kernels."""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class _Fixed(nn.Module):
    """A module of some of its arguments, the others being fixed."""

    def __init__(self, module: nn.Module, fixed: dict) -> None:
        super().__init__()
        self.module, self.fixed = module, fixed

    def forward(self, *tensors: Tensor):
        return self.module(*tensors, **self.fixed)


def cuda_graphed(module: nn.Module, *example: Tensor, **fixed) -> Callable:
    """Capture a module's forward and backward pass as CUDA graphs, which are replayed in one launch each.

    Every later call takes tensors of the shapes and types of the example, and gives the results of the module. The
    edges of the graph are an argument that must not change, so they are given by keyword::

        layer = clof_ext.nn.FrameConv(64, 64, 32).cuda()
        fast = cuda_graphed(layer, h, pos, edge_index=edge_index, edge_attr=edge_attr)
        h, pos = fast(h, pos)

    Args:
        module: on a GPU, with parameters that are not replaced afterwards (an optimiser may change them in place).
        example: the positional arguments of a call, tensors on the GPU; those that want a gradient say so.
        fixed: keyword arguments of every call, whose numbers must stay as they are.

    Returns:
        A function of tensors like the example. Its results are overwritten by the next call.

    Raises:
        TypeError: an argument of the example is no tensor.
        ValueError: an argument of the example is not on a GPU.
    """
    for number, tensor in enumerate(example):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"example[{number}] must be a torch.Tensor; got {type(tensor).__name__}.")
        if not tensor.is_cuda:
            raise ValueError(f"example[{number}] must be on a GPU; got a tensor on {tensor.device}.")
    return torch.cuda.make_graphed_callables(_Fixed(module, fixed), tuple(example))
