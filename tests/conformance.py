"""What every op on every backend must do, over named graphs: the cases that the tests in tests/ops run."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from clof_ext import EdgePlan, _backends, ops, prepare_graph

MODES = ("soft", "raw", "orthonormal")
FLOAT64_TOLERANCE = 1e-11
# Second derivatives of near-singular edges are large sums of large terms.
SECOND_TOLERANCE = 1e-9


@dataclass(frozen=True)
class Graph:
    """Positions (float64) and edges; ``singular`` where some edge has no frame."""

    pos: Tensor
    edge_index: Tensor
    singular: bool = False

    def plan(self) -> EdgePlan:
        return prepare_graph(self.edge_index, self.pos.shape[0])


def points(count: int) -> Tensor:
    return torch.randn(count, 3, generator=torch.Generator().manual_seed(count), dtype=torch.float64)


def random_edges(nodes: int, count: int, seed: int = 0) -> Tensor:
    """Unsorted, without self-loops, duplicates possible; the last node is left out."""
    generator = torch.Generator().manual_seed(seed)
    receiver = torch.randint(nodes - 1, (count,), generator=generator)
    step = torch.randint(1, nodes - 1, (count,), generator=generator)
    return torch.stack((receiver, (receiver + step) % (nodes - 1)))


def with_positions(changes: dict[int, Callable[[Tensor], Tensor]], edges: list[list[int]]) -> Graph:
    """Random points of which some are functions of the others, with the given edges among random ones."""
    pos = points(7)
    for node, change in changes.items():
        pos[node] = change(pos)
    return Graph(pos, torch.cat((random_edges(7, 21), torch.tensor(edges)), 1), singular=True)


GRAPHS: dict[str, Callable[[], Graph]] = {
    "unsorted_with_isolated_node": lambda: Graph(points(7), random_edges(7, 24)),
    "no_edges": lambda: Graph(points(4), torch.empty(2, 0, dtype=torch.int64)),
    "no_nodes": lambda: Graph(points(0), torch.empty(2, 0, dtype=torch.int64)),
    "one_edge": lambda: Graph(points(3), torch.tensor([[2], [0]])),
    "three_edges": lambda: Graph(points(3), torch.tensor([[0, 1, 2], [1, 2, 0]])),
    "duplicate_edge": lambda: Graph(points(3), torch.tensor([[0, 0, 0, 2], [1, 1, 1, 1]])),
    "non_contiguous": lambda: Graph(points(14)[::2], random_edges(7, 24).T.contiguous().T),
    "int32": lambda: Graph(points(7), random_edges(7, 24).int()),
    "self_loop": lambda: with_positions({}, [[1, 6], [1, 6]]),
    "coincident": lambda: with_positions({1: lambda pos: pos[0]}, [[0, 1], [1, 0]]),
    "collinear_with_centroid": lambda: with_positions({1: lambda pos: -2 * pos[0]}, [[0, 1], [1, 0]]),
    "at_centroid": lambda: with_positions({1: lambda pos: 0 * pos[0]}, [[0, 1, 1], [1, 0, 1]]),
}
SINGULAR = ("self_loop", "coincident", "collinear_with_centroid", "at_centroid")


@dataclass(frozen=True)
class Call:
    """An op with its options: ``run(graph, backend, *inputs)``, differentiable in the inputs."""

    name: str
    run: Callable
    make_inputs: Callable[[Graph], list[Tensor]]

    def inputs(self, graph: Graph, dtype: torch.dtype = torch.float64, device: str = "cpu") -> list[Tensor]:
        """Fresh leaves. Positions in half precision are not defined: there they stay in float32."""
        geometry = torch.float64 if dtype == torch.float64 else torch.float32
        leaves = []
        for value, is_geometry in zip(self.make_inputs(graph), self.geometry(), strict=True):
            value = value.to(geometry if is_geometry else dtype)
            # The strides of the case are part of it.
            leaves.append(value.to(device).requires_grad_())
        return leaves

    def geometry(self) -> list[bool]:
        """Which inputs are positions or velocities."""
        if self.name.startswith("edge_"):
            return [True] * (2 if "velocities" in self.name else 1)
        return [False] if self.name.startswith("segment") else [False, True]


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def _calls() -> Iterator[Call]:
    for mode in MODES:
        yield Call(
            f"edge_frame-{mode}", lambda g, b, x, m=mode: ops.edge_frame(x, _plan(g, x), mode=m, backend=b), _pos
        )
        yield Call(
            f"edge_scalars-{mode}", lambda g, b, x, m=mode: ops.edge_scalars(x, _plan(g, x), mode=m, backend=b), _pos
        )
        yield Call(
            f"edge_scalars-velocities-{mode}",
            lambda g, b, x, v, m=mode: ops.edge_scalars(x, _plan(g, x), v, mode=m, backend=b),
            lambda g: [g.pos, random(*g.pos.shape)],
        )
    for order in range(4):
        mode, channels = MODES[order % 3], 1 + 2 * (order % 2)
        for source in ("receiver", "sender", "edge"):
            yield Call(
                f"project-{order}-{source}-{mode}",
                lambda g, b, t, x, o=order, s=source, m=mode: ops.project(
                    t, x, _plan(g, x), order=o, source=s, mode=m, backend=b
                ),
                lambda g, o=order, s=source, k=channels: [random(_rows(g, s), k, *[3] * o), g.pos],
            )
        for reduce in ("sum", "mean"):
            yield Call(
                f"aggregate-{order}-{reduce}-{mode}",
                lambda g, b, s, x, o=order, r=reduce, m=mode: ops.aggregate(
                    s, x, _plan(g, x), order=o, reduce=r, mode=m, backend=b
                ),
                lambda g, o=order, k=channels: [random(g.edge_index.shape[1], k, 3**o), g.pos],
            )
    # As many channels as fill the registers of any instruction set, and some more.
    yield Call(
        "project-1-many_channels",
        lambda g, b, t, x: ops.project(t, x, _plan(g, x), source="sender", backend=b),
        lambda g: [random(_rows(g, "sender"), 19, 3), g.pos],
    )
    yield Call(
        "aggregate-1-many_channels",
        lambda g, b, s, x: ops.aggregate(s, x, _plan(g, x), reduce="mean", backend=b),
        lambda g: [random(g.edge_index.shape[1], 19, 3), g.pos],
    )
    for reduce in ("sum", "mean"):
        op = getattr(ops, f"segment_{reduce}")
        yield Call(
            f"segment_{reduce}",
            lambda g, b, v, op=op: op(v, _plan(g, v), backend=b),
            lambda g: [random(g.edge_index.shape[1], 2, 5)],
        )


def _pos(graph: Graph) -> list[Tensor]:
    return [graph.pos]


def _rows(graph: Graph, source: str) -> int:
    return graph.edge_index.shape[1] if source == "edge" else graph.pos.shape[0]


def _plan(graph: Graph, like: Tensor) -> EdgePlan:
    plan = graph.plan()
    return plan if plan.device == like.device else plan.to(like.device)


CALLS: dict[str, Call] = {call.name: call for call in _calls()}
HALF_CALLS = [name for name in CALLS if name.startswith(("project", "aggregate", "segment"))]


@dataclass(frozen=True)
class Backend:
    """A backend on a device; of the compiled CPU kernels one instruction set."""

    name: str
    device: str = "cpu"
    instruction_set: str | None = None

    @contextmanager
    def in_use(self) -> Iterator[str]:
        """Switches the instruction set for a while; gives the backend's name."""
        if self.instruction_set is None:
            yield self.name
            return
        module = _backends.binary()
        before = module.instruction_set()
        assert module.select_instruction_set(self.instruction_set)
        try:
            yield self.name
        finally:
            module.select_instruction_set(before)


