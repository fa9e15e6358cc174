"""Every geometry op on every backend against the reference: values, first and second derivatives, singular edges."""

from dataclasses import replace

import pytest
import torch

from clof_ext.bench.run import threads
from tests.conformance import (
    CALLS,
    FLOAT64_TOLERANCE,
    GRAPHS,
    HALF_CALLS,
    SECOND_TOLERANCE,
    SINGULAR,
    Backend,
    assert_agree,
    backends,
    derivatives,
)

# Of the largest value; gradients have more roundings behind them.
HALF_TOLERANCE = {torch.bfloat16: 2**-7, torch.float16: 2**-9}


def both(call, graph, backend: Backend, dtype=torch.float64, *, second=False, half_safe=False):
    with backend.in_use() as name:
        found = derivatives(call, graph, name, call.inputs(graph, dtype, backend.device), second=second)
    expected = derivatives(call, graph, "reference", call.inputs(graph, torch.float64), second=second)
    return found, expected


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("name", CALLS)
def test_values_and_both_derivatives_in_float64(name: str, graph: str, backend: Backend):
    found, expected = both(CALLS[name], GRAPHS[graph](), backend, second=True)
    assert_agree(found, expected, FLOAT64_TOLERANCE, SECOND_TOLERANCE)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("name", CALLS)
def test_values_and_gradients_in_float32(name: str, backend: Backend):
    found, expected = both(CALLS[name], GRAPHS["unsorted_with_isolated_node"](), backend, torch.float32)
    assert all(value.dtype == torch.float32 for value in found)
    assert_agree(found, expected, 2e-5, 2e-4)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("scale", [1e-7, 1e8])
@pytest.mark.parametrize("name", [name for name in CALLS if name.endswith(("soft", "orthonormal"))])
def test_positions_in_any_unit_in_float32(name: str, scale: float, backend: Backend):
    """Squares of cross products are fourth powers of lengths: none is made that a gradient has to have."""
    case = GRAPHS["unsorted_with_isolated_node"]()
    found, expected = both(CALLS[name], replace(case, pos=case.pos * scale), backend, torch.float32)
    for value, truth in zip(found, expected, strict=True):
        assert (value.double().cpu() - truth).abs().max() <= 1e-4 * truth.abs().max()


@pytest.mark.parametrize("backend", backends())
def test_what_is_no_number_stays_so(backend: Backend):
    case = GRAPHS["one_edge"]()
    pos = case.pos.to(torch.float32)
    pos[2] = torch.nan
    with backend.in_use() as used:
        assert CALLS["edge_scalars-soft"].run(case, used, pos.to(backend.device)).isnan().all()


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("graph", SINGULAR)
@pytest.mark.parametrize("name", [name for name in CALLS if not name.startswith("segment")])
def test_singular_edges_stay_finite_in_float32(name: str, graph: str, backend: Backend):
    call, case = CALLS[name], GRAPHS[graph]()
    with backend.in_use() as used:
        results = derivatives(call, case, used, call.inputs(case, torch.float32, backend.device), second=True)
    assert all(value.isfinite().all() for value in results)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("dtype", HALF_TOLERANCE)
@pytest.mark.parametrize("name", HALF_CALLS)
def test_half_precision_features(name: str, dtype: torch.dtype, backend: Backend):
    found, expected = both(CALLS[name], GRAPHS["unsorted_with_isolated_node"](), backend, dtype, second=True)
    assert found[0].dtype == dtype
    assert_agree(found, expected, HALF_TOLERANCE[dtype], 8 * HALF_TOLERANCE[dtype])


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("name", CALLS)
def test_gradcheck(name: str, backend: Backend):
    call, graph = CALLS[name], GRAPHS["three_edges"]()
    with backend.in_use() as used:
        inputs = call.inputs(graph, torch.float64, backend.device)
        assert torch.autograd.gradcheck(lambda *x: call.run(graph, used, *x), inputs)
        if not any(part in name for part in ("-3-", "many")):
            assert torch.autograd.gradgradcheck(lambda *x: call.run(graph, used, *x), inputs)


@pytest.mark.parametrize("backend", backends())
@pytest.mark.parametrize("name", ["edge_frame-soft", "aggregate-1-mean-raw", "project-1-many_channels", "segment_mean"])
def test_more_than_65536_edges_any_number_of_threads_same_bits(name: str, backend: Backend):
    from tests.conformance import Graph, points, random_edges

    call, graph = CALLS[name], Graph(points(3000), random_edges(3000, 70_001))
    runs = []
    for count in (1, 2, 2):
        with threads(count), backend.in_use() as used:
            runs.append(derivatives(call, graph, used, call.inputs(graph, torch.float32, backend.device), second=False))
    for other in runs[1:]:
        assert all(torch.equal(one, two) for one, two in zip(runs[0], other))
    expected = derivatives(call, graph, "reference", call.inputs(graph), second=False)
    assert_agree(runs[0], expected, 1e-4, 1e-3)


@pytest.mark.parametrize("graph", SINGULAR)
@pytest.mark.parametrize("mode", ["soft", "orthonormal"])
def test_undefined_axes_are_zero(graph: str, mode: str):
    """The reference itself, by its definition: no axis where it is undefined, and an edge keeps its place."""
    case = GRAPHS[graph]()
    frame = derivatives(
        CALLS[f"edge_frame-{mode}"], case, "reference", [case.pos.clone().requires_grad_()], second=True
    )
    assert all(value.isfinite().all() for value in frame)
    singular = frame[0][21:]
    assert (singular[:, 1:] == 0).all()
    if graph in ("self_loop", "coincident"):
        assert (singular == 0).all()
