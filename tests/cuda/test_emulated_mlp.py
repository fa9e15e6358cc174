"""The CUDA kernels of mlp on the emulated GPU, against the reference: values and gradients, over options and sizes."""

import ctypes

import pytest
import torch
from torch import Tensor

from clof_ext.reference import mlp as plain_mlp
from clof_ext.reference.frame_message import ACTIVATIONS
from tests.compiler import COMPILER
from tests.cuda import emulated_mlp
from tests.cuda.emulated_mlp import random_call

pytestmark = pytest.mark.skipif(COMPILER is None, reason="needs a C++ compiler")

# Relative, of norms.
TOLERANCE = {"highest": 3e-6, "high": 2e-3, torch.bfloat16: 1e-2, torch.float16: 2e-3}
KINDS = list(TOLERANCE)
# Rows, columns of the inputs, outputs of the Linears.
NARROW = {
    "node update": (300, (64, 64), (64, 64)),
    "velocity": (17, (64,), (64, 1)),
    "edge features": (300, (2, 14), (32, 32)),
    "one row": (1, (1,), (1,)),
    "one Linear of many inputs": (5, (130, 33, 1, 28), (33,)),
    "three inputs": (16, (64, 64, 64), (64, 7)),
    "three Linears": (150, (7, 5), (33, 64, 3)),
    "four Linears": (130, (12,), (17, 9, 48, 64)),
    "an empty input": (20, (0, 5), (6, 2)),
    "no columns": (300, (0,), (6, 2)),
    "no rows": (0, (3,), (4, 2)),
}
WIDE = {
    "wide": (300, (128, 20), (128, 96)),
    "narrow in the middle": (33, (9,), (96, 1, 128)),
    "four wide Linears": (17, (10, 3), (65, 128, 96, 7)),
}


def relative_error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found.double() - expected).norm() / expected.norm().clamp(min=1e-6)) if expected.numel() else 0.0


class Trial:
    """A call on the emulated GPU beside the definition in float64."""

    def __init__(self, size: tuple, kind, activation: str = "silu", activate_last: bool = False, **launch) -> None:
        dtype, precision = (torch.float32, kind) if isinstance(kind, str) else (kind, "highest")
        self.kind = kind
        self.inputs, self.weights = random_call(*size, dtype)
        self.call = emulated_mlp.Call(self.inputs, self.weights, activation, activate_last, precision, **launch)
        self.leaves = [x.double().requires_grad_() for x in (*self.inputs, *self.weights)]
        count = len(self.inputs)
        self.expected = plain_mlp(self.leaves[:count], self.leaves[count:], activation, activate_last)

    def check_values(self) -> None:
        assert relative_error(self.call.forward(), self.expected.detach()) < TOLERANCE[self.kind]

    def gradients(self, input_gradients: bool = True) -> list[Tensor]:
        numbers = torch.linspace(1, 9, self.expected.numel(), dtype=torch.float64).sin()
        self.cotangent = numbers.reshape(self.expected.shape).to(self.inputs[0].dtype)
        return self.call.backward(self.cotangent, input_gradients=input_gradients)

    def check_gradients(self) -> None:
        found = self.gradients()
        expected = torch.autograd.grad(self.expected, self.leaves, self.cotangent.double(), materialize_grads=True)
        for number, (value, truth) in enumerate(zip(found, expected, strict=True)):
            error = relative_error(value, truth)
            assert error < TOLERANCE[self.kind], f"gradient {number} is off by {error:.1e}"


@pytest.mark.parametrize(("blocks", "descending"), [(1, True), (3, False)])
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size", NARROW)
def test_values_and_gradients(size: str, kind, blocks: int, descending: bool):
    trial = Trial(NARROW[size], kind, activate_last=descending, blocks=blocks, descending=descending)
    trial.check_values()
    trial.check_gradients()


@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("size", WIDE)
def test_wide_values(size: str, kind):
    Trial(WIDE[size], kind, activate_last=True, descending=True).check_values()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations(activation: str):
    # Of rounded numbers a kink may be found on its other side.
    kinds = ["highest"] if "relu" in activation else ["highest", torch.bfloat16]
    for kind in kinds:
        trial = Trial((40, (7, 5), (33, 20)), kind, activation, activate_last=True)
        trial.check_values()
        trial.check_gradients()


def test_gradients_of_weights_alone():
    size = NARROW["node update"]
    alone, every = Trial(size, "highest").gradients(input_gradients=False), Trial(size, "highest").gradients()
    assert all(torch.equal(one, two) for one, two in zip(alone, every[2:], strict=True))


@pytest.mark.parametrize("rows", [1, 5, 16, 17, 300])
def test_rows_by_blocks_in_either_order(rows: int):
    """Of three blocks the last may end early; the order of warps changes nothing."""
    size = rows, (3, 4), (7, 64)
    found = []
    for blocks, descending in ((1, False), (3, False), (3, True)):
        trial = Trial(size, "highest", blocks=blocks, descending=descending)
        trial.check_values()
        trial.check_gradients()
        found.append(trial.gradients())
    assert all(torch.equal(one, two) for one, two in zip(found[1], found[2], strict=True))


def test_what_fits_into_shared_memory():
    """The sizes that matter fit: 227 KiB of a block on an H100, 163 KiB on an A100."""

    def shared(columns: tuple, outputs: tuple, *, backward: bool, dtype: torch.dtype = torch.float32) -> int:
        call = emulated_mlp.Call(*random_call(1, columns, outputs, dtype), "silu", False, "highest")
        call.problem.input_gradients = True
        return emulated_mlp.library().emulated_mlp_shared(ctypes.byref(call.problem), backward)

    for columns, outputs in (((64, 64), (64, 64)), ((64,), (64, 1)), ((2, 14), (32, 32))):
        assert shared(columns, outputs, backward=True) <= 163 << 10
        # Two blocks on each multiprocessor.
        assert shared(columns, outputs, backward=False) <= 80 << 10
    assert shared((64, 64, 64), (64, 64), backward=True) <= 227 << 10
    assert shared((128, 128), (128, 128), backward=False) <= 227 << 10
