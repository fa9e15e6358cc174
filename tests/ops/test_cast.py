"""Casts under autocast: those of a call are one step, forward and backward, and mean what casts by hand mean."""

from collections import Counter
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from clof_ext import _backends, _cast, ops
from tests.conformance import points, random_edges

pytestmark = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")

BF16 = torch.bfloat16
NODES, WIDTH = 7, 16
EDGES = random_edges(NODES, 20)


def linears(*widths: int) -> list[Tensor]:
    return [torch.randn(shape) for n_in, n_out in pairwise(widths) for shape in ((n_out, n_in), (n_out,))]


def of_mlp() -> tuple[Callable, list[Tensor]]:
    tensors = [torch.randn(NODES, 3), torch.randn(NODES, 2), *linears(5, WIDTH, 2)]
    return lambda x, y, *weights: (ops.mlp([x, y], weights),), tensors


def of_frame_message() -> tuple[Callable, list[Tensor]]:
    pos = points(NODES).float()
    tensors = [torch.randn(NODES, 4), pos, torch.randn(20, 2), *linears(11, WIDTH, WIDTH), *linears(WIDTH, WIDTH, 3)]

    def run(h, pos, edge_attr, *weights):
        named = {"edge_mlp": weights[:4], "coord_mlp": weights[4:]}
        return ops.frame_message(h, pos, EDGES, edge_attr, **named)

    return run, tensors


CASES = {"mlp": of_mlp, "frame_message": of_frame_message}


@pytest.fixture(params=CASES)
def case(request):
    """A function of tensors, these as leaves, and the same with casts by hand in the place of autocast."""
    torch.manual_seed(0)
    run, tensors = CASES[request.param]()

    def under_autocast(*leaves: Tensor) -> tuple[Tensor, ...]:
        with torch.autocast("cpu", BF16):
            return run(*leaves)

    def by_hand(*leaves: Tensor) -> tuple[Tensor, ...]:
        positions = 1 if request.param == "frame_message" else None
        return run(*[leaf if place == positions else leaf.to(BF16) for place, leaf in enumerate(leaves)])

    return under_autocast, by_hand, [tensor.requires_grad_() for tensor in tensors]


def gradients(outputs: tuple[Tensor, ...], leaves: list[Tensor], **options) -> tuple[Tensor, ...]:
    return torch.autograd.grad(outputs, leaves, [torch.ones_like(out) for out in outputs], **options)


def casts(run: Callable) -> tuple[int, ...]:
    """How often our operator is called, torch's copy of lists, and torch's own cast."""
    with profile(activities=[ProfilerActivity.CPU]) as record:
        run()
    count = Counter(event.name for event in record.events())
    return tuple(count[name] for name in ("clof_ext::cast_all", "aten::_foreach_copy_", "aten::_to_copy"))


def test_a_pass_casts_once(case):
    under_autocast, _, leaves = case
    with torch.no_grad():
        assert casts(lambda: under_autocast(*leaves)) == (1, 1, 0)
    assert casts(lambda: under_autocast(*leaves)) == (1, 1, 0)
    outputs = under_autocast(*leaves)
    assert casts(lambda: gradients(outputs, leaves)) == (1, 1, 0)


def test_gradients_have_the_dtypes_of_the_leaves(case):
    under_autocast, by_hand, leaves = case
    found, expected = under_autocast(*leaves), by_hand(*leaves)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    for grad, truth, leaf in zip(gradients(found, leaves), gradients(expected, leaves), leaves, strict=True):
        assert grad.dtype == leaf.dtype
        assert torch.equal(grad, truth)


def test_gradients_go_through_the_casts_when_they_are_differentiated(case):
    under_autocast, by_hand, leaves = case
    results = []
    for run in (under_autocast, by_hand):
        first = gradients(run(*leaves), leaves, create_graph=True)
        assert all(grad.dtype == leaf.dtype for grad, leaf in zip(first, leaves, strict=True))
        along = sum(grad.square().sum() for grad in first)
        results.append(torch.autograd.grad(along, leaves, materialize_grads=True))
    for place, (found, expected) in enumerate(zip(*results, strict=True)):
        assert torch.equal(found, expected)
        # Of the last bias alone the gradients are independent.
        assert float(expected.abs().max()) > 0 or place == len(leaves) - 1


def test_a_compiled_graph_casts_alike(case):
    under_autocast, _, leaves = case
    compiled = torch.compile(under_autocast, fullgraph=True, backend="aot_eager")
    found, expected = (gradients(run(*leaves), leaves) for run in (compiled, under_autocast))
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_only_gradients_that_are_wanted_are_cast(case, monkeypatch):
    under_autocast, _, leaves = case
    for leaf in leaves[1:]:
        leaf.requires_grad_(False)
    outputs = under_autocast(*leaves)
    cast, sizes = _cast._in_one_step, []
    monkeypatch.setattr(_cast, "_in_one_step", lambda some, dtype: sizes.append(len(some)) or cast(some, dtype))
    (grad,) = gradients(outputs, leaves[:1])
    assert grad.dtype == torch.float32
    assert sizes == [1]


def test_without_the_compiled_extension_the_numbers_are_the_same(case, monkeypatch):
    """As where Triton's kernels are all that there is."""
    under_autocast, _, leaves = case
    expected = gradients(under_autocast(*leaves), leaves)
    monkeypatch.setattr(_backends, "binary", lambda: None)
    found = gradients(under_autocast(*leaves), leaves)
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))


def test_what_is_not_cast():
    whole, double, half = torch.arange(3), torch.ones(2, dtype=torch.float64), torch.ones(2, dtype=BF16)
    found = _cast.cast_all([whole, None, double, torch.ones(2), half, "text"], BF16)
    assert [value.dtype for value in found if isinstance(value, Tensor)] == [torch.int64, torch.float64, BF16, BF16]
    assert found[1] is None and found[2] is double and found[4] is half and found[5] == "text"
    assert _cast.cast_all([half], None)[0] is half


def test_the_operator_casts_any_tensors():
    tensors = [torch.randn(3, 5), torch.randn(7), torch.randn(0, 4), torch.randn(4, 6).t(), torch.randn(400, 400)]
    found = torch.ops.clof_ext.cast_all(tensors, BF16)
    for value, tensor in zip(found, tensors, strict=True):
        assert torch.equal(value, tensor.to(BF16))
        assert value.is_contiguous() and value.data_ptr() % 16 == 0
    memory = [value.untyped_storage().data_ptr() for value in found]
    assert memory[0] == memory[1] == memory[3] != memory[4]
    assert torch.ops.clof_ext.cast_all([], BF16) == []


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives_under_autocast_of_what_was_computed_outside(name: str):
    """Those by gradients of weights, which the definition makes."""
    torch.manual_seed(0)
    run, tensors = CASES[name]()
    leaves = [tensor.requires_grad_() for tensor in tensors]
    grads = torch.autograd.grad(sum(out.square().sum() for out in run(*leaves)), leaves, create_graph=True)
    loss = sum(grad.square().sum() for grad in grads)
    expected = torch.autograd.grad(loss, leaves, retain_graph=True)
    with torch.autocast("cpu", BF16):
        found = torch.autograd.grad(loss, leaves)
    assert all(map(torch.equal, found, expected))