def backends() -> list:
    """Every backend that tests run on, as pytest parameters; those that need a GPU say so."""
    module = _backends.binary()
    parameters = [
        pytest.param(Backend("cpu", instruction_set=name), id=f"cpu-{name}")
        for name in (module.instruction_sets() if module else ())
    ]
    no_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none")
    for name in ("cuda", "triton"):
        parameters.append(pytest.param(Backend(name, "cuda"), id=name, marks=[pytest.mark.gpu, no_gpu]))
    return parameters


def derivatives(call: Call, graph: Graph, backend: str, inputs: list[Tensor], *, second: bool) -> list[Tensor]:
    """The value, first derivatives, and (if asked for) second ones, for fixed cotangents."""
    out = call.run(graph, backend, *inputs)
    results = [out]
    cotangent = _cotangent(out)
    first = _grad(out, inputs, cotangent, create_graph=second)
    results += first
    if second:
        directions = [_cotangent(value) for value in first]
        results += _grad(first, [cotangent, *inputs], directions, create_graph=False)
    return [value.detach() for value in results]


def _cotangent(value: Tensor) -> Tensor:
    spread = torch.linspace(-1, 1, value.numel(), dtype=torch.float64).sin().reshape(value.shape)
    return spread.to(value.device, value.dtype).requires_grad_()


def _grad(outputs, inputs, cotangents, *, create_graph: bool) -> list[Tensor]:
    grads = torch.autograd.grad(outputs, inputs, cotangents, create_graph=create_graph, allow_unused=True)
    return [
        torch.zeros_like(given, requires_grad=create_graph) if grad is None else grad
        for given, grad in zip(inputs, grads)
    ]


def assert_agree(found: list[Tensor], expected: list[Tensor], tolerance: float, second_tolerance: float = 0.0) -> None:
    """Each array within the tolerance times the largest expected value; the first is the value, then derivatives."""
    for number, (value, truth) in enumerate(zip(found, expected, strict=True)):
        assert value.shape == truth.shape
        assert value.isfinite().all(), f"array {number} is not finite"
        if truth.numel():
            error = (value.double().cpu() - truth.double().cpu()).abs().max()
            limit = max(tolerance, second_tolerance) if number else tolerance
            assert error <= limit * max(float(truth.abs().max()), 1.0), f"array {number} is off by {float(error):.2e}"
