"""Ops and networks under torch.func and forward mode: no derivative is lost, whatever has rules for kernels."""

import functools
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.functional import jacobian

import clof_ext
from clof_ext import _backends, models, ops
from tests.systems import make_system

N = 7
SYSTEM = make_system(2, 2)
PLAN = SYSTEM.plan()


def linears(*widths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    shapes = [shape for n_in, n_out in pairwise(widths) for shape in ((n_out, n_in), (n_out,))]
    return [torch.randn(shape, generator=generator, dtype=torch.float64) / 2 for shape in shapes]


def network(model: Callable, frozen: bool) -> Callable[[Tensor], Tensor]:
    torch.manual_seed(0)
    made = model(2, 2, 8, n_layers=2).double().requires_grad_(not frozen)
    return lambda x: made(SYSTEM.h, x, PLAN, SYSTEM.edge_attr, SYSTEM.vel)


def of_messages(x: Tensor, weights: list[Tensor]) -> Tensor:
    message, vector = ops.frame_message(
        SYSTEM.h, x, PLAN, SYSTEM.edge_attr, edge_mlp=weights[:4], coord_mlp=weights[4:]
    )
    return torch.cat((message, vector), 1)


def of_attention(x: Tensor) -> Tensor:
    return ops.edge_attention(x, x, x, SYSTEM.edge_attr, WIDE[:, :2], PLAN, heads=2)


def trained(weights: list[Tensor]) -> list[Tensor]:
    return [weight.clone().requires_grad_() for weight in weights]


MESSAGE_WEIGHTS = [*linears(7, 4, 4), *linears(4, 4, 3)]
MLP_WEIGHTS = linears(3, 5, 2)
TRAINED_MESSAGE_WEIGHTS, TRAINED_MLP_WEIGHTS = trained(MESSAGE_WEIGHTS), trained(MLP_WEIGHTS)
FIRST = torch.arange(N, dtype=torch.int32)[:, None] % 3
WIDE = linears(3, 4)[0]

# Functions of positions (7, 3).
CASES = {
    "edge_frame": lambda x: ops.edge_frame(x, PLAN),
    "edge_scalars": lambda x: ops.edge_scalars(x, PLAN, SYSTEM.vel),
    "project": lambda x: ops.project(SYSTEM.vel[:, None], x, PLAN),
    "aggregate": lambda x: ops.aggregate(ops.project(SYSTEM.vel[:, None], x, PLAN), x, PLAN),
    "segment_mean": lambda x: ops.segment_mean(x[SYSTEM.edge_index[1]], SYSTEM.edge_index[0], N),
    "frame_message": lambda x: of_messages(x, MESSAGE_WEIGHTS),
    "frame_message, trained": lambda x: of_messages(x, TRAINED_MESSAGE_WEIGHTS),
    "mlp": lambda x: ops.mlp([x], MLP_WEIGHTS),
    "mlp, trained": lambda x: ops.mlp([x], TRAINED_MLP_WEIGHTS),
    "add_layer_norm": lambda x: ops.add_layer_norm(x, SYSTEM.vel, SYSTEM.vel[0], SYSTEM.vel[1]),
    "edge_attention": lambda x: of_attention(x @ WIDE.T),
    "table_sum": lambda x: ops.table_sum(x, FIRST, SYSTEM.h[:, None]),
    "ClofNet": network(models.ClofNet, frozen=True),
    "ClofNet, trained": network(models.ClofNet, frozen=False),
}
every = pytest.mark.parametrize("function", CASES.values(), ids=CASES)
needs_kernels = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
DIRECTION = SYSTEM.vel.flip(0)

pytestmark = pytest.mark.filterwarnings("ignore:frame_message uses the plain PyTorch reference")


@functools.cache
def expected_derivative(function: Callable) -> Tensor:
    """Along DIRECTION, by backward passes alone."""
    return jacobian(function, SYSTEM.pos).flatten(-2) @ DIRECTION.flatten()


def assert_derivative(found: Tensor | None, function: Callable) -> None:
    assert found is not None, "the tangent was dropped"
    torch.testing.assert_close(found, expected_derivative(function), rtol=1e-9, atol=1e-9)


@every
def test_forward_mode(function):
    with forward_ad.dual_level():
        result = function(forward_ad.make_dual(SYSTEM.pos, DIRECTION))
        assert_derivative(forward_ad.unpack_dual(result).tangent, function)


@every
def test_jvp(function):
    assert_derivative(torch.func.jvp(function, (SYSTEM.pos,), (DIRECTION,))[1], function)


@every
def test_grad(function):
    x = SYSTEM.pos.clone().requires_grad_()
    (expected,) = torch.autograd.grad(function(x).square().sum(), x)
    found = torch.func.grad(lambda x: function(x).square().sum())(SYSTEM.pos)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-9)


