"""Figures in files."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .extras import extra
from .files import replace_file

# Inches.
PANEL_WIDTH, PANEL_HEIGHT = 5.0, 3.8
DOTS_PER_INCH = 130


@contextmanager
def figure(path: Path, panels: int = 1, **subplot_options: object) -> Iterator[list]:
    """Panels side by side, to draw on inside the ``with``; written to the path at its end.

    Args:
        path: of the picture; its ending names the format.
        panels: number of panels.
        subplot_options: of each panel, as ``projection="3d"``.

    Yields:
        matplotlib's Axes, one for each panel.

    Raises:
        MissingPackageError: matplotlib is not installed.
    """
    with extra("train"):
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    # No pyplot: it would choose a window system and keep every figure.
    drawing = Figure(figsize=(PANEL_WIDTH * panels, PANEL_HEIGHT), layout="constrained")
    FigureCanvasAgg(drawing)
    axes = drawing.subplots(1, panels, squeeze=False, subplot_kw=subplot_options)[0]
    yield list(axes)
    replace_file(Path(path), lambda beside: drawing.savefig(beside, dpi=DOTS_PER_INCH))
