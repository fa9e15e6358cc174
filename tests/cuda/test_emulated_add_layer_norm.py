"""The CUDA kernels of add_layer_norm on the emulated GPU, against the definition: values and gradients."""

from collections.abc import Iterator
from itertools import product

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clof_ext import _backends, ops
from tests.compiler import COMPILER
from tests.cuda import emulated_add_layer_norm
from tests.cuda.emulated_add_layer_norm import random_call

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")
needs_binary = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")

F64, F32, BF16, F16 = torch.float64, torch.float32, torch.bfloat16, torch.float16
# Of x, h and the parameters, whose dtype the result has.
DTYPES = {
    "float64": (F64, F64, F64),
    "float32": (F32, F32, F32),
    "bfloat16": (BF16, BF16, BF16),
    "float16": (F16, F16, F16),
    "bfloat16 under autocast": (BF16, BF16, F32),
    "float16 under autocast": (F16, F16, F32),
    "bfloat16 beside float32": (BF16, F32, F32),
    "float16 beside float32": (F16, F32, F32),
}
# Relative, of norms.
TOLERANCE = {F64: 1e-11, F32: 1e-5, BF16: 1e-2, F16: 2e-3}
WIDTHS = [1, 4, 7, 33, 64, 100, 128, 200, 384]
ROWS = [0, 1, 5, 300]


def definition(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, times: float, eps: float) -> Tensor:
    """In float64, but for the sum, which is rounded as torch rounds it."""
    total = torch.add(x, h, alpha=times)
    rounded = total.to(torch.promote_types(x.dtype, h.dtype)).double()
    return F.layer_norm(rounded, weight.shape, weight.double(), bias.double(), eps)


def relative_error(found: Tensor, expected: Tensor, scale: float = 1e-6) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected).norm() / expected.norm().clamp(min=scale)) if expected.numel() else 0.0


def cotangent_of(shape: torch.Size, dtype: torch.dtype) -> Tensor:
    return torch.linspace(1, 9, shape.numel(), dtype=F64).sin().reshape(shape).to(dtype)


def gradients(inputs: list[Tensor], grad: Tensor, times: float, eps: float) -> list[Tensor]:
    """Of x, h, weight and bias in float64, at the sum that torch rounds."""
    x, h, weight, bias = inputs
    total = torch.add(x, h, alpha=times).double().requires_grad_()
    weight, bias = (value.double().requires_grad_() for value in (weight, bias))
    out = F.layer_norm(total, weight.shape, weight, bias, eps)
    of_total, *others = torch.autograd.grad(out, (total, weight, bias), grad.double())
    return [of_total, times * of_total, *others]


def check(inputs: list[Tensor], times: float, eps: float = 1e-5, **launch) -> None:
    dtype = inputs[2].dtype
    inputs = [value.detach() for value in inputs]
    out = emulated_add_layer_norm.forward(*inputs, times, eps, **launch)
    assert out.dtype == dtype
    assert relative_error(out, definition(*inputs, times, eps)) < TOLERANCE[dtype]
    grad = cotangent_of(out.shape, dtype)
    found = emulated_add_layer_norm.backward(grad, *inputs[:3], times, eps, True, **launch)
    expected = gradients(inputs, grad, times, eps)
    for name, value, truth, like in zip(("x", "h", "weight", "bias"), found, expected, inputs, strict=True):
        assert value.dtype == like.dtype
        # A row of one feature has no gradient but what is lost to rounding.
        error = relative_error(value, truth, 0.1 * max(len(grad), 1) ** 0.5)
        assert error < TOLERANCE[like.dtype], f"the gradient of {name} is off by {error:.1e}"


@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_values_and_gradients(width: int, dtypes: tuple):
    for rows, times in zip(ROWS, (1.0, 2.0, -0.5, 2.0), strict=True):
        check(random_call(rows, width, dtypes), times, descending=rows == 5)


@pytest.mark.parametrize("width", [385, 768])
def test_the_widest_rows(width: int):
    for dtypes in (DTYPES["float32"], DTYPES["bfloat16 under autocast"]):
        check(random_call(9, width, dtypes), 2.0)


@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
def test_rows_at_any_address(dtypes: tuple):
    """Columns that are whole vectors, in tensors that do not begin at one. A misaligned access ends the process."""

    def shifted(x: Tensor) -> Tensor:
        return torch.cat((x.new_zeros(1), x.flatten()))[1:].view(x.shape)

    for width in (64, 200):
        inputs = random_call(17, width, dtypes)
        for number in range(4):
            some = [shifted(x) if k == number else x for k, x in enumerate(inputs)]
            assert some[number].data_ptr() % 16
            check(some, 2.0)


def test_times_0_and_eps_0():
    inputs = random_call(40, 12, DTYPES["float64"])
    check(inputs, 0.0)
    check(inputs, 1.5, eps=0.0)


def test_the_gradient_of_h_is_left_out_where_it_is_not_wanted():
    inputs = random_call(40, 12, DTYPES["float32"])
    grad = cotangent_of(inputs[0].shape, F32)
    alone, every = (emulated_add_layer_norm.backward(grad, *inputs[:3], 2.0, 1e-5, one) for one in (False, True))
    assert alone[1].shape == (0, 12)
    assert all(torch.equal(one, two) for k, (one, two) in enumerate(zip(alone, every)) if k != 1)


