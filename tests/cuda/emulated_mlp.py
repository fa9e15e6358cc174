"""The CUDA kernels of mlp on the emulated GPU of tests/cpp: compiled for this processor, called with tensors."""

import ctypes
import functools
from collections.abc import Sequence
from ctypes import c_bool, c_int, c_int64, c_void_p
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor

from clof_ext.ops.mlp import MAX_DEPTH, MAX_INPUTS
from clof_ext.reference.frame_message import ACTIVATIONS
from tests.cuda.emulated import PRECISIONS, STORAGE, Linear, compiled

SOURCE = Path(__file__).parents[1] / "cpp/emulated_mlp.cpp"


class Problem(ctypes.Structure):
    """MlpProblem of csrc/functor/arguments.h."""

    _fields_ = [
        *((name, c_int) for name in ("dtype", "storage", "precision", "activation")),
        ("activate_last", c_bool),
        *((name, c_int) for name in ("num_inputs", "num_linears")),
        ("rows", c_int64),
        ("input_columns", c_int64 * MAX_INPUTS),
        ("columns", c_int64 * (MAX_DEPTH + 1)),
        ("inputs", c_void_p * MAX_INPUTS),
        ("linears", Linear * MAX_DEPTH),
        ("out", c_void_p),
        ("input_gradients", c_bool),
        ("grad_out", c_void_p),
        ("grad_inputs", c_void_p * MAX_INPUTS),
    ]


@functools.cache
def library() -> ctypes.CDLL:
    found = compiled(SOURCE)
    found.emulated_mlp_shared.restype = c_int64
    return found


class Call:
    """A call of the operator mlp on the emulated GPU, by at most `blocks` blocks of threads, whose tensors it holds."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        weights: Sequence[Tensor],
        activation: str,
        activate_last: bool,
        precision: str,
        *,
        blocks: int = 3,
        descending: bool = False,
    ) -> None:
        self.inputs, self.weights = ([x.detach().contiguous() for x in some] for some in (inputs, weights))
        self.launch_options = c_int64(blocks), c_int(descending)
        first = self.inputs[0]
        p = self.problem = Problem()
        p.dtype, p.storage, p.precision = 0, STORAGE[first.dtype], PRECISIONS.index(precision)
        p.activation, p.activate_last = list(ACTIVATIONS).index(activation), activate_last
        p.num_inputs, p.num_linears, p.rows = len(self.inputs), len(self.weights) // 2, first.shape[0]
        for k, x in enumerate(self.inputs):
            p.inputs[k], p.input_columns[k] = x.data_ptr(), x.shape[1]
            p.columns[0] += x.shape[1]
        self.grad_weights = [torch.full_like(weight, 7.0) for weight in self.weights]
        for k in range(p.num_linears):
            linear = p.linears[k]
            linear.weight, linear.bias = (x.data_ptr() for x in self.weights[2 * k : 2 * k + 2])
            linear.grad_weight, linear.grad_bias = (x.data_ptr() for x in self.grad_weights[2 * k : 2 * k + 2])
            p.columns[k + 1] = self.weights[2 * k].shape[0]

    def _run(self, backward: bool) -> None:
        blocks, descending = self.launch_options
        library().emulated_mlp(ctypes.byref(self.problem), blocks, c_int(backward), descending)

    def forward(self) -> Tensor:
        out = torch.full((self.problem.rows, self.weights[-1].shape[0]), 7.0).to(self.inputs[0].dtype)
        self.problem.out = out.data_ptr()
        self._run(False)
        return out

    def backward(self, grad: Tensor, *, input_gradients: bool = True) -> list[Tensor]:
        """Gradients of the inputs, where wanted, and of the weights."""
        grad = grad.contiguous()
        grads = [torch.full_like(x, 7.0) for x in self.inputs] if input_gradients else []
        self.problem.input_gradients, self.problem.grad_out = input_gradients, grad.data_ptr()
        for k, x in enumerate(grads):
            self.problem.grad_inputs[k] = x.data_ptr()
        self._run(True)
        return [*grads, *self.grad_weights]


def random_call(
    rows: int, columns: Sequence[int], outputs: Sequence[int], dtype: torch.dtype, seed: int = 0
) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and weights of the sizes."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, generator=generator)).to(dtype)

    weights = []
    for n_in, n_out in pairwise((sum(columns), *outputs)):
        weights += [random(n_out, n_in, scale=max(n_in, 1) ** -0.5), random(n_out, scale=0.3)]
    return [random(rows, width) for width in columns], weights
