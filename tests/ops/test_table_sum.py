"""The compiled sums of a table's rows against their definition: values and derivatives, over sizes and dtypes."""

import pytest
import torch
from torch import Tensor

from clof_ext import _backends, ops
from clof_ext.bench.run import threads
from tests.conformance import backends

TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5}
# Rows of the result, runs, window, rows of the table, columns.
SIZES = {
    "published": (900, 4, 7, 300, 288),
    "a wide window": (300, 1, 16, 40, 33),
    "every run at one row": (2500, 2, 3, 3, 5),
    "one number": (1, 1, 1, 1, 1),
    "no rows": (0, 2, 3, 9, 4),
    "no runs": (5, 0, 3, 9, 4),
    "no columns": (5, 2, 3, 9, 0),
}
COMPILED = [parameter for parameter in backends() if parameter.values[0].name == "cpu"]


def tensors(size: str, dtype: torch.dtype) -> tuple[list[Tensor], Tensor]:
    """Table, share and base, which want gradients; first rows."""
    rows, runs, window, height, width = SIZES[size]
    generator = torch.Generator().manual_seed(0)
    shapes = (height, width), (rows, runs, window), (rows, width)
    values = [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in shapes]
    first = torch.randint(height - window + 1, (rows, runs), generator=generator, dtype=torch.int32)
    return [value.requires_grad_() for value in values], first


def results(size: str, dtype: torch.dtype, backend: str, based: bool, relu: bool) -> list[Tensor]:
    """The value and all gradients for a fixed cotangent; by the definition in float64."""
    inputs, first = tensors(size, dtype)
    if backend == "reference":
        inputs = [x.detach().double().requires_grad_() for x in inputs]
    table, share, base = inputs
    out = ops.table_sum(table, first, share, base if based else None, relu=relu, backend=backend)
    cotangent = torch.linspace(1, 9, out.numel(), dtype=torch.float64).sin().reshape(out.shape).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, inputs[: 3 if based else 2], cotangent)]


def assert_agree(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for number, (value, truth) in enumerate(zip(found, expected, strict=True)):
        assert value.shape == truth.shape
        if truth.numel():
            error = float((value.double() - truth).abs().max())
            assert error <= tolerance * max(float(truth.abs().max()), 1.0), f"array {number} is off by {error:.2e}"


@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("based", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size: str, based: bool, dtype: torch.dtype, backend):
    # In float32 a sum near 0 may have either sign, and its positive part another gradient.
    for relu in (False, True) if dtype == torch.float64 else (False,):
        with backend.in_use() as name:
            found = results(size, dtype, name, based, relu)
        assert all(value.dtype == dtype for value in found)
        assert_agree(found, results(size, dtype, "reference", based, relu), TOLERANCE[dtype])


@pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
@pytest.mark.parametrize("relu", [False, True])
def test_derivatives_of_both_orders(relu: bool):
    generator = torch.Generator().manual_seed(0)
    shapes = (6, 3), (4, 2, 3), (4, 3)
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for shape in shapes]
    first = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 2]], dtype=torch.int32)

    def run(table: Tensor, share: Tensor, base: Tensor) -> Tensor:
        return ops.table_sum(table, first, share, base, relu=relu, backend="cpu")

    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)


@pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
def test_the_same_bits_for_any_number_of_threads():
    runs = []
    for count in (1, 2, 2):
        with threads(count):
            runs.append(results("every run at one row", torch.float32, "cpu", True, True))
            runs[-1] += results("published", torch.float32, "cpu", True, True)
    for other in runs[1:]:
        assert all(torch.equal(one, two) for one, two in zip(runs[0], other))


TABLE, FIRST, SHARE = torch.randn(5, 2), torch.zeros(4, 1, dtype=torch.int32), torch.randn(4, 1, 3)
ERRORS = [
    ({"table": TABLE.long()}, TypeError, "table must be float32 or float64"),
    ({"first": FIRST.long()}, TypeError, "first must be int32"),
    ({"first": FIRST + 3}, ValueError, "first must hold numbers from 0 to 2; got 3"),
    ({"first": FIRST - 1}, ValueError, "first must hold numbers from 0 to 2; got -1"),
    ({"share": SHARE[:3]}, ValueError, r"share must have shape \(4, 1, W\)"),
    ({"base": TABLE}, ValueError, r"base must have shape \(4, 2\)"),
    ({"base": torch.randn(4, 2).double()}, TypeError, "base must be float32"),
]


@pytest.mark.parametrize(("change", "error", "text"), ERRORS)
def test_wrong_arguments(change: dict, error: type, text: str):
    with pytest.raises(error, match=text):
        ops.table_sum(**({"table": TABLE, "first": FIRST, "share": SHARE} | change))


@pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")
def test_the_operator_checks_for_itself():
    with pytest.raises(RuntimeError, match="first must hold numbers from 0 to 2; got 3"):
        torch.ops.clof_ext.table_sum(TABLE, FIRST + 3, SHARE, None, False)
