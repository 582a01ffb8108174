"""Intervals of differences against the number of seeds: how each comparison came to be decided."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure

from sac_bench.analysis.claim_words import short_outcome
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import TableDifference
from sac_bench.analysis.verdicts import Verdict
from sac_bench.report.figures.forest import LOOKS as STYLES
from sac_bench.report.figures.layout import LEGIBLE_PANEL_HEIGHT, panel_grid, panels_in_a_row
from sac_bench.report.figures.pages import split
from sac_bench.report.figures.style import PAGE, Style, wrapped
from sac_bench.results.manifest import Manifest

MIN_PANEL_WIDTH = 0.75
"""The least width of a panel as a share of a learning curve's."""


@dataclass(frozen=True)
class Progress:
    """A comparison's verdict in words and its intervals, all divided by `scale`."""

    label: str
    words: str
    verdict: Verdict
    scale: float = 1.0
    margin: float | None = None


def of_differences(differences: Sequence[TableDifference], manifest: Manifest) -> list[Progress]:
    """Return the progress of an experiment's differences from the reference that were tested."""
    several = len({one.env for one in differences}) > 1
    return [
        Progress(
            manifest.label(one.variant) + (f" on {one.env}" if several else ""),
            one.verdict.in_words(short=True),
            one.verdict,
        )
        for one in differences
        if one.verdict.look is not None
    ]


def of_comparisons(comparisons: Sequence[Comparison]) -> list[Progress]:
    """Return the progress of a claim's comparisons that were tested, in gains where these are known."""
    several = len({one.env for one in comparisons}) > 1
    return [
        Progress(
            f"{one.expected} on {one.env}" if several else one.expected,
            short_outcome(one),
            one.verdict,
            scale := one.gain if np.isfinite(one.gain) else 1.0,
            one.margin and one.margin / scale,
        )
        for one in comparisons
        if one.verdict.look is not None
    ]


def pages(progress: Sequence[Progress], style: Style) -> list[list[Progress]]:
    """Return the comparisons of each figure."""
    return split(progress, style.page / LEGIBLE_PANEL_HEIGHT, panels_in_a_row(style, MIN_PANEL_WIDTH * style.panel))


def looks(progress: Sequence[Progress], style: Style = PAGE) -> Figure:
    """Draw a panel per comparison: the difference and its interval at every look, 0 and the margin."""
    figure, axes = panel_grid(len(progress), style, 0.85, least=MIN_PANEL_WIDTH * style.panel)
    for axis, one in zip(axes.flat, progress, strict=False):
        seeds = [look or 0 for look, _ in one.verdict.intervals]
        value, low, high = np.array([estimate for _, estimate in one.verdict.intervals]).T / one.scale
        shown = np.concatenate([value, low[np.isfinite(low)], high[np.isfinite(high)], [0.0]])
        ends = shown.min() - 0.05 * np.ptp(shown), shown.max() + 0.05 * np.ptp(shown)
        color, marker = STYLES.get(one.verdict.word, STYLES["undecided"])
        if one.margin:
            axis.axhspan(-one.margin, one.margin, color="0.9")
        axis.axhline(0, color="black", linewidth=1)
        axis.vlines(seeds, np.maximum(low, ends[0]), np.minimum(high, ends[1]), color="0.35", linewidth=1.2)
        axis.plot(seeds, value, "o", color="0.35", markersize=3.5)
        axis.plot(seeds[-1:], value[-1:], marker, color=color, markersize=6)
        axis.set_xscale("log")
        axis.set_xticks(seeds, [str(n) for n in seeds])
        axis.minorticks_off()
        axis.set_xlim(0.8 * seeds[0], 1.25 * seeds[-1])
        axis.set_ylim(*ends)
        width = int(1.6 * axis.get_window_extent().width / figure.dpi * 72 / style.small)
        axis.set_title(wrapped(one.label, width) + f"\n{textwrap.fill(one.words, width)}", fontsize=style.small)
    figure.supxlabel("seeds per variant", fontsize=style.small)
    figure.supylabel("difference, 95% interval for all looks", fontsize=style.small)
    return figure
