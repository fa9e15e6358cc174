"""How far a variant's prediction and gradients are from those of the eager network in float64."""

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from clof_ext.bench.agreement import Errors, largest_of, relative

from .workload import Workload


@dataclass(frozen=True)
class Results:
    """Predicted displacements, and gradients by name, of one step, in float64."""

    displacement: Tensor
    gradients: dict[str, Tensor]

    def errors(self, truth: "Results") -> Errors:
        """Errors against the truth in all gradients that these results hold."""
        gradients = {name: relative(value, truth.gradients[name]) for name, value in self.gradients.items()}
        return Errors(relative(self.displacement, truth.displacement), largest_of(gradients))


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
