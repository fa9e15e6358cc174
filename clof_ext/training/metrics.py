"""The history of a training as tables and as a plot.

A history is a list of dicts, one for each epoch: epoch, train_loss, valid_loss (None where there was no validation),
learning_rate, seconds.
"""

import csv
import json
from pathlib import Path

from .files import replace_file
from .plot import figure


def best_epoch(history: list[dict]) -> dict | None:
    """The epoch of the lowest validation loss, the first of equals; None before any validation."""
    return min(_validated(history), key=lambda row: row["valid_loss"], default=None)


def write_metrics(folder: Path, history: list[dict]) -> None:
    """Write ``metrics.csv`` and ``metrics.json`` to the folder."""

    def write_csv(path: Path) -> None:
        with open(path, "w", newline="") as file:
            writer = csv.DictWriter(file, history[0])
            writer.writeheader()
            writer.writerows(history)

    replace_file(folder / "metrics.csv", write_csv)
    replace_file(folder / "metrics.json", lambda path: path.write_text(json.dumps(history, indent=1)))


def plot_losses(path: Path, history: list[dict]) -> None:
    """Draw training and validation loss over epochs, with the best validation marked."""
    validated, best = _validated(history), best_epoch(history)
    with figure(path) as (axes,):
        for rows, loss, label in ((history, "train_loss", "training"), (validated, "valid_loss", "validation")):
            axes.semilogy([row["epoch"] for row in rows], [row[loss] for row in rows], label=label)
        axes.plot(best["epoch"], best["valid_loss"], "o", color="black", fillstyle="none", markersize=9)
        axes.set_title(f"lowest validation loss: {best['valid_loss']:.3g} in epoch {best['epoch']}")
        axes.set(xlabel="epoch", ylabel="loss")
        axes.legend()
        axes.grid(alpha=0.3)


def _validated(history: list[dict]) -> list[dict]:
    return [row for row in history if row["valid_loss"] is not None]
