"""Figures of trajectories and predictions."""

from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from ..training import figure
from .dataset import FRAMES_AHEAD, INPUT_FRAME
from .energy import energy
from .systems import TIME_STEP
from .trajectories import Trajectories

COLOURS = {-1: "tab:blue", 0: "tab:green", 1: "tab:red"}
# Systems whose energies are drawn.
DRAWN = 30


def plot_trajectories(path: Path, trajectories: Trajectories) -> None:
    """Paths of the first system's particles, seen along z, and the energies of some systems over time."""
    t = trajectories
    with figure(path, 2) as (paths, energies):
        for particle, charge in enumerate(t.charges[0]):
            _draw_path(paths, t.loc[0, :, particle], charge)
        paths.set(xlabel="x", ylabel="y", title=f"{t.setting.name}, seed {t.parameters.first_seed}; dots: start")
        paths.set_aspect("equal", "datalim")
        values = energy(first_systems(t, DRAWN))
        energies.plot(frame_times(t), (values - values[:, :1]).T, linewidth=0.8)
        energies.set_yscale("symlog", linthresh=0.1)
        energies.set(xlabel="time", ylabel="energy - first energy", title="jumps: close encounters")
        energies.grid(alpha=0.3)


def plot_predictions(path: Path, trajectories: Trajectories, predicted: dict[str, Tensor]) -> None:
    """Paths from input to target of one system, with the predictions; and the distribution of all errors.

    The system is the one whose error is closest to the first network's mean.

    Args:
        path: of the picture.
        trajectories: a set of S systems.
        predicted: by the name of the network, (S, n, 3) positions at the target frame, on the CPU.
    """
    t = trajectories.to("cpu")
    target = INPUT_FRAME + FRAMES_AHEAD
    errors = {name: (pos - t.loc[:, target]).square().mean((1, 2)) for name, pos in predicted.items()}
    first = next(iter(errors.values()))
    system = int((first - first.mean()).abs().argmin())
    with figure(path, 2) as (paths, shares):
        for particle, charge in enumerate(t.charges[system]):
            _draw_path(paths, t.loc[system, INPUT_FRAME : target + 1, particle], charge)
        for (name, pos), marker in zip(predicted.items(), "x+^vs*Dph<>", strict=False):
            paths.plot(*pos[system, :, :2].T, marker, color="black", fillstyle="none", label=name)
        paths.set(xlabel="x", ylabel="y", title=f"a system of mean error; {t.setting.name}; dots: input")
        paths.set_aspect("equal", "datalim")
        paths.legend(fontsize=8)
        for name, values in errors.items():
            share = torch.linspace(0, 1, len(values))
            shares.semilogx(values.sort().values, share, label=f"{name}: {values.mean():.4f}")
        shares.set(xlabel="squared error", ylabel="share of systems below", title="errors; in the legend their mean")
        shares.legend(fontsize=8)
        shares.grid(alpha=0.3)


def plot_rollouts(path: Path, reports: list[dict]) -> None:
    """Errors of rollouts over time: mean with its interval, and median, of each report of ``evaluate_run``."""
    with figure(path) as (axes,):
        for number, report in enumerate(reports):
            colour, rows = f"C{number % 10}", report["rollout"]
            times = [row["frame"] * report["set"]["sample_every"] * TIME_STEP for row in rows]
            axes.fill_between(times, [e["low"] for e in rows], [e["high"] for e in rows], color=colour, alpha=0.2)
            for key, line in (("mean", "o-"), ("median", "s--")):
                axes.semilogy(times, [e[key] for e in rows], line, color=colour, label=f"{report['name']}, {key}")
        axes.set(xlabel="time since the first frame", ylabel="squared error", title="rollout")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)


def first_systems(trajectories: Trajectories, count: int) -> Trajectories:
    """The first systems of a set, at most ``count``."""
    t = trajectories
    count = min(count, len(t.loc))
    return Trajectories(replace(t.parameters, n_systems=count), t.loc[:count], t.vel[:count], t.charges[:count])


def frame_times(trajectories: Trajectories) -> Tensor:
    """Time of each frame since the start of the simulation."""
    frames = torch.arange(trajectories.loc.shape[1])
    return (frames + 1) * trajectories.parameters.sample_every * TIME_STEP


def _draw_path(axes: object, loc: Tensor, charge: Tensor) -> None:
    colour = COLOURS[int(charge)]
    axes.plot(loc[:, 0], loc[:, 1], color=colour, linewidth=1)
    axes.plot(*loc[0, :2], "o", color=colour, markersize=4)