@every
def test_vmap(function):
    batch = torch.stack((SYSTEM.pos, SYSTEM.pos.flip(0)))
    expected = torch.stack([function(x) for x in batch])
    for dim in (0, 2):
        found = torch.func.vmap(function, in_dims=dim)(batch.movedim(0, dim))
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@every
def test_hessian(function):
    def loss(x: Tensor) -> Tensor:
        return function(x).square().sum()

    expected = torch.autograd.functional.hessian(loss, SYSTEM.pos)
    torch.testing.assert_close(torch.func.hessian(loss)(SYSTEM.pos), expected, rtol=1e-8, atol=1e-8)


def test_weights_in_batches():
    """An ensemble: lists of weights, one set for each member."""
    weights = [torch.stack((weight, 2 * weight)) for weight in MESSAGE_WEIGHTS]
    found = torch.func.vmap(lambda *some: of_messages(SYSTEM.pos, list(some)))(*weights)
    expected = torch.stack([of_messages(SYSTEM.pos, [weight[k] for weight in weights]) for k in range(2)])
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


@needs_kernels
def test_results_in_lists_in_batches():
    """The backward operators' results are tensors and lists of them."""

    def gradients(grad: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        return torch.ops.clof_ext.mlp_backward(grad, [SYSTEM.pos], MLP_WEIGHTS, "silu", False, True)

    grads = torch.stack((SYSTEM.h, -SYSTEM.h))
    (found_x,), found_weights = torch.func.vmap(gradients)(grads)
    for k, grad in enumerate(grads):
        (grad_x,), grad_weights = gradients(grad)
        torch.testing.assert_close([found_x[k], *(found[k] for found in found_weights)], [grad_x, *grad_weights])


@needs_kernels
def test_an_empty_batch_is_refused():
    with pytest.raises(ValueError, match="at least one entry; got none"):
        torch.func.vmap(CASES["mlp"])(torch.empty(0, N, 3, dtype=torch.float64))


@needs_kernels
@pytest.mark.parametrize("name", [name for name in CASES if not name.startswith("add_layer_norm")])
def test_a_backward_pass_in_forward_mode_is_refused(name):
    """Of results that were made before: torch would drop the tangents of the kernels' operators."""
    x = SYSTEM.pos.clone().requires_grad_()
    result = CASES[name](x)
    with forward_ad.dual_level():
        cotangent = forward_ad.make_dual(torch.ones_like(result), torch.ones_like(result))
        with pytest.raises(NotImplementedError, match="cannot be differentiated in forward mode"):
            torch.autograd.grad(result, x, cotangent)


@needs_kernels
def test_kernels_asked_for_by_name_are_refused():
    def asked(x: Tensor) -> Tensor:
        return ops.edge_scalars(x, PLAN, backend="cpu")

    with pytest.raises(RuntimeError, match="backend 'cpu' cannot run edge_scalars here: kernels have no forward-mode"):
        torch.func.jvp(asked, (SYSTEM.pos,), (DIRECTION,))
    with pytest.raises(RuntimeError, match="cannot run edge_scalars here: torch.func does not differentiate kernels"):
        torch.func.grad(lambda x: asked(x).sum())(SYSTEM.pos)
    torch.testing.assert_close(torch.func.vmap(asked)(SYSTEM.pos[None]), asked(SYSTEM.pos)[None])


@pytest.mark.filterwarnings("default:frame_message uses the plain PyTorch reference")
@needs_kernels
def test_the_slow_way_is_told():
    _backends._warn_of_reference.cache_clear()
    with pytest.warns(RuntimeWarning, match="reference: torch.func does not differentiate kernels"):
        torch.func.grad(lambda x: CASES["frame_message"](x).sum())(SYSTEM.pos)


def test_what_needs_no_definition_has_kernels():
    assert _backends.forced() is None
    assert _backends.implementation("mlp", torch.device("cpu")) is _backends._table["mlp", "cpu"]
    with forward_ad.dual_level():
        assert _backends.implementation("mlp", torch.device("cpu")) is clof_ext.reference.mlp
