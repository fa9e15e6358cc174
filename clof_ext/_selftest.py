"""A quick check of an installation: every op on every backend that runs here, against the reference."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from . import _backends, ops
from .graph import prepare_graph

# Largest error allowed relative to the largest value, by dtype of the features; for gradients ten times that.
TOLERANCE = {torch.float64: 1e-10, torch.float32: 2e-5, torch.bfloat16: 2e-2, torch.float16: 3e-3}
GRADIENT_FACTOR = 10
NODES, CHANNELS, HIDDEN, EDGE_DIM = 12, 3, 8, 2


@dataclass(frozen=True)
class Case:
    """A call of an op: a function of a backend's name and the tensors to differentiate."""

    op: str
    call: Callable
    inputs: list[Tensor]


@dataclass
class Outcome:
    """What became of an op on a backend: errors as fractions of what is allowed, and why some cases have none."""

    errors: list[float] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)

    @property
    def worst(self) -> float:
        return max(self.errors, default=0.0)

    def __str__(self) -> str:
        parts = [f"{'ok' if self.worst <= 1 else 'WRONG'}, at {self.worst:.0%} of the tolerance"] if self.errors else []
        return "; ".join([*parts, *(f"left out: {reason}" for reason in self.left_out[:1])])


def selftest(device: str | torch.device = "cpu", *, verbose: bool = True) -> bool:
    """Compare every op, dtype and backend present with the reference, values and gradients, singular edges included.

    Args:
        device: where to run; the backends that serve its tensors are tested.
        verbose: print a line for each op and backend.

    Returns:
        Whether all agree, and at least one could be compared.
    """
    device, start = torch.device(device), time.perf_counter()
    compared = failures = 0
    for name in _backends.PREFERENCE.get(device.type, ()):
        if name == "reference":
            continue
        for op in _backends.OPERATORS:
            reason = _backends.unavailable(name, op)
            outcome = Outcome(left_out=[reason]) if reason else _outcome(op, name, device)
            compared += bool(outcome.errors)
            failures += outcome.worst > 1
            if verbose and (outcome.errors or outcome.left_out):
                print(f"{device.type}  {name:<8}{op:<16}{outcome}")
    if verbose:
        print(f"{_verdict(compared, failures)}; {time.perf_counter() - start:.1f} s")
    return compared > 0 and failures == 0


def _outcome(op: str, backend: str, device: torch.device) -> Outcome:
    outcome = Outcome()
    for case in _cases(device):
        if case.op != op:
            continue
        try:
            outcome.errors.append(_errors(case, backend))
        except _backends.DoesNotFitError as reason:
            outcome.left_out.append(str(reason))
    return outcome


def _verdict(compared: int, failures: int) -> str:
    if compared == 0:
        return "nothing could be compared: only the reference is here, which `clof-ext info` explains"
    return f"{failures} ops disagree with the reference" if failures else "all agree with the reference"


def _errors(case: Case, backend: str) -> float:
    """Largest error of values and first gradients as a fraction of what is allowed."""
    found, expected = (
        _values_and_gradients(case, name, dtype) for name, dtype in ((backend, None), ("reference", torch.float64))
    )
    tolerance = max(TOLERANCE[value.dtype] for value in case.inputs)
    worst = 0.0
    for number, (value, truth) in enumerate(zip(found, expected)):
        scale = truth.detach().abs().max().clamp_min(1e-3) * tolerance * (GRADIENT_FACTOR if number else 1)
        error = float((value - truth).abs().max() / scale) if truth.numel() else 0.0
        worst = max(worst, error if error == error else float("inf"))
    return worst


def _values_and_gradients(case: Case, backend: str, dtype: torch.dtype | None) -> list[Tensor]:
    inputs = [value.detach().to(dtype or value.dtype).requires_grad_() for value in case.inputs]
    out = case.call(backend, *inputs)
    weights = torch.linspace(-1, 1, out.numel(), dtype=torch.float64, device=out.device).reshape(out.shape)
    grads = torch.autograd.grad(out, inputs, weights.to(out.dtype), allow_unused=True)
    return [out.detach().double(), *[torch.zeros_like(x) if grad is None else grad for x, grad in zip(inputs, grads)]]


