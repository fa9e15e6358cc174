"""The plot of a throughput run: times and memory as shares of eager PyTorch's."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from clof_ext.bench import record
from clof_ext.bench.variants import COMPILE, EAGER, FUSED

from .workload import PASSES

COLOURS = {EAGER: "#9aa5b1", COMPILE: "#e0a458", FUSED: "#2a6f97"}
BAR = 0.27
# Inches, for the width of a README.
WIDTH, HEIGHT_OF_CASE, HEIGHT_OF_REST = 10, 0.85, 1.6
DPI = 130
TICKS = 4
# Space behind the longest bar for the text at its end, in its length.
TEXT_SPACE = 1.45


@dataclass(frozen=True)
class Panel:
    """One quantity in one pass: its number in a measurement, its quartiles if it has any, and how it is written."""

    title: str
    key: str
    value: str
    quartiles: tuple[str, str] | None
    text: Callable[[float], str]


PANELS = (
    *(Panel(f"time, {key}", key, "median_ms", ("lower_ms", "upper_ms"), "{:.3g} ms".format) for key in PASSES),
    Panel(
        "peak memory, forward+backward",
        *("forward+backward", "peak_bytes", None),
        lambda value: f"{value / record.MIB:.3g} MiB",
    ),
)


def save(document: dict, sizes: str, path: Path) -> None:
    """Write the document's plot as a PNG file; its title says what was measured."""
    draw(document, sizes).savefig(path, dpi=DPI)


def draw(document: dict, sizes: str) -> Figure:
    """A panel for each quantity, in it a group of bars for each case."""
    cases = document["cases"]
    figure = Figure((WIDTH, HEIGHT_OF_REST + HEIGHT_OF_CASE * len(cases)), layout="constrained")
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, panel in zip(panels, PANELS, strict=True):
        _draw(axes, panel, cases)
    panels[0].set_yticks(range(len(cases)), [_label(case) for case in cases])
    panels[0].invert_yaxis()
    handles = [Patch(color=colour, label=variant) for variant, colour in COLOURS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    figure.suptitle(f"{record.title(document)}\n{sizes}", fontsize="medium")
    return figure


def _draw(axes: Axes, panel: Panel, cases: list[dict]) -> None:
    longest = 1.0
    for number, case in enumerate(cases):
        rows = {row["variant"]: row for row in case["measurements"] if row["pass"] == panel.key}
        unit = rows[EAGER][panel.value]
        for place, variant in enumerate(COLOURS):
            height = number + (place - 1) * BAR
            if variant not in rows:
                axes.text(0, height, " not measured", va="center", fontsize="small", color="gray")
                continue
            longest = max(longest, _bar(axes, panel, rows[variant], unit, height))
    axes.set_xlim(0, TEXT_SPACE * longest)
    axes.axvline(1, color=COLOURS[EAGER], linewidth=0.8, zorder=0)
    axes.xaxis.set_major_locator(MaxNLocator(TICKS, steps=[1, 2, 5, 10]))
    axes.set_title(panel.title, fontsize="medium")
    axes.set_xlabel("share of eager; shorter is better")
    axes.spines[["top", "right"]].set_visible(False)


def _bar(axes: Axes, panel: Panel, row: dict, unit: float, height: float) -> float:
    """Draw a bar with its quartiles and its number; return where it ends."""
    value = row[panel.value]
    axes.barh(height, value / unit, BAR, color=COLOURS[row["variant"]])
    end = value / unit
    if panel.quartiles:
        lower, upper = (row[key] / unit for key in panel.quartiles)
        axes.plot([lower, upper], [height, height], color="black", linewidth=1, marker="|", markersize=5)
        end = upper
    share = "" if row["variant"] == EAGER else f"  (1/{unit / value:.1f})"
    axes.text(end, height, f" {panel.text(value)}{share}", va="center", fontsize="small")
    return end


def _label(case: dict) -> str:
    return f"{case['network']}\n{case['n_systems']} x {case['n_particles']} particles"
