"""LayerNorm of a sum on CPUs, where torch's own ops run: values, derivatives, dtypes, errors, and the layers' use."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clof_ext import _backends, ops
from clof_ext.nn.norm import norm_of_sum

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)


def tensors(rows: int, width: int, *dtypes: torch.dtype) -> list[Tensor]:
    """x, h, weight and bias, which want gradients."""
    generator = torch.Generator().manual_seed(0)
    shapes = (rows, width), (rows, width), (width,), (width,)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [value.to(dtype).requires_grad_() for value, dtype in zip(values, dtypes, strict=True)]


def by_torch(x: Tensor, h: Tensor, weight: Tensor, bias: Tensor, times: float = 1.0) -> Tensor:
    return F.layer_norm(torch.add(x, h, alpha=times), weight.shape, weight, bias)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("h_dtype", DTYPES)
@pytest.mark.parametrize("x_dtype", DTYPES)
def test_it_is_torchs(x_dtype: torch.dtype, h_dtype: torch.dtype, autocast: bool):
    """Bit by bit, whatever the dtypes."""
    inputs = tensors(5, 7, x_dtype, h_dtype, *[torch.promote_types(x_dtype, h_dtype)] * 2)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found, expected = ops.add_layer_norm(*inputs, times=2.0), by_torch(*inputs, times=2.0)
    assert found.dtype == expected.dtype
    assert torch.equal(found, expected)
    grads = [torch.autograd.grad(out.sum(), inputs) for out in (found, expected)]
    assert all(torch.equal(one, two) for one, two in zip(*grads, strict=True))


@pytest.mark.parametrize("times", [0.0, 1.0, -2.5])
def test_derivatives_of_both_orders(times: float):
    inputs = tensors(3, 5, *[torch.float64] * 4)

    def run(*x: Tensor) -> Tensor:
        return ops.add_layer_norm(*x, times=times, eps=1e-3)

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


def test_no_rows_and_devices_without_kernels():
    assert ops.add_layer_norm(*tensors(0, 4, *[torch.float32] * 4)).shape == (0, 4)
    assert ops.add_layer_norm(*(x.to("meta") for x in tensors(3, 4, *[torch.float32] * 4))).shape == (3, 4)


def test_kernels_are_for_gpus_alone():
    assert _backends.choose("add_layer_norm", "cpu") == "reference"
    with pytest.raises(RuntimeError, match="backend 'cpu' cannot run add_layer_norm here"):
        ops.add_layer_norm(*tensors(3, 4, *[torch.float32] * 4), backend="cpu")


X, V = torch.randn(3, 4), torch.randn(4)
ERRORS = [
    ({"x": [1.0]}, TypeError, "x must be a torch.Tensor; got list"),
    ({"x": V}, ValueError, r"x must have shape \(R, H\); got \(4,\)"),
    ({"h": X[:2]}, ValueError, r"h must have shape \(3, 4\); got \(2, 4\)"),
    ({"h": X.to("meta")}, ValueError, "h must be on the device of x, cpu; got meta"),
    ({"weight": V[:3]}, ValueError, r"weight must have shape \(4\); got \(3,\)"),
    ({"bias": None}, TypeError, "bias must be a torch.Tensor; got NoneType"),
    ({"bias": V.double()}, TypeError, "bias must be float32; got float64"),
    ({"x": X.long()}, TypeError, "x must be float32 or float64 or bfloat16 or float16; got int64"),
]


@pytest.mark.parametrize(("change", "error", "text"), ERRORS)
def test_wrong_arguments(change: dict, error: type, text: str):
    with pytest.raises(error, match=text):
        ops.add_layer_norm(**({"x": X, "h": X, "weight": V, "bias": V} | change))


@pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
def test_fake_tensors_have_the_parameters_dtype():
    operator, backward = torch.ops.clof_ext.add_layer_norm, torch.ops.clof_ext.add_layer_norm_backward
    x, h, v = (value.to("meta") for value in (X.bfloat16(), X, V))
    assert operator(x, h, v, v, 2.0, 1e-5).dtype == torch.float32
    found = backward(h, x, h, v, 2.0, 1e-5, False)
    assert [value.dtype for value in found] == [torch.bfloat16] + [torch.float32] * 3
    assert [tuple(value.shape) for value in found] == [(3, 4), (0, 4), (4,), (4,)]


@pytest.mark.parametrize("times", [1, 2])
def test_layers_call_their_layer_norm_on_cpus(times: int):
    norm, called = torch.nn.LayerNorm(4), []
    norm.register_forward_hook(lambda *_: called.append(True))
    assert torch.equal(norm_of_sum(norm, X, X + 1, times), norm(torch.add(X, X + 1, alpha=times)))
    assert called == [True, True]
