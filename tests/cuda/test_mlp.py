"""The perceptron of rows in CUDA C++ on a GPU: values and gradients, what falls back, repeats, CUDA graphs."""

import pytest
import torch
from torch import Tensor

from clof_ext import _backends, ops
from clof_ext.reference.frame_message import ACTIVATIONS
from tests.cuda.test_emulated_mlp import KINDS, NARROW, TOLERANCE, WIDE, random_call, relative_error

MODULE = _backends.binary()
CUDA = MODULE is not None and MODULE.build_info()["cuda"] is not None

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none"),
    pytest.mark.skipif(not CUDA, reason="needs the extension built with nvcc"),
]

MANY_ROWS = (200_000, (2, 14), (32, 32))


def cotangent_of(out: Tensor) -> Tensor:
    return torch.linspace(1, 9, out.numel(), dtype=torch.float64).sin().reshape(out.shape)


def run(size: tuple, dtype: torch.dtype, backend: str | None, **options) -> list[Tensor]:
    """The value and all gradients on the GPU; by the definition in float64."""
    inputs, weights = random_call(*size, dtype)
    number = torch.float64 if backend == "reference" else dtype
    inputs, weights = ([x.to("cuda", number).requires_grad_() for x in some] for some in (inputs, weights))
    out = ops.mlp(inputs, weights, backend=backend, **options)
    cotangent = cotangent_of(out).to(dtype).to(out)
    return [out.detach(), *torch.autograd.grad(out, [*inputs, *weights], cotangent)]


def check(size: tuple, kind, precision, **options) -> None:
    rounded = isinstance(kind, str)
    precision(kind if rounded else "highest")
    dtype = torch.float32 if rounded else kind
    found, expected = (run(size, dtype, backend, **options) for backend in ("cuda", "reference"))
    for number, (value, truth) in enumerate(zip(found, expected, strict=True)):
        error = relative_error(value, truth)
        assert error < TOLERANCE[kind], f"array {number} is off by {error:.1e}"


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size", NARROW)
def test_values_and_gradients(size: str, kind, precision):
    _, inputs, outputs = NARROW[size]
    reason = MODULE.mlp_limit("float32" if isinstance(kind, str) else str(kind)[6:], inputs, outputs, True)
    if reason:
        pytest.skip(f"on this GPU {reason}")
    for activate_last in (False, True):
        check(NARROW[size], kind, precision, activate_last=activate_last)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_more_rows_than_fit_at_a_time(kind, precision):
    check(MANY_ROWS, kind, precision, activate_last=True)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str, precision):
    check((40, (7, 5), (33, 20)), "highest", precision, activation=activation, activate_last=True)


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size", WIDE)
def test_wide_values(size: str, kind, precision):
    rounded = isinstance(kind, str)
    precision(kind if rounded else "highest")
    inputs, weights = random_call(*WIDE[size], torch.float32 if rounded else kind)
    found = ops.mlp([x.cuda() for x in inputs], [x.cuda() for x in weights], backend="cuda")
    expected = ops.mlp([x.double() for x in inputs], [x.double() for x in weights], backend="reference")
    assert relative_error(found.cpu(), expected) < TOLERANCE[kind]


def test_what_is_too_large_is_left_to_the_reference(recwarn):
    for dtype, outputs in ((torch.float64, (8, 8)), (torch.float32, (129, 8)), (torch.float32, (96, 96))):
        size = 20, (4, 3), outputs
        found, expected = run(size, dtype, None), run(size, dtype, "reference")
        assert all(relative_error(one, two) < 1e-3 for one, two in zip(found, expected))
        with pytest.raises(RuntimeError, match="'cuda' cannot run mlp here: .*; got 7 -> "):
            run(size, dtype, "cuda")
    assert not [
        warning for warning in recwarn.list if "clof_ext" in str(warning.message) or "mlp" in str(warning.message)
    ]


def test_rows_at_any_address(precision):
    """Columns that are whole vectors, in tensors that do not begin at one."""
    precision("highest")
    inputs, weights = random_call(50, (8,), (64, 8), torch.float32)
    shifted = torch.zeros(50 * 8 + 1, device="cuda")[1:].view(50, 8).copy_(inputs[0])
    weights = [x.cuda() for x in weights]
    found, expected = (ops.mlp([x], weights, backend="cuda") for x in (shifted, inputs[0].cuda()))
    assert torch.equal(found, expected)


def test_the_same_bits_again():
    first, again = (run(MANY_ROWS, torch.float32, "cuda") for _ in range(2))
    assert all(torch.equal(one, two) for one, two in zip(first, again))


def test_cuda_graphs():
    """Forward and backward are captured, and replayed on new numbers."""
    inputs, weights = random_call(500, (64, 64), (64, 64), torch.float32)
    sample = tuple(x.cuda().requires_grad_() for x in (*inputs, *weights))

    def call(*leaves: Tensor) -> Tensor:
        return ops.mlp(leaves[:2], leaves[2:], backend="cuda")

    graphed = torch.cuda.make_graphed_callables(call, sample)
    leaves = [(leaf.detach() * 1.1).requires_grad_() for leaf in sample]
    found = []
    for function in (graphed, call):
        out = function(*leaves)
        grads = torch.autograd.grad(out.square().sum(), leaves)
        # A replay writes over the results of the one before.
        found.append([value.detach().clone() for value in (out, *grads)])
    assert all(torch.equal(one, two) for one, two in zip(*found))


def test_opcheck():
    inputs, weights = random_call(30, (7, 5), (33, 20), torch.float32)
    inputs, weights = ([x.cuda().requires_grad_() for x in some] for some in (inputs, weights))
    torch.library.opcheck(torch.ops.clof_ext.mlp, (inputs, weights, "silu", True, "high"))
