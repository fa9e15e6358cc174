"""LayerNorm of a sum in CUDA C++ on a GPU: values and gradients, what falls back, repeats, CUDA graphs, layers."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from clof_ext import _backends, nn, ops, prepare_graph
from tests.cuda.emulated_add_layer_norm import random_call
from tests.cuda.test_emulated_add_layer_norm import (
    DTYPES,
    TOLERANCE,
    WIDTHS,
    combinations,
    cotangent_of,
    definition,
    gradients,
    relative_error,
)

MODULE = _backends.binary()
CUDA = MODULE is not None and MODULE.build_info()["cuda"] is not None

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; torch finds none"),
    pytest.mark.skipif(not CUDA, reason="needs the extension built with nvcc"),
]

OPERATORS = torch.ops.clof_ext
# More rows than blocks take at a time.
MANY_ROWS = 52_000


def run(inputs: list[Tensor], times: float) -> list[Tensor]:
    """The value and all gradients on the GPU, by the operators themselves."""
    inputs = [value.cuda() for value in inputs]
    out = OPERATORS.add_layer_norm(*inputs, times, 1e-5)
    grad = cotangent_of(out.shape, out.dtype).cuda()
    return [out, *OPERATORS.add_layer_norm_backward(grad, *inputs[:3], times, 1e-5, True)]


def check(inputs: list[Tensor], times: float) -> None:
    found = run(inputs, times)
    grad = cotangent_of(found[0].shape, found[0].dtype)
    expected = [definition(*inputs, times, 1e-5), *gradients(inputs, grad, times, 1e-5)]
    for number, (value, truth, like) in enumerate(zip(found, expected, (inputs[2], *inputs), strict=True)):
        assert value.dtype == like.dtype
        error = relative_error(value.cpu(), truth, 0.1 * max(len(grad), 1) ** 0.5)
        assert error < TOLERANCE[like.dtype], f"array {number} is off by {error:.1e}"


@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_values_and_gradients(width: int, dtypes: tuple):
    for rows, times in ((0, 1.0), (1, 2.0), (5, -0.5), (300, 2.0), (5000, 1.0)):
        check(random_call(rows, width, dtypes), times)


@pytest.mark.parametrize("width", [33, 64, 768])
def test_many_rows(width: int):
    check(random_call(MANY_ROWS if width < 100 else 5000, width, DTYPES["float32"]), 2.0)


@pytest.mark.parametrize("dtypes", DTYPES.values(), ids=DTYPES)
def test_rows_at_any_address(dtypes: tuple):
    """Columns that are whole vectors, in tensors that do not begin at one."""
    for width in (64, 128, 256):
        inputs = [value.cuda() for value in random_call(50, width, dtypes)]
        expected = OPERATORS.add_layer_norm(*inputs, 2.0, 1e-5)
        for number, value in enumerate(inputs):
            shifted = value.new_zeros(value.numel() + 1)[1:].view(value.shape).copy_(value)
            some = [shifted if k == number else x for k, x in enumerate(inputs)]
            found = OPERATORS.add_layer_norm(*some, 2.0, 1e-5)
            assert relative_error(found, expected.double()) < TOLERANCE[dtypes[-1]]


@pytest.mark.parametrize(("x_dtype", "h_dtype", "parameters", "autocast"), list(combinations()))
def test_dtypes_and_numbers_are_torchs(x_dtype, h_dtype, parameters, autocast: bool):
    """With and without autocast, where the kernels run and where they do not."""
    results = []
    for fused in (True, False):
        leaves = [value.cuda().requires_grad_() for value in random_call(70, 64, (x_dtype, h_dtype, parameters))]
        x, h, weight, bias = leaves
        with torch.autocast("cuda", torch.bfloat16, enabled=autocast):
            if fused:
                out = ops.add_layer_norm(x, h, weight, bias, times=2.0)
            else:
                out = F.layer_norm(torch.add(x, h, alpha=2.0), weight.shape, weight, bias)
        grads = torch.autograd.grad(out, leaves, cotangent_of(out.shape, out.dtype).cuda())
        results.append([out.detach(), *grads])
    tolerance = TOLERANCE[min((x_dtype, h_dtype, parameters), key=lambda dtype: dtype.itemsize)]
    for value, truth in zip(*results, strict=True):
        assert value.dtype == truth.dtype
        assert relative_error(value, truth.double()) < tolerance


def test_what_the_kernels_do_not_hold_is_left_to_torch():
    for width, dtypes in ((769, DTYPES["float32"]), (385, DTYPES["float64"]), (8, (torch.float32, torch.bfloat16) * 2)):
        inputs = [value.cuda() for value in random_call(20, width, dtypes[:3])]
        found, expected = (ops.add_layer_norm(*inputs, backend=backend) for backend in (None, "reference"))
        assert torch.equal(found, expected)
        with pytest.raises(RuntimeError, match=f"'cuda' cannot run add_layer_norm here: .*; got {width} features"):
            ops.add_layer_norm(*inputs, backend="cuda")


def test_derivatives_of_both_orders():
    for times, width in ((0.0, 5), (1.0, 8), (2.0, 8)):
        inputs = [value.cuda().requires_grad_() for value in random_call(3, width, DTYPES["float64"])]

        def call(*x: Tensor, times: float = times) -> Tensor:
            return ops.add_layer_norm(*x, times=times, backend="cuda")

        assert torch.autograd.gradcheck(call, inputs)
        assert torch.autograd.gradgradcheck(call, inputs)


def test_opcheck():
    inputs = [value.cuda().requires_grad_() for value in random_call(30, 64, DTYPES["bfloat16 beside float32"])]
    torch.library.opcheck(OPERATORS.add_layer_norm, (*inputs, 2.0, 1e-5))
    grad = torch.randn(30, 64, device="cuda", requires_grad=True)
    for wanted in (True, False):
        torch.library.opcheck(OPERATORS.add_layer_norm_backward, (grad, *inputs[:3], 2.0, 1e-5, wanted))


def test_in_a_compiled_graph():
    inputs = [value.cuda().requires_grad_() for value in random_call(70, 64, DTYPES["float32"])]

    def call(*x: Tensor) -> Tensor:
        return ops.add_layer_norm(*x, times=2.0).square().sum()

    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    found, expected = (torch.autograd.grad(function(*inputs), inputs) for function in (compiled, call))
    assert all(torch.equal(one, two) for one, two in zip(found, expected, strict=True))


def test_the_same_bits_again():
    inputs = random_call(MANY_ROWS, 64, DTYPES["float32"])
    assert all(torch.equal(one, two) for one, two in zip(run(inputs, 2.0), run(inputs, 2.0), strict=True))


def test_cuda_graphs():
    """Forward and backward are captured, and replayed on new numbers."""
    sample = tuple(value.cuda().requires_grad_() for value in random_call(500, 64, DTYPES["float32"]))

    def call(*leaves: Tensor) -> Tensor:
        return ops.add_layer_norm(*leaves, times=2.0, backend="cuda")

    graphed = torch.cuda.make_graphed_callables(call, sample)
    leaves = [(leaf.detach() * 1.1).requires_grad_() for leaf in sample]
    found = []
    for function in (graphed, call):
        out = function(*leaves)
        grads = torch.autograd.grad(out.square().sum(), leaves)
        # A replay writes over the results of the one before.
        found.append([value.detach().clone() for value in (out, *grads)])
    assert all(torch.equal(one, two) for one, two in zip(*found, strict=True))


def test_a_layer_ends_in_it():
    """One kernel in place of a sum and a LayerNorm; a LayerNorm with a hook is called."""
    nodes = 40
    edge_index = torch.stack((torch.arange(nodes), (torch.arange(nodes) + 1) % nodes)).cuda()
    plan, layer = prepare_graph(edge_index, nodes), nn.FrameConv(64, 64, 0).cuda()
    h, pos = torch.randn(nodes, 64, device="cuda"), torch.randn(nodes, 3, device="cuda")
    called, results = [], []
    for hooked in (False, True):
        if hooked:
            layer.layer_norm.register_forward_hook(lambda *_: called.append(True))
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
            results.append(layer(h, pos, plan)[0])
        names = {event.key for event in profile.key_averages()}
        assert ("clof_ext::add_layer_norm" in names) != hooked
        assert ("aten::native_layer_norm" in names) == hooked
    assert called == [True]
    assert relative_error(results[0].detach(), results[1].detach().double()) < TOLERANCE[torch.float32]
