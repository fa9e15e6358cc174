"""The published layer in PyTorch: eager, under ``torch.compile``, and replaced by clof_ext's."""

from clof_ext.bench import variants
from clof_ext.bench.one_layer import Inputs, Layer

from .program import Program, torch_program


def eager(layer: Layer, inputs: Inputs) -> Program:
    return torch_program(layer, inputs)


def compiled(layer: Layer, inputs: Inputs) -> Program:
    return torch_program(variants.compiled(layer), inputs)


def fused(layer: Layer, inputs: Inputs) -> Program:
    return torch_program(variants.fused(layer), inputs)
