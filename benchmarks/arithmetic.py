"""Arithmetic of the geometry ops, counted on their definitions as they run."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import clof_ext
from clof_ext import ops

from .bench_geometry import graph

# One operation for each number that is made.
OF_RESULTS = ("add", "sub", "rsub", "mul", "div", "neg", "sqrt", "pow")
# One for each number of an argument: the argument's place.
OF_ARGUMENTS = {"sum": 0, "index_add": 3, "index_put": 2}
PRODUCTS = ("mm", "bmm")
SAMPLE_EDGES = 2000


class Counter(TorchDispatchMode):
    """Counts the arithmetic of everything that runs inside of it; comparisons, copies and indices are free."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        name = function.overloadpacket.__name__.rstrip("_")
        if name in OF_RESULTS:
            self.operations += out.numel()
        elif name in OF_ARGUMENTS:
            self.operations += args[OF_ARGUMENTS[name]].numel()
        elif name in PRODUCTS:
            self.operations += 2 * out.numel() * args[0].shape[-1]
        return out


def count(call: Callable[[], object]) -> int:
    """Operations of a call."""
    with Counter() as counter:
        call()
    return counter.operations


def per_edge(channels: int) -> dict[str, float]:
    """Operations for each edge, by the names of ``bench_geometry.calls``.

    A backward pass has those of the definition and of its derivative: it computes frames again.
    """
    plan = graph(SAMPLE_EDGES, torch.device("cpu"))
    pos, vel = torch.randn(2, plan.num_nodes, 3)
    on_nodes = torch.randn(plan.num_nodes, channels, 3)
    on_edges = torch.randn(plan.num_edges, channels, 3)
    definitions: dict[str, tuple[Callable[..., Tensor], list[Tensor]]] = {
        "edge_frame": (lambda pos: ops.edge_frame(pos, plan), [pos]),
        "edge_scalars": (lambda pos, vel: ops.edge_scalars(pos, plan, vel), [pos, vel]),
        "project": (lambda values, pos: ops.project(values, pos, plan, source="sender"), [on_nodes, pos]),
        "aggregate": (lambda values, pos: ops.aggregate(values, pos, plan), [on_edges, pos]),
        "segment_sum": (lambda values: ops.segment_sum(values, plan), [on_edges]),
    }
    found = {}
    with clof_ext.backend("reference"):
        for name, (define, inputs) in definitions.items():
            found[name] = count(lambda define=define, inputs=inputs: define(*inputs))
            found[f"{name} backward"] = count(lambda define=define, inputs=inputs: _differentiate(define, inputs))
    return {name: operations / plan.num_edges for name, operations in found.items()}


def _differentiate(define: Callable[..., Tensor], inputs: list[Tensor]) -> None:
    leaves = [value.detach().requires_grad_() for value in inputs]
    out = define(*leaves)
    torch.autograd.grad(out, leaves, torch.ones_like(out))
