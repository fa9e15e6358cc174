"""The CUDA kernels of frame_message on the emulated GPU of tests/cpp, compiled for this processor."""

import ctypes
import functools
import os
import subprocess
import tempfile
from collections.abc import Sequence
from ctypes import c_bool, c_double, c_int, c_int64, c_void_p
from pathlib import Path

import torch
from torch import Tensor

from clof_ext import _check
from clof_ext.reference.frame_message import ACTIVATIONS, BASIS_SIZE
from tests.compiler import COMPILER, THREAD_SANITIZER

SOURCE = Path(__file__).parents[1] / "cpp/emulated_frame_message.cpp"
# What a misaligned access does: it ends the process.
FLAGS = ("-std=c++17", "-O2", "-shared", "-fPIC", "-DCLOF_EMULATED_GPU", "-Wall", "-Wno-unknown-pragmas")
CHECKS = ("-fsanitize=alignment", "-fsanitize-undefined-trap-on-error")
# Set where ThreadSanitizer's library is loaded before Python: kernels are compiled for it.
FIND_RACES = "CLOF_TEST_FIND_RACES"
STORAGE = {torch.float32: 0, torch.float64: 1, torch.bfloat16: 2, torch.float16: 3}
PRECISIONS = ("highest", "high", "medium")


class _Graph(ctypes.Structure):
    _fields_ = [
        *((name, c_void_p) for name in ("receiver", "sender", "by_receiver", "by_sender")),
        *((name, c_void_p) for name in ("receiver_start", "sender_start")),
        ("num_nodes", c_int64),
        ("num_edges", c_int64),
    ]


class Linear(ctypes.Structure):
    _fields_ = [(name, c_void_p) for name in ("weight", "bias", "grad_weight", "grad_bias")]


class Problem(ctypes.Structure):
    """FrameMessageProblem of csrc/functor/arguments.h, and the tensors that it points to."""

    _fields_ = [
        ("graph", _Graph),
        *((name, c_int) for name in ("dtype", "storage", "precision", "mode", "activation")),
        *((name, c_bool) for name in ("tanh", "message_mean", "vector_mean")),
        ("clamp", c_double),
        *((name, c_int64) for name in ("node_features", "edge_features", "hidden", "first", "coord_hidden")),
        *((name, c_int) for name in ("num_edge_linears", "num_coord_linears", "num_axes")),
        ("edge_mlp", Linear * 3),
        ("att_mlp", Linear),
        ("coord_mlp", Linear * 2),
        *((name, c_void_p) for name in ("h", "pos", "edge_attr", "edge_weight", "message", "vector")),
        *((name, c_void_p) for name in ("grad_message", "grad_vector", "grad_h", "grad_pos")),
        *((name, c_void_p) for name in ("grad_edge_attr", "grad_edge_weight")),
    ]


def compiled(source: Path) -> ctypes.CDLL:
    """The functions of a file of tests/cpp that runs kernels on the emulated GPU."""
    target = Path(tempfile.mkdtemp()) / f"{source.stem}.so"
    checks = THREAD_SANITIZER if FIND_RACES in os.environ else CHECKS
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [COMPILER, *FLAGS, *checks, f"-I{source.parent}", source, "-o", target]
    subprocess.run(command, check=True, env=environment)
    return ctypes.CDLL(str(target))


@functools.cache
def library() -> ctypes.CDLL:
    found = compiled(SOURCE)
    found.emulated_sums.restype = c_int64
    return found


