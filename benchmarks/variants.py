"""The programs that are compared: one network with the same weights, run in three ways."""

import copy

import torch

import clof_ext

from .workload import Predictor


def eager(predictor: Predictor) -> Predictor:
    return predictor


def compiled(predictor: Predictor) -> Predictor:
    """A copy under ``torch.compile`` with its default settings; compiling happens in the first calls."""
    # What was compiled for another case would make the shapes of this one dynamic.
    torch.compiler.reset()
    predictor = copy.deepcopy(predictor)
    predictor.compile()
    return predictor


def fused(predictor: Predictor) -> Predictor:
    """A copy whose layers were replaced.

    Raises:
        RuntimeError: a layer was not replaced.
    """
    predictor = copy.deepcopy(predictor)
    report = clof_ext.replace_layers(predictor)
    if report.left or not report.replaced:
        raise RuntimeError(f"replace_layers left layers of the published network as they were.\n{report}")
    return predictor


EAGER, COMPILE, FUSED = "eager", "torch.compile", "clof_ext"
VARIANTS = {EAGER: eager, COMPILE: compiled, FUSED: fused}
