"""Golden arrays: weights, inputs, outputs and gradients of the published layers and networks, in float64."""

import functools
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

HERE = Path(__file__).parent
# The collection beside the repository where it is present, else the copies.
FOLDERS = (HERE.parent.parent / "shared" / "golden", HERE / "golden")

# Largest error in units of the array's largest value; gradients get ten times that.
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5}
# The Gaussian basis was computed in float32.
GAUSSIAN_TOLERANCE = 1e-5
GRADIENT_FACTOR = 10
# Gradients of parameters are kept in float32.
STORAGE_ROUNDING = 2**-24
# Gradients that are 0 in theory, so that only rounding is left: compared absolutely.
ZERO_GRADIENTS = ("fc_key.bias",)


@dataclass(frozen=True)
class Case:
    """One golden file."""

    name: str
    meta: dict
    arrays: dict[str, np.ndarray]

    def group(self, prefix: str, dtype: torch.dtype) -> dict[str, Tensor]:
        """Fresh tensors of all arrays ``prefix/name``; integers stay as they are."""
        chosen = {key: value for key, value in self.arrays.items() if key.startswith(prefix + "/")}
        tensors = {key.removeprefix(prefix + "/"): torch.tensor(value) for key, value in chosen.items()}
        return {key: value.to(dtype) if value.is_floating_point() else value for key, value in tensors.items()}

    def batch(self) -> Tensor:
        """The graph of each node."""
        n_nodes = self.meta["n_nodes"]
        return torch.arange(n_nodes * self.meta["n_graphs"]) // n_nodes

    def tolerance(self, dtype: torch.dtype) -> float:
        gaussian = GAUSSIAN_TOLERANCE if "_gbf" in self.name else 0.0
        return max(TOLERANCE[dtype], gaussian)


@functools.cache
def load(name: str) -> Case:
    path = next(folder / f"{name}.npz" for folder in FOLDERS if (folder / f"{name}.npz").exists())
    with np.load(path) as file:
        arrays = {key: file[key] for key in file.files}
    return Case(name, json.loads(arrays.pop("meta").tobytes()), arrays)


def names(pattern: str) -> list[str]:
    """The cases whose copies lie in the tests."""
    return sorted(path.stem for path in (HERE / "golden").glob(f"{pattern}.npz"))


def differentiable(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.requires_grad_() if value.is_floating_point() else value for name, value in inputs.items()}


def assert_close(actual: Tensor, expected: Tensor, tolerance: float, what: str) -> None:
    """Compare in units of the expected array's largest value."""
    error = (actual.double() - expected.double()).abs().max().item()
    bound = tolerance * expected.double().abs().max().item()
    assert error <= bound, f"{what} is off by {error:.2e}, allowed are {bound:.2e}"


def assert_golden(
    case: Case, module: torch.nn.Module, inputs: dict[str, Tensor], outputs: dict[str, Tensor], dtype: torch.dtype
) -> None:
    """Compare outputs and all gradients that the case holds."""
    tolerance = case.tolerance(dtype)
    expected = case.group("out", torch.float64)
    assert outputs.keys() == expected.keys()
    for name, value in outputs.items():
        assert_close(value, expected[name], tolerance, f"output {name}")
    cotangents = case.group("cotangent", dtype)
    torch.autograd.backward([outputs[name] for name in cotangents], list(cotangents.values()))
    parameters = dict(module.named_parameters())
    for name, gradient in case.group("grad", torch.float64).items():
        is_input = name.startswith("input.")
        tensor = inputs[name.removeprefix("input.")] if is_input else parameters.pop(name)
        if name in ZERO_GRADIENTS:
            assert tensor.grad.abs().max().item() < GRADIENT_FACTOR * tolerance
        else:
            rounding = 0.0 if is_input else STORAGE_ROUNDING
            assert_close(tensor.grad, gradient, GRADIENT_FACTOR * tolerance + rounding, f"gradient of {name}")
    untouched = [name for name, parameter in parameters.items() if parameter.grad is not None and parameter.grad.any()]
    assert not untouched, f"{untouched} have gradients, in the golden arrays they have none"