class Call:
    """A call of the operator frame_message on the emulated GPU, whose tensors it holds."""

    def __init__(
        self,
        *inputs: Tensor | None,
        weights: Sequence[Tensor],
        edges: Tensor,
        offsets: Tensor,
        options: Sequence,
    ) -> None:
        edge_depth, coord_depth, attention, basis, mode, activation, tanh, clamp, *rest = options
        message_reduce, vector_reduce, precision = rest
        self.inputs = [None if value is None else value.detach().contiguous() for value in inputs]
        self.weights = [weight.detach().contiguous() for weight in weights]
        self.plan = edges.contiguous(), offsets.contiguous()
        h, pos, edge_attr, edge_weight = self.inputs
        nodes, hidden = h.shape[0], weights[0].shape[0]
        self.message, self.vector = torch.full((nodes, hidden), 7.0).to(h.dtype), torch.full((nodes, 3), 7.0)
        p = self.problem = Problem()
        for name, row in zip(("receiver", "sender", "by_receiver", "by_sender"), self.plan[0]):
            setattr(p.graph, name, row.data_ptr())
        p.graph.receiver_start, p.graph.sender_start = self.plan[1][0].data_ptr(), self.plan[1][1].data_ptr()
        p.graph.num_nodes, p.graph.num_edges = nodes, edges.shape[1]
        p.dtype, p.storage, p.precision = 0, STORAGE[h.dtype], PRECISIONS.index(precision)
        p.mode, p.activation = _check.MODES.index(mode), list(ACTIVATIONS).index(activation)
        p.tanh, p.message_mean, p.vector_mean = tanh, message_reduce == "mean", vector_reduce == "mean"
        p.clamp, p.num_axes = clamp, BASIS_SIZE[basis]
        p.hidden = p.first = p.coord_hidden = hidden
        p.node_features, p.edge_features = h.shape[1], 0 if edge_attr is None else edge_attr.shape[1]
        p.num_edge_linears, p.num_coord_linears = edge_depth, coord_depth
        names = [("edge_mlp", k) for k in range(edge_depth)] + [("att_mlp", None)] * attention
        names += [("coord_mlp", k) for k in range(coord_depth)]
        self.grad_weights = [torch.full_like(weight, 7.0) for weight in self.weights]
        for number, (name, k) in enumerate(names):
            linear = getattr(p, name) if k is None else getattr(p, name)[k]
            linear.weight, linear.grad_weight = self._pointers(2 * number)
            if 2 * number + 1 < len(self.weights):
                linear.bias, linear.grad_bias = self._pointers(2 * number + 1)
        for name, value in zip(("h", "pos", "edge_attr", "edge_weight"), self.inputs):
            setattr(p, name, None if value is None or not value.numel() else value.data_ptr())
        p.message, p.vector = self.message.data_ptr(), self.vector.data_ptr()

    def _pointers(self, number: int) -> tuple[int, int]:
        return self.weights[number].data_ptr(), self.grad_weights[number].data_ptr()

    def forward(self, *, blocks: int = 3, descending: bool = False) -> tuple[Tensor, Tensor]:
        """Messages and vectors, by at most so many blocks of threads."""
        library().emulated_forward(ctypes.byref(self.problem), c_int64(blocks), c_int(descending))
        return self.message, self.vector

    def backward(
        self,
        grad_message: Tensor,
        grad_vector: Tensor,
        *,
        blocks: int = 3,
        row_bytes: int = 2**26,
        descending: bool = False,
    ) -> list[Tensor | None]:
        """Gradients of h, pos, edge_attr, edge_weight (None where there is none) and all weights.

        The products at nodes are torch's, as in csrc/ops/frame_message_cuda.cpp.
        """
        p, (h, pos, edge_attr, edge_weight) = self.problem, self.inputs
        given = grad_message.contiguous(), grad_vector.contiguous()
        p.grad_message, p.grad_vector = (value.data_ptr() for value in given)
        grad_pos = torch.full_like(pos, 7.0)
        grads = [None if value is None else torch.full_like(value, 7.0) for value in (edge_attr, edge_weight)]
        p.grad_pos = grad_pos.data_ptr()
        p.grad_edge_attr, p.grad_edge_weight = (None if grad is None else grad.data_ptr() for grad in grads)
        width = 64
        stacked = torch.full((2 * width, h.shape[1]), 7.0).to(h.dtype)
        grad_parts = torch.full((h.shape[0], 2 * width), 7.0)
        sums = torch.full((blocks, library().emulated_sums(ctypes.byref(p))), float("nan"))
        library().emulated_backward(
            *(ctypes.byref(p), c_int64(blocks), c_int64(row_bytes), c_int(descending)),
            *(c_void_p(value.data_ptr()) for value in (stacked, grad_parts, sums)),
        )
        grad_parts = grad_parts.to(h.dtype)
        node_gradient = grad_parts.T.contiguous() @ h
        library().emulated_finish(
            *(ctypes.byref(p), c_int64(blocks), c_int64(row_bytes)),
            *(c_void_p(value.data_ptr()) for value in (sums, node_gradient)),
        )
        return [grad_parts @ stacked, grad_pos, *grads, *self.grad_weights]
