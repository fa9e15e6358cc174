"""An evaluation as JSON, as a table and as pictures."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..training import figure, replace_file
from .evaluate import Evaluation, Result
from .molecule import Molecule
from .rmsd import aligned_heavy

# Column of the table: name of the number, its heading, its factor, decimals.
COLUMNS = (
    ("cov_recall", "COV-R %", 100, 1),
    ("mat_recall", "MAT-R Å", 1, 3),
    ("cov_precision", "COV-P %", 100, 1),
    ("mat_precision", "MAT-P Å", 1, 3),
    ("mmd_single", "MMD single", 1, 3),
    ("mmd_pair", "MMD pair", 1, 3),
    ("mmd_all", "MMD all", 1, 3),
    ("valid", "valid %", 100, 1),
    ("mean_energy", "Δ mean E, eV", 1, 3),
    ("lowest_energy", "Δ lowest E, eV", 1, 3),
    ("mean_gap", "Δ mean gap, eV", 1, 3),
    ("smallest_gap", "Δ smallest gap, eV", 1, 3),
    ("largest_gap", "Δ largest gap, eV", 1, 3),
)
# Molecules in the picture of overlays, and bins of the histogram.
OVERLAYS, BINS = 4, 30
REFERENCE_COLOUR, GENERATED_COLOUR = "0.55", "tab:orange"


def table(evaluation: Evaluation) -> str:
    """Mean / median over molecules of every number, a line a method, in Markdown."""
    summary = evaluation.summary()
    columns = [column for column in COLUMNS if column[0] in next(iter(summary.values()))]
    lines = ["| method | " + " | ".join(heading for _, heading, _, _ in columns) + " |"]
    lines.append("|---" * (len(columns) + 1) + "|")
    for method, numbers in summary.items():
        cells = [
            " / ".join(f"{factor * numbers[name][kind]:.{decimals}f}" for kind in ("mean", "median"))
            for name, _, factor, decimals in columns
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_json(evaluation: Evaluation, settings: dict) -> str:
    """Everything that was measured, for every method and molecule; NaN becomes null."""
    results = {
        name: [{**each.values, "closest": each.closest.tolist()} for each in results]
        for name, results in evaluation.results.items()
    }
    content = {
        **settings,
        "measures": asdict(evaluation.measures),
        "molecules": [molecule.name for molecule in evaluation.molecules],
        "skipped": {entry.name: entry.reason for entry in evaluation.skipped},
        "summary": evaluation.summary(),
        "results": results,
    }
    return json.dumps(_without_nan(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def write_report(evaluation: Evaluation, folder: Path, settings: dict) -> list[Path]:
    """Write ``evaluation.json``, ``table.md``, ``rmsd.png`` and ``overlay.png``; returns their paths.

    Args:
        evaluation: what to write.
        folder: is made where it is missing.
        settings: how the evaluation came to be, kept in the JSON.
    """
    texts = {"evaluation.json": as_json(evaluation, settings), "table.md": table(evaluation) + "\n"}
    for name, text in texts.items():
        replace_file(folder / name, lambda beside, text=text: beside.write_text(text))
    plot_rmsd(evaluation, folder / "rmsd.png")
    plot_overlay(evaluation, folder / "overlay.png")
    return [folder / name for name in (*texts, "rmsd.png", "overlay.png")]


def plot_rmsd(evaluation: Evaluation, path: Path) -> None:
    """Histogram of the smallest RMSD of every reference conformer, one line a method."""
    closest = {name: np.concatenate([each.closest for each in results]) for name, results in evaluation.results.items()}
    edges = np.linspace(0, max(values.max() for values in closest.values()), BINS + 1)
    with figure(path) as (axes,):
        for name, values in closest.items():
            shares = np.histogram(values, edges)[0] / len(values)
            axes.stairs(shares, edges, label=f"{name} (mean {values.mean():.2f} Å)")
        axes.axvline(evaluation.measures.threshold, color="0.3", linestyle=":", label="threshold")
        axes.set(xlabel="RMSD to the closest generated conformer, Å", ylabel="share of reference conformers")
        axes.legend()


def plot_overlay(evaluation: Evaluation, path: Path) -> None:
    """Generated conformers of the first method laid on references, heavy atoms, seen onto their plane.

    Molecules are picked evenly from the best covered to the worst; of each, the reference of median RMSD is shown with
    the generated conformer closest to it.
    """
    method, results = next(iter(evaluation.results.items()))
    order = np.argsort([each.values["mat_recall"] for each in results])
    chosen = np.unique(np.linspace(0, len(order) - 1, OVERLAYS).round().astype(int))
    with figure(path, len(chosen)) as panels:
        for axes, number in zip(panels, order[chosen], strict=True):
            _draw_pair(axes, evaluation.molecules[number], results[number], method)
        panels[0].legend(loc="lower left")


def _draw_pair(axes: Any, molecule: Molecule, result: Result, method: str) -> None:
    pair, rmsd, bonds = aligned_heavy(molecule, *torch.from_numpy(result.pair))
    centred = pair - pair[0].mean(0)
    # The plane in which the reference is widest.
    plane = np.linalg.svd(centred[0])[2][:2]
    styles = (("reference", REFERENCE_COLOUR, 5.0), (method, GENERATED_COLOUR, 2.0))
    for points, (label, colour, width) in zip(centred @ plane.T, styles, strict=True):
        axes.plot(*points[bonds].transpose(2, 1, 0), color=colour, linewidth=width, solid_capstyle="round")
        axes.plot(*points.T, "o", color=colour, markersize=1.6 * width, label=label)
    axes.set_title(f"{molecule.name}\nRMSD {rmsd:.2f} Å; mean of all references {result.values['mat_recall']:.2f} Å")
    axes.title.set_fontsize(9)
    axes.set_aspect("equal", adjustable="datalim")
    axes.set_axis_off()


def _without_nan(value: object) -> object:
    if isinstance(value, dict):
        return {name: _without_nan(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_without_nan(inner) for inner in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
