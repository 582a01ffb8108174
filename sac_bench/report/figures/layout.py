"""Where panels and the legend of a figure stand. Sizes are in inches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from sac_bench.report.figures.style import Style

MIN_PANEL_HEIGHT = 1.2
"""The least height of a panel."""
LEGIBLE_PANEL_HEIGHT = 1.35
"""The height of a panel down to which a page with many is filled."""
WIDEST = 4.6
"""A panel, if the width of figures is a maximum."""


def panel_grid(
    count: int, style: Style, ratio: float = 0.72, least: float | None = None, **options: Any
) -> tuple[Figure, np.ndarray]:
    """Return a figure and its axes [rows, columns], as many in a row as fit; surplus axes are hidden.

    ratio: a panel's height by its width. least: its least width, by default the style's.
    """
    columns, rows = even_grid(count, panels_in_a_row(style, least))
    width = style.width if style.is_exact else min(style.width, columns * WIDEST + 0.4)
    height = max(MIN_PANEL_HEIGHT, min(ratio * width / columns, max(LEGIBLE_PANEL_HEIGHT, style.tallest / rows)))
    return _grid(count, columns, rows, (width, rows * height), options)


def panels_in_a_row(style: Style, least: float | None = None) -> int:
    """Return how many panels of a least width, by default the style's, fit side by side."""
    return max(1, int(style.width / (least or style.panel) + 1e-9))


def row_panels(count: int, columns: int, rows: int, width: float, height: float) -> tuple[Figure, np.ndarray]:
    """Return a figure of this size and its axes [rows, columns], with shared rows; surplus axes are hidden."""
    return _grid(count, columns, rows, (width, height), {"sharey": True})


def _grid(
    count: int, columns: int, rows: int, size: tuple[float, float], options: Mapping[str, Any]
) -> tuple[Figure, np.ndarray]:
    figure, axes = subplots(rows, columns, size, **options)
    for axis in axes.flat[count:]:
        axis.set_visible(False)
    return figure, axes


def subplots(rows: int, columns: int, size: tuple[float, float], **options: Any) -> tuple[Figure, np.ndarray]:
    """Return a figure of this size in inches and its axes [rows, columns].

    pyplot does not know it, so it opens no window, and the backend that a notebook or program has chosen stays.
    """
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)
    return figure, figure.subplots(rows, columns, squeeze=False, **options)


def even_grid(count: int, most: int) -> tuple[int, int]:
    """Return columns and rows for so many panels, at most `most` in a row: as few rows as fit, about equally full."""
    rows = -(-count // max(1, most))
    return -(-count // rows), rows


def grown(figure: Figure, inches: float) -> None:
    """Make a figure higher, for what stands outside its panels."""
    width, height = figure.get_size_inches()
    figure.set_size_inches(width, height + inches)


class Legend(NamedTuple):
    """The columns of a legend, and its height in inches."""

    columns: int
    inches: float

    @classmethod
    def of(cls, labels: Sequence[str], width: float, style: Style) -> Legend:
        """Return the legend below a figure of this width."""
        em = style.small / 72
        entry = (3.9 + 0.56 * max(map(len, labels))) * em
        columns, rows = even_grid(len(labels), int((width - 0.1) / entry))
        return cls(columns, (1.5 * rows + 0.8) * em)


def shared_legend(figure: Figure, style: Style, names: Mapping[str, str] | Sequence[str]) -> None:
    """Put one legend for all panels below them, in the order of `names`, {label of a line: what to call it} or labels.

    A label that nothing has is left out.
    """
    drawn: dict[str, Any] = {}
    for axis in figure.axes:
        for handle, label in zip(*axis.get_legend_handles_labels(), strict=True):
            drawn.setdefault(label, handle)
    called = dict(names) if isinstance(names, Mapping) else dict(zip(names, names, strict=True))
    labels = [label for label in called if label in drawn]
    if not labels:
        return
    legend = Legend.of([called[label] for label in labels], figure.get_size_inches()[0], style)
    height = figure.get_size_inches()[1]
    most = max(style.page, legend.inches + MIN_PANEL_HEIGHT)  # pages_of leaves all panels a legible height
    grown(figure, min(legend.inches, most - height))
    figure.legend(
        [drawn[label] for label in labels],
        [called[label] for label in labels],
        loc="outside lower center",
        frameon=False,
        ncols=legend.columns,
        handlelength=2.4,
        columnspacing=1.0,
        labelspacing=0.35,
        borderaxespad=0.2,
    )
