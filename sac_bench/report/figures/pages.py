"""How a figure is split into several, each of which fits a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

from sac_bench.report.figures.layout import LEGIBLE_PANEL_HEIGHT, Legend, even_grid, panels_in_a_row
from sac_bench.report.figures.style import Style

T = TypeVar("T")


def pages_of(
    panels: Sequence[T], labels: Callable[[Sequence[T]], Sequence[str]], style: Style, least: float | None = None
) -> list[list[T]]:
    """Return the panels of each figure. `labels` returns what a figure's legend lists, given its panels.

    least: a panel's least width, by default the style's. A figure has at least one panel.
    """
    columns = panels_in_a_row(style, least)

    def fits(part: Sequence[T]) -> bool:
        _, rows = even_grid(len(part), columns)
        return Legend.of(labels(part), style.width, style).inches + rows * LEGIBLE_PANEL_HEIGHT <= style.page

    return parts_that_fit(panels, fits)


def parts_that_fit(items: Sequence[T], fits: Callable[[Sequence[T]], bool]) -> list[list[T]]:
    """Return items in few parts of about equal size, so that each part fits or is a single item."""
    counts = range(1, len(items) + 1)
    return next((parts for count in counts if all(map(fits, parts := in_parts(items, count)))), [[i] for i in items])


def in_parts(items: Sequence[T], count: int) -> list[list[T]]:
    """Return items in at most so many parts of about equal size, in their order."""
    size = max(1, -(-len(items) // count))
    return [list(items[i : i + size]) for i in range(0, len(items), size)]


def split(panels: Sequence[T], rows: float, columns: int) -> list[list[T]]:
    """Return panels in parts of about equal size, each of at most so many rows and columns."""
    if rows == np.inf:
        return [list(panels)]
    return in_parts(panels, -(-len(panels) // (max(1, int(rows)) * max(1, columns))))
