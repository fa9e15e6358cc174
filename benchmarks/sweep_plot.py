"""The plot of a sweep: ratios along each axis, and the rate that each call reaches."""

from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from clof_ext.bench import record
from clof_ext.bench.one_layer import LAYERS, PASSES
from clof_ext.bench.variants import COMPILE, EAGER, FUSED

from .plot import COLOURS, DPI

# Inches.
WIDTH, HEIGHT = 12, 11
TITLES = {"nodes": "nodes", "neighbours": "neighbours", "hidden": "hidden features", "edge_dim": "edge features"}
LINES = {"forward": "-", "forward+backward": "--"}
MARKERS = {"forward": "o", "forward+backward": "^"}
RATIO_TICKS = (0.5, 1, 2, 3, 5, 10, 20)
# Seconds whose lines show how far a call's fixed cost reaches.
FIXED_COSTS = {1e-4: "0.1 ms", 1e-3: "1 ms"}
GIGA = 1e9


def save(document: dict, path: Path) -> None:
    """Write the document's plot as a PNG file."""
    draw(document).savefig(path, dpi=DPI)


def draw(document: dict) -> Figure:
    """A row of ratios for each network, then rates against the work of a call."""
    figure = Figure((WIDTH, HEIGHT), layout="constrained")
    ratios, rates = figure.subfigures(2, 1, height_ratios=(len(LAYERS), 1.5))
    panels = ratios.subplots(len(LAYERS), len(TITLES), sharey="row", squeeze=False)
    for network, row in zip(LAYERS, panels, strict=True):
        for axes, name in zip(row, TITLES, strict=True):
            _draw_ratios(axes, document, network, name)
        row[0].set_ylabel(f"{network}: times faster")
    _draw_rates(rates.subplots(), document)
    figure.suptitle(f"One layer, {document['settings']['dtype']}: {record.title(document)}", fontsize="medium")
    handles, labels = panels[0, 0].get_legend_handles_labels()
    ratios.legend(handles, labels, loc="outside lower center", ncols=len(handles), frameon=False)
    return figure


def _draw_ratios(axes: Axes, document: dict, network: str, name: str) -> None:
    """How many times faster clof_ext is than the other programs; equal steps for the values of the axis."""
    sizes = _axis(document, network, name)
    for other in (EAGER, COMPILE):
        for key in PASSES:
            points = [(place, _ratio(document, size, key, other)) for place, size in enumerate(sizes)]
            known = [(place, ratio) for place, ratio in points if ratio is not None]
            label = f"than {other}, {key}"
            axes.plot(*_columns(known), LINES[key], marker=MARKERS[key], color=COLOURS[other], label=label)
    axes.axhline(1, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_yticks(RATIO_TICKS, [str(tick) for tick in RATIO_TICKS])
    axes.minorticks_off()
    axes.set_xticks(range(len(sizes)), [str(size[name]) for size in sizes])
    axes.set_xlabel(TITLES[name])
    axes.grid(axis="y", linewidth=0.3)


def _axis(document: dict, network: str, name: str) -> list[dict]:
    found = [axis["sizes"] for axis in document["axes"] if axis["name"] == name]
    return next((sizes for sizes in found if sizes[0]["network"] == network), [])


def _ratio(document: dict, size: dict, key: str, other: str) -> float | None:
    case = next(case for case in document["cases"] if size.items() <= case.items())
    medians = {row["variant"]: row["median_ms"] for row in case["measurements"] if row["pass"] == key}
    return medians[other] / medians[FUSED] if other in medians else None


def _columns(points: list[tuple]) -> tuple[list, list]:
    return [x for x, _ in points], [y for _, y in points]


def _draw_rates(axes: Axes, document: dict) -> None:
    """Rate of the products that a call does against their number, under the rate of a large product."""
    largest = document["gemm"]["largest"] / GIGA
    rows = [row for case in document["cases"] for row in case["measurements"]]
    for variant, colour in COLOURS.items():
        for key in PASSES:
            points = [
                (row["flops"] / GIGA, row["flops_per_s"] / GIGA)
                for row in rows
                if (row["variant"], row["pass"]) == (variant, key)
            ]
            label = f"{variant}, {key}"
            axes.plot(*_columns(points), MARKERS[key], color=colour, label=label, alpha=0.8, markersize=5)
    axes.axhline(largest, color="black", linewidth=0.8)
    works = [row["flops"] / GIGA for row in rows]
    axes.text(min(works), largest, f"matmul, {largest:.0f} GFLOP/s", va="bottom", fontsize="small")
    for seconds, label in FIXED_COSTS.items():
        axes.plot([min(works), largest * seconds], [min(works) / seconds, largest], ":", color="gray", linewidth=0.8)
        axes.text(largest * seconds, largest, label, va="bottom", ha="center", fontsize="small", color="gray")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("work of a call: GFLOP of the matrix products that the program does")
    axes.set_ylabel("GFLOP/s")
    axes.legend(fontsize="small", loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
