"""How far results may be from those of the eager program in float64."""

from dataclasses import dataclass

import torch
from torch import Tensor

# The largest error that a correct program may have: ten times what rounding gives eager PyTorch in these networks. Of
# halves rounding gives so different errors that only eager's own tells what is right.
TOLERANCE = {torch.float32: 5e-5, torch.float64: 1e-10, torch.bfloat16: 0.0, torch.float16: 0.0}
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
        return largest_of(vars(self))


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


def largest_of(values: dict[str, float]) -> float:
    """The largest error; nan if one is nan, which Python's max may lose."""
    return torch.tensor(list(values.values()), dtype=torch.float64).max().item()
