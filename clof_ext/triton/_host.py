"""Host side: how kernels become operators of the library ``clof_ext_triton``, how arguments are checked, launches."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import triton
from torch import Tensor

from .. import _check
from .._register import TRITON

# Edges of a program: one for each thread of its four warps, since an edge takes many registers.
EDGES = 128
# Nodes of a program that sums over their edges, and edges of each node at a time, which lie side by side in memory.
NODES, LANES = 16, 8

# Sizes change from batch to batch: kernels are not compiled anew for them.
jit = triton.jit(
    do_not_specialize=[
        "num_nodes",
        "num_edges",
        "channels",
        "num_segments",
        "num_rows",
        "width",
        "begin",
        "end",
        "chunk",
        "count",
    ]
)

_library = torch.library.Library(TRITON, "DEF")


def interpreted() -> bool:
    """Whether Triton runs its kernels in its interpreter (TRITON_INTERPRET=1), which needs no GPU."""
    return triton.knobs.runtime.interpret


def operator(run: Callable) -> Callable:
    """Define a function as an operator under its own name, for CUDA tensors and, for the interpreter, CPU tensors."""
    schema = torch.library.infer_schema(run, mutates_args=(), op_name=run.__name__)
    # An integer here is a tensor's order, which selects a kernel: it must not become a symbol.
    _library.define(schema.replace("SymInt", "int"))

    def without_autocast(*arguments):
        # A backward pass may run under autocast, which would change the dtype of products.
        with torch._C._DisableAutocast():
            return run(*arguments)

    for device in ("CPU", "CUDA"):
        _library.impl(run.__name__, without_autocast, device)
    return run


def launch(kernel: Callable, num_programs: int, on: Tensor, *arguments, **constants) -> None:
    """Run a kernel on the device of a tensor, if there is anything to do."""
    if not on.is_cuda and not interpreted():
        raise RuntimeError(
            f"The Triton kernels need tensors on a GPU; got tensors on {on.device}. "
            "Set TRITON_INTERPRET=1 before Python starts to run them in Triton's interpreter."
        )
    if num_programs > 0:
        with torch.cuda.device_of(on):
            kernel[(num_programs,)](*arguments, **constants)


def checked_like(tensor: Tensor, like: Tensor, shape: tuple, name: str, other: str) -> Tensor:
    """A dense tensor of this shape, of the dtype and device of another."""
    _check.shape(tensor, shape, name)
    _check.dtype(tensor, (like.dtype,), name)
    _check.same_device(tensor, like.device, name, other)
    return tensor.contiguous()


@dataclass(frozen=True)
class Graph:
    """Positions, the tensors of an EdgePlan and the frame mode of a call, checked and dense."""

    pos: Tensor
    edges: Tensor
    offsets: Tensor
    mode: str

    @classmethod
    def checked(cls, pos: Tensor, edges: Tensor, offsets: Tensor, mode: str) -> "Graph":
        _check.positions(pos)
        _check.one_of(mode, _check.MODES, "mode")
        _check.shape(edges, (4, "E"), "edges")
        _check.shape(offsets, (3, pos.shape[0] + 1), "offsets")
        for tensor, name in ((edges, "edges"), (offsets, "offsets")):
            _check.dtype(tensor, (torch.int32,), name)
            _check.same_device(tensor, pos.device, name, "pos")
        return cls(pos.contiguous(), edges.contiguous(), offsets.contiguous(), mode)

    @property
    def num_nodes(self) -> int:
        return self.pos.shape[0]

    @property
    def num_edges(self) -> int:
        return self.edges.shape[1]

    @property
    def plan(self) -> tuple[Tensor, Tensor, int, int]:
        """What kernels take: edges, offsets, num_nodes, num_edges."""
        return self.edges, self.offsets, self.num_nodes, self.num_edges

    def vectors(self, tensor: Tensor, name: str) -> Tensor:
        """A tensor of vectors on nodes, checked."""
        return checked_like(tensor, self.pos, (self.num_nodes, 3), name, "pos")
