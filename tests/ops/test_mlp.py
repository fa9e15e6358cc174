"""The compiled perceptron of rows against its definition: values and derivatives, over options, sizes and dtypes."""

from importlib import import_module
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from clof_ext import _backends, ops
from clof_ext._recompute import CHUNK_NUMBERS
from clof_ext.bench.memory import peak_bytes
from clof_ext.bench.run import matmul_precision, threads
from clof_ext.reference.frame_message import ACTIVATIONS
from tests.ops.test_frame_message import EMULATED, INSTRUCTION_SETS, MODULE, selected
from tests.ops.test_matmul_precision import HIGH_TOLERANCE

pytestmark = pytest.mark.skipif(_backends.binary() is None, reason="needs the compiled extension")

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}
# Rows, columns of the inputs, outputs of the Linears: below, at and above registers, tiles and chunks; nothing at all.
SIZES = {
    "one row": (1, (1,), (1,)),
    "odd": (97, (3, 2, 1), (7, 5)),
    "edge features": (1500, (2, 14), (32, 32)),
    "node update": (300, (64, 64, 3), (64, 64)),
    "deep": (100, (9,), (17, 33, 70, 130)),
    "wide": (10, (130,), (200, 3)),
    "no rows": (0, (3,), (4, 2)),
    "an empty input": (20, (0, 5, 0), (6, 2)),
    "no columns": (20, (0,), (6, 2)),
}


def tensors(size: str, dtype: torch.dtype = torch.float64) -> tuple[list[Tensor], list[Tensor]]:
    """Inputs and weights that want gradients."""
    rows, columns, outputs = SIZES[size]
    generator = torch.Generator().manual_seed(0)

    def random(*shape: int, scale: float = 1.0) -> Tensor:
        return (scale * torch.randn(shape, generator=generator, dtype=torch.float64)).to(dtype).requires_grad_()

    weights = []
    for n_in, n_out in pairwise((sum(columns), *outputs)):
        weights += [random(n_out, n_in, scale=max(n_in, 1) ** -0.5), random(n_out, scale=0.3)]
    return [random(rows, width) for width in columns], weights


def results(size: str, dtype: torch.dtype, backend: str, **options) -> list[Tensor]:
    """The value and all gradients for a fixed cotangent; by the definition in float64."""
    inputs, weights = tensors(size, dtype)
    if backend == "reference":
        inputs, weights = ([x.detach().double().requires_grad_() for x in some] for some in (inputs, weights))
    out = ops.mlp(inputs, weights, backend=backend, **options)
    cotangent = torch.linspace(1, 9, out.numel(), dtype=torch.float64).sin().reshape(out.shape).to(dtype).to(out.dtype)
    return [out.detach(), *torch.autograd.grad(out, [*inputs, *weights], cotangent)]


