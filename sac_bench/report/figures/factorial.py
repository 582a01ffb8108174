"""Figures of a factorial design: its effects with their intervals, and the interactions of its factors."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure

from sac_bench.analysis.factorial import Effect, means_at
from sac_bench.report.factorial import called
from sac_bench.report.figures.layout import panel_grid, shared_legend, subplots
from sac_bench.report.figures.style import COLORS, PAGE, Style, wrapped
from sac_bench.results.load import Results

VERDICT_COLORS = {"positive": COLORS[0], "negative": COLORS[3], "undecided": "0.45", "not tested": "0.45"}
LEVELS = ("low", "high")
LINES = ("the title's factor low", "the title's factor high")


def effects(found: Sequence[Effect], results: Results, style: Style = PAGE) -> Figure:
    """Draw the effects on one environment with their 95% intervals, the largest first within each kind."""
    rows = sorted(found, key=lambda one: (len(one.factors), -abs(one.estimate.value)))
    labels = [wrapped(called(one.factors, results.manifest), style.label) for one in rows]
    lines = sum(1.3 + label.count("\n") for label in labels)
    figure, ((axis,),) = subplots(1, 1, (min(style.width, 6.4), style.squeezed(0.19 * lines + 0.8, 0.6)))
    for y, one in enumerate(rows):
        color = VERDICT_COLORS[one.verdict]
        axis.hlines(y, one.estimate.low, one.estimate.high, color=color, linewidth=1.6)
        axis.plot(one.estimate.value, y, "D", color=color, markersize=5, label=one.verdict)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_yticks(range(len(rows)), labels)
    axis.set_ylim(len(rows) - 0.5, -0.5)
    axis.set_xlabel("effect on the score")
    shared_legend(figure, style, list(VERDICT_COLORS))
    return figure


def interactions(results: Results, env: str, pairs: Sequence[tuple[str, str]], style: Style = PAGE) -> Figure:
    """Draw a panel per pair of factors: the mean score at the levels of the first, a line for each of the second."""
    manifest = results.manifest
    figure, axes = panel_grid(len(pairs), style, sharey=True)
    for axis, (a, b) in zip(axes.flat, pairs, strict=False):
        for high, color, dash in ((False, "black", "solid"), (True, COLORS[0], (0, (5, 1.5)))):
            at = [means_at(results, env, {a: level, b: high}) for level in (False, True)]
            spread = [[one.value - one.low for one in at], [one.high - one.value for one in at]]
            axis.errorbar(
                (-0.03, 0.97) if not high else (0.03, 1.03),
                [one.value for one in at],
                yerr=spread,
                color=color,
                linestyle=dash,
                marker="o",
                markersize=4,
                capsize=2,
                label=LINES[high],
            )
        axis.set_xticks((0, 1), LEVELS)
        axis.set_xlim(-0.3, 1.3)
        axis.set_xlabel(called((a,), manifest))
        axis.set_title(f"by {called((b,), manifest)}")
    for axis in axes[:, 0]:
        axis.set_ylabel("mean score")
    shared_legend(figure, style, LINES)
    return figure
