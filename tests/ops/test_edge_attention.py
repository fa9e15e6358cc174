"""The compiled attention against its definition: values and derivatives, over graphs, sizes and dtypes."""

import pytest
import torch
from torch import Tensor

from clof_ext import _backends, ops, prepare_graph
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.run import threads
from tests.conformance import GRAPHS, backends, points, random_edges
from tests.conformance import Graph as Case

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
# Heads, features of a head, features of an edge: below, at and above registers; nothing at all.
SIZES = {
    "published": (8, 36, 288),
    "three heads": (3, 5, 7),
    "one head": (1, 16, 32),
    "many heads": (18, 2, 3),
    "no features of edges": (2, 3, 0),
    "no features": (2, 0, 3),
}


def star() -> Case:
    """A receiver of more edges than are in the cache at a time, and receivers of one."""
    many = torch.stack((torch.zeros(150, dtype=torch.int64), torch.arange(150) % 9))
    return Case(points(9), torch.cat((many, torch.tensor([[3, 4], [0, 0]])), 1))


CASES = {
    **{name: GRAPHS[name] for name in ("unsorted_with_isolated_node", "no_edges", "no_nodes", "one_edge", "int32")},
    "star": star,
    "many": lambda: Case(points(300), random_edges(300, 2500)),
}


def tensors(graph: Case, size: str, dtype: torch.dtype, dropout: bool) -> tuple[list[Tensor], Tensor | None]:
    """Inputs that want gradients, and factors of the weights."""
    heads, width, columns = SIZES[size]
    n_nodes, n_edges, hidden = len(graph.pos), graph.edge_index.shape[1], heads * width
    generator = torch.Generator().manual_seed(0)
    shapes = [(n_nodes, hidden)] * 3 + [(n_edges, columns), (hidden, columns)]
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    values[-1] /= max(columns, 1) ** 0.5
    keep = torch.rand(n_edges, heads, generator=generator, dtype=torch.float64).to(dtype) if dropout else None
    return [value.to(dtype).requires_grad_() for value in values], keep


def results(graph: Case, size: str, dtype: torch.dtype, backend: str, dropout: bool) -> list[Tensor]:
    """The value and all gradients for a fixed cotangent; by the definition in float64."""
    inputs, keep = tensors(graph, size, dtype, dropout)
    if backend == "reference":
        inputs = [x.detach().double().requires_grad_() for x in inputs]
        keep = None if keep is None else keep.double()
    out = ops.edge_attention(*inputs, graph.plan(), heads=SIZES[size][0], keep=keep, backend=backend)
    cotangent = torch.linspace(1, 9, out.numel(), dtype=torch.float64).sin().reshape(out.shape).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, inputs, cotangent)]


def assert_agree(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for number, (value, truth) in enumerate(zip(found, expected, strict=True)):
        assert value.shape == truth.shape
        if truth.numel():
            error = float((value.double() - truth).abs().max())
            assert error <= tolerance * max(float(truth.abs().max()), 1e-3), f"array {number} is off by {error:.2e}"


COMPILED = [parameter for parameter in backends() if parameter.values[0].name == "cpu"]


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("graph", CASES)
def test_values_and_gradients(graph: str, size: str, backend):
    case = CASES[graph]()
    for dtype, dropout in ((torch.float64, True), (torch.float32, False)):
        with backend.in_use() as name:
            found = results(case, size, dtype, name, dropout)
        assert all(value.dtype == dtype for value in found)
        assert_agree(found, results(case, size, dtype, "reference", dropout), TOLERANCE[dtype])


@pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
class TestCompiled:
    def test_derivatives_of_both_orders(self):
        case = GRAPHS["unsorted_with_isolated_node"]()
        inputs, keep = tensors(case, "three heads", torch.float64, True)

        def run(*x: Tensor) -> Tensor:
            return ops.edge_attention(*x, case.plan(), heads=3, keep=keep, backend="cpu")

        assert torch.autograd.gradcheck(run, inputs)
        assert torch.autograd.gradgradcheck(run, inputs)

    def test_the_same_bits_for_any_number_of_threads(self):
        case = Case(points(3000), random_edges(3000, 20_001))
        runs = []
        for count in (1, 2, 2):
            with threads(count):
                runs.append(results(case, "three heads", torch.float32, "cpu", False))
        for other in runs[1:]:
            assert all(torch.equal(one, two) for one, two in zip(runs[0], other))

    def test_nothing_of_the_size_of_the_edges_is_allocated(self):
        case = Case(points(500), random_edges(500, 20_000))
        inputs, _ = tensors(case, "published", torch.float32, False)
        plan, of_edges = case.plan(), inputs[3].numel() * inputs[3].element_size()

        def run() -> None:
            ops.edge_attention(*(x.detach() for x in inputs), plan, heads=8, backend="cpu")

        assert peak_bytes(run, torch.device("cpu")) < of_edges / 2

    def test_large_scores_do_not_overflow(self):
        case = GRAPHS["three_edges"]()
        inputs, _ = tensors(case, "three heads", torch.float32, False)
        out = ops.edge_attention(1e4 * inputs[0], *inputs[1:], case.plan(), heads=3, backend="cpu")
        assert out.isfinite().all()


def test_receivers_without_edges_get_zeros():
    case = GRAPHS["unsorted_with_isolated_node"]()
    inputs, _ = tensors(case, "three heads", torch.float32, False)
    out = ops.edge_attention(*inputs, case.plan(), heads=3)
    assert (out[-1] == 0).all() and (out[:-1].abs().sum(1) > 0).all()


def test_under_autocast_halves_are_cast():
    case = GRAPHS["three_edges"]()
    inputs, _ = tensors(case, "three heads", torch.float32, False)
    with torch.autocast("cpu", torch.bfloat16):
        out = ops.edge_attention(*(x.bfloat16() for x in inputs), case.plan(), heads=3)
    assert out.dtype == torch.float32
    expected = ops.edge_attention(*(x.bfloat16().float() for x in inputs), case.plan(), heads=3)
    assert torch.equal(out, expected)


Q, X, W = torch.randn(3, 6), torch.randn(3, 4), torch.randn(6, 4)
ERRORS = [
    ({"query": Q.long()}, TypeError, "query must be float32 or float64"),
    ({"key": Q[:2]}, ValueError, r"key must have shape \(3, 6\)"),
    ({"value": Q.double()}, TypeError, "value must be float32"),
    ({"edge": X[:2]}, ValueError, r"edge must have shape \(3, C\)"),
    ({"weight": W.T}, ValueError, r"weight must have shape \(6, 4\)"),
    ({"keep": torch.ones(3, 2)}, ValueError, r"keep must have shape \(3, 3\)"),
    ({"heads": 4}, ValueError, "heads must divide the 6 columns of query; got 4"),
]


@pytest.mark.parametrize(("change", "error", "text"), ERRORS)
def test_wrong_arguments(change: dict, error: type, text: str):
    arguments = {"query": Q, "key": Q, "value": Q, "edge": X, "weight": W, "heads": 3} | change
    with pytest.raises(error, match=text):
        ops.edge_attention(**arguments, edge_index=prepare_graph(torch.tensor([[0, 1, 2], [1, 2, 0]]), 3))
