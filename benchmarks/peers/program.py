"""What every peer's builder returns."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from clof_ext.bench.one_layer import PASSES, Inputs, arrays


@dataclass(frozen=True)
class Program:
    """A layer on a batch, ready to run.

    Attributes:
        calls: by pass, those of ``one_layer.PASSES``; a call returns when its work is done.
        arrays: everything the passes compute, by the names of ``found``; None where the formulas are others.
    """

    calls: dict[str, Callable[[], object]]
    arrays: Callable[[], dict[str, Tensor]] | None


def torch_program(layer: nn.Module, inputs: Inputs) -> Program:
    """A module that is called as ``one_layer.Layer`` is."""
    calls = {key: partial(run, layer, inputs) for key, run in PASSES.items()}
    return Program(calls, partial(_torch_arrays, layer, inputs))


def _torch_arrays(layer: nn.Module, inputs: Inputs) -> dict[str, Tensor]:
    with torch.no_grad():
        h, pos = inputs.call(layer)
    return arrays(layer, inputs) | without_gradients(h, pos - inputs.leaves["pos"])


def without_gradients(features: Tensor, displacements: Tensor) -> dict[str, Tensor]:
    """Results of the pass ``forward``, which may be another compiled program than that of ``forward+backward``."""
    return {"features alone": features, "displacements alone": displacements}
