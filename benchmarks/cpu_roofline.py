"""Where the ops lie under the CPU's roofs: arithmetic intensity and rate of each, from two documents of results.

The roofs are measured: the copy of ``bench_geometry`` and the large products of the sweep. Bytes are those that a call
must move (inputs, results and edge numbers once); operations are counted, see ``arithmetic`` and ``flops``.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import StrMethodFormatter

from clof_ext.bench import record
from clof_ext.bench.one_layer import PASSES, Size, make_layer
from clof_ext.bench.timing import MS
from clof_ext.bench.variants import FUSED

from . import arithmetic
from .bench_geometry import COPY, FLOAT, GIGA, INDEX
from .plot import COLOURS, DPI
from .sweep import CLOFNET

# Inches.
WIDTH, HEIGHT = 10, 6.2
BACKWARD = " backward"
GEOMETRY_COLOUR = "#b5651d"
COLUMNS = ("op", "operations / byte", "GFLOP/s", "of the roof", "roof")


@dataclass(frozen=True)
class Roofs:
    """What the machine was seen to do.

    Attributes:
        bandwidth: bytes a second, read and written, of a copy.
        products: operations a second of a large matrix product.
    """

    bandwidth: float
    products: float

    def at(self, intensity: float) -> float:
        """The most operations a second at so many operations per byte."""
        return min(self.bandwidth * intensity, self.products)

    def limit(self, intensity: float) -> str:
        return "copy" if self.bandwidth * intensity < self.products else "matmul"


@dataclass(frozen=True)
class Point:
    """A call.

    Attributes:
        name, label: in the table and in the plot.
        layer: a whole layer, else an op of the geometry.
        backward: the call has a backward pass.
        intensity: operations per byte.
        rate: operations a second.
    """

    name: str
    label: str
    layer: bool
    backward: bool
    intensity: float
    rate: float


def roofs(geometry: dict, sweep: dict) -> Roofs:
    copy = next(row for row in geometry["measurements"] if row["op"] == COPY)
    return Roofs(GIGA * copy["gb_per_s"], sweep["gemm"]["largest"])


def points(geometry: dict, sweep: dict) -> list[Point]:
    """All ops of the geometry, then the ClofNet layer at its centre's size for every H of the sweep."""
    return [*_geometry(geometry), *_layers(sweep)]


def _geometry(document: dict) -> Iterator[Point]:
    settings = document["settings"]
    operations = arithmetic.per_edge(settings["channels"])
    for row in document["measurements"]:
        if row["op"] != COPY:
            flops = operations[row["op"]] * settings["edges"]
            backward = row["op"].endswith(BACKWARD)
            rate = MS * flops / row["median_ms"]
            yield Point(row["op"], row["op"].removesuffix(BACKWARD), False, backward, flops / row["bytes"], rate)


def _layers(document: dict) -> Iterator[Point]:
    for case in document["cases"]:
        size = Size(CLOFNET.network, CLOFNET.nodes, CLOFNET.neighbours, case["hidden"], CLOFNET.edge_dim)
        if any(case[name] != getattr(size, name) for name in ("network", "nodes", "neighbours", "edge_dim", "graph")):
            continue
        for row in case["measurements"]:
            if row["variant"] == FUSED:
                name = f"ClofNet layer, H = {size.hidden}, {row['pass']}"
                intensity = row["flops"] / layer_bytes(size)[row["pass"]]
                yield Point(name, f"H={size.hidden}", True, row["pass"] != "forward", intensity, row["flops_per_s"])


def layer_bytes(size: Size) -> dict[str, int]:
    """Bytes that a layer must move in each pass: edge features and numbers once an edge, the rest once a node.

    A backward pass reads what the forward pass did and the results' gradients, and writes the gradients of h, pos, edge
    features and weights.
    """
    weights = sum(parameter.numel() for parameter in make_layer(size).parameters())
    on_edges, numbers, on_nodes = size.edges * size.edge_dim, 2 * size.edges, size.nodes * (size.hidden + 3)
    inputs = FLOAT * (on_edges + weights + on_nodes + 3 * size.nodes) + INDEX * numbers
    forward = inputs + FLOAT * on_nodes
    backward = inputs + FLOAT * (2 * on_nodes + on_edges + weights)
    return dict(zip(PASSES, (forward, forward + backward), strict=True))


def markdown(geometry: dict, sweep: dict) -> list[str]:
    """Lines of a table with a row for each point."""
    roof = roofs(geometry, sweep)
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + " --- |" * len(COLUMNS)]
    for point in points(geometry, sweep):
        share = f"{point.rate / roof.at(point.intensity):.0%}"
        cells = (point.name, f"{point.intensity:.3g}", f"{point.rate / GIGA:.3g}", share, roof.limit(point.intensity))
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def save(geometry: dict, sweep: dict, path: Path) -> None:
    """Write the plot as a PNG file."""
    draw(geometry, sweep).savefig(path, dpi=DPI)


def draw(geometry: dict, sweep: dict) -> Figure:
    """Rate against operations per byte, both logarithmic, under the two roofs."""
    figure = Figure((WIDTH, HEIGHT), layout="constrained")
    axes, found, roof = figure.subplots(), points(geometry, sweep), roofs(geometry, sweep)
    # Labels of the first points lie left of them.
    ends = 0.3 * min(point.intensity for point in found), 2 * max(point.intensity for point in found)
    _draw_roofs(axes, roof, ends)
    for layer, backward in ((False, False), (False, True), (True, False), (True, True)):
        _draw_points(axes, [point for point in found if (point.layer, point.backward) == (layer, backward)])
    axes.set(xscale="log", yscale="log", xlim=ends)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.set_xlabel("operations per byte that the call must move")
    axes.set_ylabel("GFLOP/s")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(linewidth=0.3)
    axes.legend(loc="lower right", fontsize="small")
    figure.suptitle(record.title(sweep), fontsize="medium")
    return figure


def _draw_roofs(axes: Axes, roof: Roofs, ends: tuple[float, float]) -> None:
    ridge = roof.products / roof.bandwidth
    corners = (ends[0], ridge, ends[1])
    axes.plot(corners, [roof.at(corner) / GIGA for corner in corners], color="black", linewidth=1)
    axes.text(ridge, roof.products / GIGA, f"matmul, {roof.products / GIGA:.0f} GFLOP/s", ha="left", va="bottom")
    start = 1.15 * ends[0]
    axes.text(start, roof.at(start) / GIGA, f"  copy, {roof.bandwidth / GIGA:.0f} GB/s", ha="left", va="top")


def _draw_points(axes: Axes, found: list[Point]) -> None:
    """One kind of points: hollow with a backward pass. Labels of the two kinds lie on opposite sides."""
    first = found[0]
    colour = COLOURS[FUSED] if first.layer else GEOMETRY_COLOUR
    kind = "ClofNet layer" if first.layer else "geometry op"
    label = f"{kind}, {'forward+backward' if first.layer else 'backward'}" if first.backward else f"{kind}, forward"
    face = "white" if first.backward else colour
    coordinates = [point.intensity for point in found], [point.rate / GIGA for point in found]
    axes.plot(*coordinates, "o", color=colour, markerfacecolor=face, label=label)
    left = not first.backward
    style = {"textcoords": "offset points", "fontsize": "x-small", "color": colour}
    style |= {"ha": "right", "va": "bottom"} if left else {"ha": "left", "va": "top"}
    for x, y, point in zip(*coordinates, found, strict=True):
        axes.annotate(point.label, (x, y), (-6, 3) if left else (6, 0), **style)
