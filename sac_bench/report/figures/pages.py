"""How the panels of a figure are split into several figures, each of which fits a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from sac_bench.report.figures.style import LEGIBLE_PANEL_HEIGHT, Legend, Style, even_grid, panels_in_a_row

T = TypeVar("T")


def pages_of(panels: Sequence[T], labels: Sequence[str], style: Style, least: float | None = None) -> list[list[T]]:
    """Return the panels of each figure, for a legend of these labels below each.

    least: a panel's least width, by default the style's. A page has at least one row of panels.
    """
    room = style.page - Legend.of(labels, style.width, style).inches
    return split(panels, room / LEGIBLE_PANEL_HEIGHT, panels_in_a_row(style, least))


def split(panels: Sequence[T], rows: float, columns: int) -> list[list[T]]:
    """Return panels in parts of about equal size, each of at most so many rows and columns."""
    if rows == np.inf:
        return [list(panels)]
    size, _ = even_grid(len(panels), max(1, int(rows)) * max(1, columns))
    return [list(panels[i : i + size]) for i in range(0, len(panels), size)]