@pytest.mark.parametrize("width", [33, 64])
def test_rows_by_blocks_in_either_order(width: int):
    """The order of warps changes nothing."""
    inputs = random_call(300, width, DTYPES["float32"])
    grad = cotangent_of(inputs[0].shape, F32)
    found = []
    for blocks, descending in ((1, False), (3, False), (3, True)):
        check(inputs, 2.0, blocks=blocks, descending=descending)
        launch = {"blocks": blocks, "descending": descending}
        found.append(emulated_add_layer_norm.backward(grad, *inputs[:3], 2.0, 1e-5, True, **launch))
    assert all(torch.equal(one, two) for one, two in zip(found[1], found[2], strict=True))


def test_what_the_kernels_hold():
    limit = emulated_add_layer_norm.limit
    for dtypes in DTYPES.values():
        assert limit(*dtypes, 384) is None
    assert "at most 384" in limit(F64, F64, F64, 385)
    assert "at most 768" in limit(BF16, F32, F32, 769)
    for dtypes in ((F32, BF16, F32), (BF16, F16, F32), (F32, F64, F64), (F32, F32, BF16), (BF16, BF16, F64)):
        assert "one dtype, or x is half" in limit(*dtypes, 8)


@pytest.fixture
def kernels():
    with emulated_add_layer_norm.as_kernels_of_the_cpu():
        yield


@needs_binary
@pytest.mark.parametrize("times", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("width", [5, 8])
def test_derivatives_of_both_orders(width: int, times: float, kernels):
    inputs = [value.requires_grad_() for value in random_call(3, width, DTYPES["float64"])]

    def run(*x: Tensor) -> Tensor:
        return torch.ops.clof_ext.add_layer_norm(*x, times, 1e-5)

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@needs_binary
@pytest.mark.parametrize("dtypes", ["float64", "bfloat16 beside float32"])
def test_operators_are_well_declared(dtypes: str, kernels):
    inputs = [value.requires_grad_() for value in random_call(6, 8, DTYPES[dtypes])]
    torch.library.opcheck(torch.ops.clof_ext.add_layer_norm, (*inputs, 2.0, 1e-5))
    grad = torch.randn(6, 8, dtype=inputs[2].dtype, requires_grad=True)
    for wanted in (True, False):
        torch.library.opcheck(torch.ops.clof_ext.add_layer_norm_backward, (grad, *inputs[:3], 2.0, 1e-5, wanted))


def combinations() -> Iterator[tuple]:
    """dtypes of x, h and the parameters, and whether autocast is on: those that torch takes on GPUs."""
    for x, h, parameters in product((F32, BF16), repeat=3):
        if parameters == torch.promote_types(x, h):
            yield x, h, parameters, False
        yield x, h, parameters, True


@needs_binary
@pytest.mark.parametrize(("x_dtype", "h_dtype", "parameters", "autocast"), list(combinations()))
def test_dtypes_and_numbers_are_torchs(x_dtype, h_dtype, parameters, autocast: bool, kernels):
    """Values, gradients and gradients of gradients of the public op are those of torch's ops on GPUs."""

    def by_torch(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        total = torch.add(x, h, alpha=2.0)
        # Unlike on CPUs, LayerNorm is in float32 under autocast.
        total, weight, bias = (value.float() if autocast else value for value in (total, weight, bias))
        return F.layer_norm(total, weight.shape, weight, bias)

    def by_kernels(*inputs: Tensor) -> Tensor:
        with torch.autocast("cpu", BF16, enabled=autocast):
            return ops.add_layer_norm(*inputs, times=2.0, backend="cpu")

    if (x_dtype, h_dtype) == (F32, BF16):
        with pytest.raises(RuntimeError, match="cannot run this add_layer_norm"):
            by_kernels(*random_call(6, 8, (x_dtype, h_dtype, parameters)))
        return
    results = []
    for function in (by_kernels, by_torch):
        leaves = [value.requires_grad_() for value in random_call(6, 8, (x_dtype, h_dtype, parameters))]
        out = function(*leaves)
        grads = torch.autograd.grad(out, leaves, cotangent_of(out.shape, out.dtype), create_graph=True)
        along = sum(grad.float().square().sum() for grad in grads)
        seconds = torch.autograd.grad(along, leaves, materialize_grads=True)
        results.append([value.detach() for value in (out, *grads, *seconds)])
    tolerance = 2e-2 if BF16 in (x_dtype, h_dtype, parameters) else 1e-4
    for value, truth in zip(*results, strict=True):
        assert value.dtype == truth.dtype
        assert relative_error(value, truth.double()) < tolerance


@needs_binary
def test_in_a_compiled_graph(kernels, monkeypatch):
    monkeypatch.setitem(_backends._table, ("add_layer_norm", "cpu"), torch.ops.clof_ext.add_layer_norm)
    inputs = [value.requires_grad_() for value in random_call(6, 8, DTYPES["float32"])]

    def run(*x: Tensor) -> Tensor:
        return ops.add_layer_norm(*x, times=2.0).square().sum()

    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    found, expected = (torch.autograd.grad(function(*inputs), inputs) for function in (compiled, run))
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))