def _graph(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Positions, velocities and unsorted edges, with coincident and parallel points and self-loops among them."""
    generator = torch.Generator().manual_seed(0)
    pos, vel = torch.randn(2, NODES, 3, generator=generator, dtype=torch.float64)
    pos[1], pos[3] = pos[0], 2 * pos[2]
    edges = torch.randint(NODES - 1, (2, 40), generator=generator)
    edges[:, :4] = torch.tensor([[0, 1, 2, 5], [1, 0, 3, 5]])
    return pos.to(device), vel.to(device), edges.to(device)


def _cases(device: torch.device) -> Iterator[Case]:
    pos, vel, edge_index = _graph(device)
    plan = prepare_graph(edge_index, NODES)
    generator = torch.Generator().manual_seed(1)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(device)

    # Half-precision geometry is not defined, and what float32 makes of singular edges differs by rounding alone.
    for dtype in (torch.float64, torch.float32):
        x, v = pos.to(dtype), vel.to(dtype)
        yield Case("edge_frame", lambda b, x: ops.edge_frame(x, plan, backend=b), [x])
        yield Case("edge_scalars", lambda b, x, v: ops.edge_scalars(x, plan, v, backend=b), [x, v])
        rows = [NODES] * 3 + [plan.num_edges]
        widths = [HIDDEN] * 3 + [EDGE_DIM]
        attended = [random(*size).to(dtype) for size in (*zip(rows, widths), (HIDDEN, EDGE_DIM))]
        yield Case("edge_attention", lambda b, *x: ops.edge_attention(*x, plan, heads=2, backend=b), attended)
        first = (torch.arange(NODES, dtype=torch.int32, device=device) // 2)[:, None]
        read = [random(*size).to(dtype) for size in ((NODES, HIDDEN), (NODES, 1, 3))]
        yield Case("table_sum", lambda b, t, share, f=first: ops.table_sum(t, f, share, backend=b), read)
    for dtype in TOLERANCE:
        x = pos.to(torch.float64 if dtype == torch.float64 else torch.float32)
        for order in range(4):
            tensor = random(NODES, CHANNELS, *[3] * order).to(dtype)
            scalars = random(plan.num_edges, CHANNELS, 3**order).to(dtype)
            yield Case("project", lambda b, t, x, r=order: ops.project(t, x, plan, order=r, backend=b), [tensor, x])
            yield Case(
                "aggregate", lambda b, s, x, r=order: ops.aggregate(s, x, plan, order=r, backend=b), [scalars, x]
            )
        rows = [random(*shape).to(dtype) for shape in ((NODES, HIDDEN), (NODES, HIDDEN), (HIDDEN,), (HIDDEN,))]
        yield Case("add_layer_norm", lambda b, *x: ops.add_layer_norm(*x, times=2.0, backend=b), rows)
        values = random(plan.num_edges, CHANNELS).to(dtype)
        yield Case("segment_reduce", lambda b, s: ops.segment_mean(s, plan, backend=b), [values])
        widths = [(HIDDEN, 2 * HIDDEN + 1 + EDGE_DIM), (HIDDEN,), (HIDDEN, HIDDEN), (HIDDEN,), (3, HIDDEN)]
        weights = [random(*width).div(HIDDEN**0.5).to(dtype) for width in widths]
        h, edge_attr = random(NODES, HIDDEN).to(dtype), random(plan.num_edges, EDGE_DIM).to(dtype)

        def message(b, h, x, edge_attr, *w):
            both = ops.frame_message(h, x, plan, edge_attr, edge_mlp=w[:4], coord_mlp=w[4:], backend=b)
            return torch.cat([part.to(x.dtype) for part in both], 1)

        yield Case("frame_message", message, [h, x, edge_attr, *weights])

        def perceptron(b, h, *w):
            return ops.mlp([h], w, backend=b)

        linears = [random(*width).div(HIDDEN**0.5).to(dtype) for width in [(HIDDEN, HIDDEN), (HIDDEN,)] * 2]
        yield Case("mlp", perceptron, [h, *linears])
