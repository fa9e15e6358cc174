"""How far a variant's prediction and gradients are from those of the eager network in float64."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .workload import Workload

# The largest error that a correct program may have: ten times what rounding gives eager PyTorch in these networks.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-10}
ROUNDING_FACTOR = 2


class DisagreementError(RuntimeError):
    """A variant computes something else than the network that it stands for."""


@dataclass(frozen=True)
class Errors:
    """Largest relative errors, |a - b| / |b| in the Euclidean norm of a tensor, b in float64.

    Attributes:
        outputs: of the predicted displacements: against positions, which the network hardly moves, all errors vanish.
        gradients: of the loss in every weight and, where they were asked for, in every input.
    """

    outputs: float
    gradients: float

    @property
    def largest(self) -> float:
        return max(self.outputs, self.gradients)


@dataclass(frozen=True)
class Results:
    """Predicted displacements, and gradients by name, of one step, in float64."""

    displacement: Tensor
    gradients: dict[str, Tensor]

    def errors(self, truth: "Results") -> Errors:
        """Errors against the truth in all gradients that these results hold."""
        gradients = [relative(value, truth.gradients[name]) for name, value in self.gradients.items()]
        # Unlike max, torch's maximum of anything and nan is nan.
        return Errors(relative(self.displacement, truth.displacement), torch.tensor(gradients).max().item())


def results(workload: Workload, predictor: nn.Module, *, of_inputs: bool = True) -> Results:
    """Displacements and gradients of one step.

    Args:
        of_inputs: differentiate by the inputs, too.
    """
    inputs = {name: value.clone().requires_grad_(of_inputs) for name, value in workload.inputs.items()}
    wanted = dict(predictor.named_parameters()) | (inputs if of_inputs else {})
    prediction = workload.predict(predictor, inputs)
    # Some weights of the last layer do nothing.
    gradients = torch.autograd.grad(
        workload.loss(prediction), list(wanted.values()), allow_unused=True, materialize_grads=True
    )
    displacement = (prediction - inputs["x"]).detach().double()
    return Results(displacement, {name: value.double() for name, value in zip(wanted, gradients, strict=True)})


def exact_results(workload: Workload, eager: nn.Module) -> Results:
    """What the eager network gives in float64 for the same weights and inputs."""
    return results(workload.in_float64(), copy.deepcopy(eager).double())


def check(errors: Errors, eager: Errors, dtype: torch.dtype, name: str) -> None:
    """Raise DisagreementError if an error is no number or above what is allowed.

    That is the tolerance of the dtype or, where rounding takes eager PyTorch itself further from float64, twice its
    error: gradients that are small differences of large numbers.
    """
    for kind in ("outputs", "gradients"):
        error, allowed = getattr(errors, kind), max(TOLERANCE[dtype], ROUNDING_FACTOR * getattr(eager, kind))
        # Written so that nan fails.
        if not error <= allowed:
            raise DisagreementError(
                f"{name} does not agree with the published network: relative to eager PyTorch in float64, the error of "
                f"its {kind} is {error:.1e}; allowed is {allowed:.1e}."
            )


def relative(value: Tensor, exact: Tensor) -> float:
    """|value - exact| / |exact| in the Euclidean norm; the plain difference where exact is 0."""
    difference, size = (value - exact).norm(), exact.norm()
    return (difference / size if size else difference).item()
