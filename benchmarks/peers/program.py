"""What every peer's builder returns."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from clof_ext.bench.one_layer import PASSES, Inputs, arrays, outputs_alone


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
    return arrays(layer, inputs) | outputs_alone(layer, inputs)
