"""Trained models in files."""

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from .files import load, save

KIND = "trained model"


@dataclass(frozen=True)
class TrainedModel:
    """A trained model from a file.

    Attributes:
        config: plain values that say which model it is and how it was trained.
        metrics: of the epoch that the weights are of.
        weights: its state dict.
    """

    config: dict
    metrics: dict
    weights: dict[str, Tensor]


def save_model(path: Path, model: nn.Module, config: dict, metrics: dict) -> None:
    """Write weights, config and metrics to one file; see ``files.save``."""
    save(path, {"config": config, "metrics": metrics, "weights": model.state_dict()}, KIND)


def load_model(path: Path) -> TrainedModel:
    """What ``save_model`` wrote. Raises FileError with a sentence that names the file."""
    return TrainedModel(**load(path, KIND))
