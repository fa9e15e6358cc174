"""What the two tasks share: files, checkpoints, the training loop, several processes, plots."""

from .checkpoint import TrainedModel, load_model, save_model
from .distributed import Processes, processes
from .extras import MissingPackageError, extra
from .files import FileError, load, replace_file, save
from .plot import figure
from .trainer import Task, Trainer, TrainingError

__all__ = [
    "FileError",
    "MissingPackageError",
    "Processes",
    "Task",
    "TrainedModel",
    "Trainer",
    "TrainingError",
    "extra",
    "figure",
    "load",
    "load_model",
    "processes",
    "replace_file",
    "save",
    "save_model",
]