def assert_agree(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    for number, (value, truth) in enumerate(zip(found, expected, strict=True)):
        assert value.shape == truth.shape
        if truth.numel():
            error = float((value.double() - truth).abs().max())
            assert error <= tolerance * max(float(truth.abs().max()), 1e-3), f"array {number} is off by {error:.2e}"


@pytest.fixture(params=INSTRUCTION_SETS + EMULATED)
def instruction_set(request):
    with selected(request.param) as name:
        yield name


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activate_last", [False, True])
@pytest.mark.parametrize("size", SIZES)
def test_values_and_gradients(size: str, activate_last: bool, dtype: torch.dtype, instruction_set: str):
    found, expected = (results(size, dtype, backend, activate_last=activate_last) for backend in ("cpu", "reference"))
    assert all(value.dtype == dtype for value in found)
    assert_agree(found, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str, instruction_set: str):
    for dtype in (torch.float64, torch.float32):
        found, expected = (
            results("odd", dtype, backend, activation=activation, activate_last=True)
            for backend in ("cpu", "reference")
        )
        assert_agree(found, expected, TOLERANCE[dtype])


@pytest.mark.parametrize("size", SIZES)
def test_precision(size: str, instruction_set: str):
    """Products of float32 numbers under torch.set_float32_matmul_precision, as those of frame_message."""
    found = {}
    for precision in ("highest", "high", "medium"):
        with matmul_precision(precision):
            found[precision] = results(size, torch.float32, "cpu")
    unit, (rows, _, outputs) = MODULE.bfloat16_unit(), SIZES[size]
    for precision, rounds in (("high", "tiles" in unit), ("medium", unit != "none")):
        same = all(torch.equal(one, two) for one, two in zip(found[precision], found["highest"], strict=True))
        assert same == (not rounds or rows == 0), precision
    expected = results(size, torch.float32, "reference")
    # The tolerances are for two Linears; each adds its own errors.
    more = max(len(outputs), 2) / 2
    assert_agree(found["high"], expected, more * HIGH_TOLERANCE)
    assert_agree(found["medium"], expected, more * TOLERANCE[torch.bfloat16])


def test_the_backward_pass_takes_the_precision_of_the_forward_pass(instruction_set: str):
    inputs, weights = tensors("node update", torch.float32)
    with matmul_precision("high"):
        out = ops.mlp(inputs, weights, backend="cpu")
        inside = torch.autograd.grad(out.sum(), weights, retain_graph=True)
    outside = torch.autograd.grad(out.sum(), weights)
    assert all(torch.equal(one, two) for one, two in zip(inside, outside, strict=True))


def second_derivatives(
    size: str, dtype: torch.dtype, backend: str, wanted: tuple[bool, ...] | None = None, **options
) -> list[Tensor]:
    """Of a number that gradients by the inputs make, by the cotangent, inputs and weights."""
    inputs, weights = tensors(size, dtype)
    if backend == "reference":
        inputs, weights = ([x.detach().double().requires_grad_() for x in some] for some in (inputs, weights))
    out = ops.mlp(inputs, weights, backend=backend, **options)
    cotangent = torch.linspace(1, 9, out.numel(), dtype=torch.float64).sin().reshape(out.shape).to(dtype).to(out.dtype)
    cotangent.requires_grad_()
    grads = torch.autograd.grad(out, inputs, cotangent, create_graph=True, allow_unused=True, materialize_grads=True)
    chosen = [grad for grad, one in zip(grads, wanted or [True] * len(grads), strict=True) if one]
    number = sum((grad * torch.linspace(-1, 2, grad.numel()).to(grad).reshape(grad.shape)).sum() for grad in chosen)
    variables = [cotangent, *inputs, *weights]
    return list(torch.autograd.grad(number, variables, allow_unused=True, materialize_grads=True))


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("activate_last", [False, True])
@pytest.mark.parametrize("size", [size for size in SIZES if size != "no columns"])
def test_second_derivatives_by_kernels(
    size: str, activate_last: bool, dtype: torch.dtype, instruction_set: str, monkeypatch
):
    expected = second_derivatives(size, dtype, "reference", activate_last=activate_last)
    monkeypatch.setattr(import_module("clof_ext.ops.mlp"), "_by_reference", None)
    found = second_derivatives(size, dtype, "cpu", activate_last=activate_last)
    assert_agree(found, expected, 5 * TOLERANCE[dtype])


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_second_derivatives_of_activations(activation: str, instruction_set: str):
    for dtype in (torch.float64, torch.float32):
        found, expected = (
            second_derivatives("odd", dtype, backend, activation=activation, activate_last=True)
            for backend in ("cpu", "reference")
        )
        assert_agree(found, expected, 5 * TOLERANCE[dtype])


def test_second_derivatives_in_some_directions():
    for wanted in ((True, False, False), (False, True, True)):
        found, expected = (
            second_derivatives("odd", torch.float64, backend, wanted) for backend in ("cpu", "reference")
        )
        assert_agree(found, expected, TOLERANCE[torch.float64])


def test_the_definition_takes_some_rows_at_a_time(monkeypatch):
    """Gradients of weights, whose derivatives kernels do not make."""

    def derivatives() -> list[Tensor]:
        inputs, weights = tensors("odd")
        out = ops.mlp(inputs, weights, backend="cpu")
        cotangent = torch.linspace(1, 9, out.numel()).sin().reshape(out.shape).to(out).requires_grad_()
        grads = torch.autograd.grad(out, weights, cotangent, create_graph=True)
        number = sum(grad.square().sum() for grad in grads)
        return list(torch.autograd.grad(number, [cotangent, *inputs, *weights], materialize_grads=True))

    whole, calls = derivatives(), []
    monkeypatch.setitem(CHUNK_NUMBERS, "cpu", 10)
    module = import_module("clof_ext.ops.mlp")
    plain = module.plain_mlp
    monkeypatch.setattr(module, "plain_mlp", lambda *given: calls.append(given) or plain(*given))
    assert_agree(derivatives(), whole, 1e-12)
    assert len(calls) > 1 and sum(len(inputs[0]) for inputs, *_ in calls) == len(whole[0])


@pytest.mark.parametrize("activate_last", [False, True])
def test_second_derivatives(activate_last: bool):
    inputs, weights = tensors("odd")
    inputs = [x[:3].detach().requires_grad_() for x in inputs]

    def run(*x: Tensor) -> Tensor:
        return ops.mlp(x[: len(inputs)], x[len(inputs) :], activate_last=activate_last, backend="cpu")

    assert torch.autograd.gradcheck(run, (*inputs, *weights))
    assert torch.autograd.gradgradcheck(run, (*inputs, *weights))


def test_operators_are_well_declared():
    inputs, weights = tensors("odd")
    constants = ("silu", True)
    torch.library.opcheck(torch.ops.clof_ext.mlp, (inputs, weights, *constants))
    grad = torch.randn(97, 5, dtype=torch.float64, requires_grad=True)
    for wanted in (True, False):
        torch.library.opcheck(torch.ops.clof_ext.mlp_backward, (grad, inputs, weights, *constants, wanted))
    plain = [[x.detach() for x in some] for some in (inputs, [grad], inputs, weights)]
    double_backward = torch.ops.clof_ext.mlp_double_backward
    torch.library.opcheck(double_backward, (plain[0], plain[1][0], *plain[2:], *constants))
    with pytest.raises(RuntimeError, match="grad_grad_inputs must hold 3 tensors"):
        double_backward(plain[0][:2], plain[1][0], *plain[2:], *constants)


def test_a_result_written_to_rows_of_a_tensor():
    inputs, weights = ([x.detach() for x in some] for some in tensors("odd", torch.float32))
    out = torch.full((200, 5), torch.nan)
    torch.ops.clof_ext.mlp_into(out[4 : 4 + 97], inputs, weights, "silu", True)
    assert torch.equal(out[4:101], torch.ops.clof_ext.mlp(inputs, weights, "silu", True))
    assert out[:4].isnan().all() and out[101:].isnan().all()
    torch.library.opcheck(torch.ops.clof_ext.mlp_into, (out[:97], inputs, weights, "silu", True))


@pytest.mark.parametrize(
    ("out", "text"),
    [
        (torch.empty(97, 4), r"out must have shape \(97, 5\); got \(97, 4\)"),
        (torch.empty(97, 5).double(), "out must be float32; got float64"),
        (torch.empty(5, 97).T, "out must be dense and begin at a multiple of 16 bytes"),
        (torch.empty(486)[1:].view(97, 5), "out must be dense and begin at a multiple of 16 bytes"),
    ],
)
def test_a_result_that_does_not_fit_where_it_should_go(out: Tensor, text: str):
    inputs, weights = ([x.detach() for x in some] for some in tensors("odd", torch.float32))
    with pytest.raises(RuntimeError, match=text):
        torch.ops.clof_ext.mlp_into(out, inputs, weights, "silu", True)


def test_inputs_that_want_no_gradient_cost_none():
    inputs, weights = tensors("edge features", torch.float32)
    plain = [x.detach() for x in inputs]
    found = torch.autograd.grad(ops.mlp(plain, weights).sum(), weights)
    expected = torch.autograd.grad(ops.mlp(inputs, weights).sum(), weights)
    assert all(torch.equal(one, two) for one, two in zip(found, expected))
    # One input alone: the other gradients are computed and dropped.
    one = [inputs[0], plain[1]]
    expected = torch.autograd.grad(ops.mlp(inputs, weights).sum(), inputs[0])
    assert torch.equal(torch.autograd.grad(ops.mlp(one, weights).sum(), inputs[0])[0], expected[0])


def test_the_same_bits_for_any_number_of_threads():
    runs = []
    for count in (1, 2, 2):
        with threads(count):
            inputs, weights = tensors("edge features", torch.float32)
            out = ops.mlp(inputs, weights, backend="cpu")
            runs.append([out.detach(), *torch.autograd.grad(out.square().sum(), [*inputs, *weights])])
    for other in runs[1:]:
        assert all(torch.equal(one, two) for one, two in zip(runs[0], other))


def test_nothing_of_the_size_of_the_hidden_rows_is_allocated():
    rows, hidden = 20_000, 128
    x = torch.randn(rows, 4)
    weights = [torch.randn(shape, requires_grad=True) for shape in ((hidden, 4), (hidden,), (2, hidden), (2,))]
    hidden_bytes = rows * hidden * x.element_size()
    peak = peak_bytes(lambda: ops.mlp([x], weights, backend="cpu").sum().backward(), torch.device("cpu"))
    assert peak < hidden_bytes / 3


def test_under_autocast_the_result_is_half():
    inputs, weights = tensors("edge features", torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out = ops.mlp(inputs, weights)
    assert out.dtype == torch.bfloat16
    assert_agree([out.detach()], [ops.mlp(inputs, weights, backend="reference").detach().double()], 2e-2)


def test_in_a_compiled_graph():
    inputs, weights = tensors("odd", torch.float32)

    def run(*x: Tensor) -> Tensor:
        return ops.mlp(x[:3], x[3:], activate_last=True).square().sum()

    leaves = [*inputs, *weights]
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")
    found, expected = (torch.autograd.grad(function(*leaves), leaves) for function in (compiled, run))
    assert all(float(grad.abs().max()) > 0 for grad in expected)
    assert_agree(list(found), [grad.double() for grad in expected], 1e-5)


X, W, B = torch.randn(4, 3), torch.randn(2, 3), torch.randn(2)
ERRORS = [
    (([], [W, B]), ValueError, "inputs must be 1 to 4 tensors; got 0."),
    (([X, [1.0]], [W, B]), TypeError, r"inputs\[1\]"),
    (([X.long()], [W, B]), TypeError, "must be float32 or .* got int64"),
    (([X, X[:2]], [W, B]), ValueError, r"inputs\[1\] must have shape \(4, D\)"),
    (([X, X.double()], [W, B]), TypeError, r"inputs\[1\] must be float32 like"),
    (([X], [W]), ValueError, "weight and bias of 1 to 4 Linears; got 1 tensors"),
    (([X], []), ValueError, "got 0 tensors"),
    (([X], [W[:, :2], B]), ValueError, r"weights\[0\] must have shape \(out, 3\)"),
    (([X], [W, B[:1]]), ValueError, r"weights\[1\] must have shape \(2\)"),
    (([X], [W, B, W, B]), ValueError, r"weights\[2\] must have shape \(out, 2\)"),
    (([X], [W.double(), B]), TypeError, r"weights\[0\] must be float32"),
]


@pytest.mark.parametrize(("arguments", "error", "text"), ERRORS)
def test_wrong_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        ops.mlp(*arguments)


def test_an_unknown_activation():
    with pytest.raises(ValueError, match="activation must be one of"):
        ops.mlp([X], [W, B], activation="sigmoid")


COMPILED_ERRORS = [
    ([X] * 5, [torch.randn(2, 15), B], "inputs must be 1 to 4"),
    ([X, X[:2]], [torch.randn(2, 6), B], r"each input must have shape \(4, any\)"),
    ([X], [W, B, B], "weights must be the weight and bias"),
    ([X], [W[:, :2], B], r"a weight must have shape \(2, 3\)"),
    ([X], [W, B[:1]], r"a bias must have shape \(2\)"),
    ([X.long()], [W, B], "inputs"),
]


@pytest.mark.parametrize(("inputs", "weights", "text"), COMPILED_ERRORS)
def test_the_operator_checks_for_itself(inputs, weights, text):
    with pytest.raises(RuntimeError, match=text):
        torch.ops.clof_ext.mlp(inputs, weights, "silu", False)


def test_relu_of_infinite_and_undefined_numbers(instruction_set):
    """As torch has it: nothing is left of -inf, which float32 numbers that grow too large become."""
    x = torch.tensor([[-torch.inf, torch.inf, torch.nan, -1.0, 2.0]]).T
    weights = [torch.ones(1, 1), torch.zeros(1)]
    found = ops.mlp([x], weights, activation="relu", activate_last=True)
    torch.testing.assert_close(found, x.relu(), equal_nan=True)
