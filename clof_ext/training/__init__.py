"""What the two tasks share: files, checkpoints, the training loop, several processes, plots."""

from .checkpoint import TrainedModel, load_model, save_model
from .distributed import Processes, check_device, processes
from .errors import ExplainedError, FileError, MissingPackageError, OptionError, TrainingError
from .extras import extra
from .files import load, replace_file, save
from .metrics import best_epoch
from .plot import figure
from .trainer import Task, Trainer

__all__ = [
    "ExplainedError",
    "FileError",
    "MissingPackageError",
    "OptionError",
    "Processes",
    "Task",
    "TrainedModel",
    "Trainer",
    "TrainingError",
    "best_epoch",
    "check_device",
    "extra",
    "figure",
    "load",
    "load_model",
    "processes",
    "replace_file",
    "save",
    "save_model",
]
