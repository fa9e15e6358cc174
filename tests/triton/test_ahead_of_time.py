"""Every kernel compiles for GPUs of both makers without one, and keeps its numbers in registers."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
import torch

pytest.importorskip("triton")

from clof_ext import prepare_graph
from clof_ext.triton import aggregate, edge_frame, edge_scalars, interpreted, project, segment
from tests.triton.ahead_of_time import TARGETS, compiled, recorded

pytestmark = pytest.mark.skipif(interpreted(), reason="TRITON_INTERPRET=1 replaces the compiler by the interpreter")

NODES, EDGES, CHANNELS = 4, 6, 40
# A thread can have no more. On AMD half of them are accumulators, which take what does not fit in the others.
MAX_REGISTERS = {"sm_80": 255, "sm_90": 255, "gfx942": 512}
# With more, fewer than 16 of its 64 warps fit on a multiprocessor at a time.
REGISTERS_OF_FIRST_DERIVATIVES = 128
# Four warps exchange the sums over the lanes of a node through it.
MAX_SHARED = 1024
FLOAT32, FLOAT64 = torch.float32, torch.float64


@dataclass(frozen=True)
class Variant:
    """A call of an operator, the targets that it is compiled for, the most that it may use."""

    name: str
    call: Callable[[], object]
    targets: tuple[str, ...] = tuple(TARGETS)
    registers: int | None = None
    spilled: int = 0


def plan_tensors() -> tuple:
    plan = prepare_graph(torch.arange(2 * EDGES).reshape(2, EDGES) % NODES, NODES)
    return plan.edges, plan.offsets


def geometry_variants() -> Iterator[Variant]:
    plan = plan_tensors()

    def pos(dtype=FLOAT32):
        return torch.zeros(NODES, 3, dtype=dtype)

    def scalars(dtype=FLOAT32):
        return torch.zeros(EDGES, 14, dtype=dtype)

    frames = torch.zeros(EDGES, 3, 3)
    first = {"registers": REGISTERS_OF_FIRST_DERIVATIVES}
    yield Variant("edge_frame", lambda: edge_frame.edge_frame(pos(), *plan, "soft"), **first)
    for mode in ("soft", "raw", "orthonormal"):
        yield Variant(
            f"edge_frame_backward-{mode}",
            lambda mode=mode: edge_frame.edge_frame_backward(frames, pos(), *plan, mode),
            **first,
        )
    yield Variant(
        "edge_frame_double_backward", lambda: edge_frame.edge_frame_double_backward(pos(), frames, pos(), *plan, "soft")
    )
    yield Variant("edge_scalars", lambda: edge_scalars.edge_scalars(pos(), pos(), *plan, "soft"), **first)
    yield Variant(
        "edge_scalars-no_velocities",
        lambda: edge_scalars.edge_scalars_backward(scalars()[:, :8], pos(), None, *plan, "soft"),
        **first,
    )
    yield Variant(
        "edge_scalars_backward",
        lambda: edge_scalars.edge_scalars_backward(scalars(), pos(), pos(), *plan, "soft"),
        **first,
    )
    # ptxas keeps two programs on a multiprocessor at the price of a few spilled bytes.
    for dtype, targets, spilled in ((FLOAT32, tuple(TARGETS), 64), (FLOAT64, ("sm_90",), 1024)):
        yield Variant(
            f"edge_scalars_double_backward-{dtype}",
            lambda dtype=dtype: edge_scalars.edge_scalars_double_backward(
                pos(dtype), pos(dtype), scalars(dtype), pos(dtype), pos(dtype), *plan, "soft"
            ),
            targets,
            spilled=spilled,
        )


def feature_variants() -> Iterator[Variant]:
    plan = plan_tensors()

    def form(order, dtype=FLOAT32):
        tensor = torch.zeros(NODES, CHANNELS, *[3] * order, dtype=dtype)
        scalars = torch.zeros(EDGES, CHANNELS, 3**order, dtype=dtype)
        return tensor, scalars, torch.zeros(NODES, 3, dtype=FLOAT64 if dtype == FLOAT64 else FLOAT32)

    def first(order, dtype=FLOAT32):
        tensor, scalars, pos = form(order, dtype)
        project.project(tensor, pos, *plan, order, "sender", "soft")
        project.project_backward(scalars, tensor, pos, *plan, order, "sender", "soft")

    def mean(order):
        tensor, scalars, pos = form(order)
        aggregate.aggregate(scalars, pos, *plan, order, "mean", "soft")
        aggregate.aggregate_backward(tensor, scalars, pos, *plan, order, "mean", "soft")

    def second(order, dtype=FLOAT32):
        tensor, scalars, pos = form(order, dtype)
        aggregate.aggregate_double_backward(scalars, pos, tensor, scalars, pos, *plan, order, "sum", "soft")

    few = {"registers": REGISTERS_OF_FIRST_DERIVATIVES}
    for order in (0, 1, 2):
        yield Variant(f"project-{order}", lambda order=order: first(order), **few)
    yield Variant("project-3", lambda: first(3), ("sm_90",))
    for dtype, targets in ((torch.bfloat16, tuple(TARGETS)), (torch.float16, ("sm_90",)), (FLOAT64, ("sm_90",))):
        yield Variant(f"project-1-{dtype}", lambda dtype=dtype: first(1, dtype), targets, **few)
    yield Variant("aggregate-1-mean", lambda: mean(1), **few)
    yield Variant("second-1", lambda: second(1))
    yield Variant("second-2", lambda: second(2), ("sm_90",))
    yield Variant("second-3", lambda: second(3), ("sm_90",))
    yield Variant("second-2-float64", lambda: second(2, FLOAT64), ("sm_90",))


def segment_variants() -> Iterator[Variant]:
    edges, offsets = plan_tensors()
    arguments = (edges[0], edges[2], offsets[0], "mean")
    for dtype in (FLOAT32, torch.bfloat16):
        rows, segments = torch.zeros(EDGES, 3, dtype=dtype), torch.zeros(NODES, 3, dtype=dtype)
        yield Variant(f"segment_reduce-{dtype}", lambda rows=rows: segment.segment_reduce(rows, *arguments))
        yield Variant(f"segment_gather-{dtype}", lambda rows=segments: segment.segment_gather(rows, *arguments))


CASES = [
    pytest.param(variant, target, id=f"{variant.name}-{target}")
    for variants in (geometry_variants, feature_variants, segment_variants)
    for variant in variants()
    for target in variant.targets
]


@pytest.mark.parametrize(("variant", "target"), CASES)
def test_kernels_compile_and_stay_in_registers(variant: Variant, target: str, record_property):
    with recorded() as launches:
        variant.call()
    assert launches
    for launch in launches:
        usage = compiled(launch, target)
        record_property(launch.name, str(usage))
        print(launch.name, usage)
        assert usage.registers <= (variant.registers or MAX_REGISTERS[target]), launch.name
        assert usage.spilled <= variant.spilled, launch.name
        assert usage.shared <= MAX_SHARED, launch.name
