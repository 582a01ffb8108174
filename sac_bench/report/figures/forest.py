"""Forest plots: differences from the reference, and a claim's comparisons, with their intervals and verdicts."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.analysis.claim_words import short_outcome
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import words_of
from sac_bench.analysis.statistics import Estimate
from sac_bench.report.figures.style import PALETTE

LOOKS = {
    "better": (PALETTE[0], "^"),
    "worse": (PALETTE[3], "v"),
    "equivalent": (PALETTE[2], "s"),
    "undecided": ("0.35", "o"),
    "": ("0.35", "o"),
    "as claimed": (PALETTE[0], "D"),
    "against the claim": (PALETTE[3], "X"),
    "no word": ("0.35", "o"),
}
"""Colour and marker of each verdict and outcome. Markers distinguish them without colours."""
AXIS_MARGIN = 1.3
"""Intervals are cut where they extend beyond the differences by this multiple of their span."""


def forest(final: pd.DataFrame, envs: Sequence[str], variants: Sequence[str], reference: str) -> Figure:
    """Draw differences, 95% intervals and verdicts: one panel per environment, one row per variant."""
    columns = min(2, len(envs))
    panels = -(-len(envs) // columns)
    size = (5.4 * columns, (0.3 * len(variants) + 1.0) * panels)
    figure, axes = plt.subplots(panels, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, env in zip(axes.flat, envs, strict=False):
        of_env = final[final["env"] == env]
        rows = of_env.set_index("variant").loc[list(variants)]
        low, high = _ends(rows[["difference", "difference_ci_low", "difference_ci_high"]].to_numpy(dtype=float))
        for y, row in enumerate(rows.to_dict("records")):
            interval = Estimate(row["difference"], row["difference_ci_low"], row["difference_ci_high"])
            _draw(axis, y, interval, (low, high), _row_text(row), *LOOKS[row["verdict"]])
        axis.axvline(0, color="black", linewidth=1)
        label = f"score{_at(of_env)} minus that of {reference}, 95% interval"
        axis.set(title=env, xlim=(low, high), xlabel=label)
        axis.grid(visible=False, axis="y")
        axis.set_yticks(range(len(variants)), variants)
        axis.tick_params(labelleft=True)
        axis.set_ylim(len(variants) - 0.5, -0.5)
    for axis in axes.flat[len(envs) :]:
        axis.set_visible(False)
    return figure


def claim_forest(comparisons: Sequence[Comparison]) -> Figure:
    """Draw a claim's comparisons, 95% intervals, margins and outcomes: one panel per unit, one row per comparison."""
    units: dict[str, list[Comparison]] = {}
    for one in comparisons:
        units.setdefault("gains of the reference over a random policy" if one.in_gains else one.label, []).append(one)
    several = len({one.env for one in comparisons}) > 1
    labels = {id(one): _label(one, several) for one in comparisons}
    lines = [line for label in labels.values() for line in label.split("\n")]
    row = 0.24 + 0.14 * max(label.count("\n") for label in labels.values())
    heights = [len(rows) * row + 0.9 for rows in units.values()]
    size = (5.4 + 0.085 * max(map(len, lines)), sum(heights))
    figure, axes = plt.subplots(len(units), 1, figsize=size, squeeze=False, height_ratios=heights, layout="constrained")
    for axis, (unit, rows) in zip(axes.flat, units.items(), strict=True):
        margins = [
            (0.0, sign * one.margin / one.gain, sign * one.margin / one.gain)
            for one in rows
            if one.margin
            for sign in (-1, 1)
        ]
        limits = _ends(np.array([*(one.normalised for one in rows), *margins]), 4 * AXIS_MARGIN)
        for y, one in enumerate(rows):
            if one.margin:
                axis.fill_betweenx([y - 0.4, y + 0.4], -one.margin / one.gain, one.margin / one.gain, color="0.88")
            _draw(axis, y, one.normalised, limits, short_outcome(one), *LOOKS[one.outcome])
        axis.axvline(0, color="black", linewidth=1)
        axis.set(xlim=limits, xlabel=textwrap.fill(f"a - b, {unit}, 95% interval", 64))
        axis.grid(visible=False, axis="y")
        axis.set_yticks(range(len(rows)), [labels[id(one)] for one in rows])
        axis.set_ylim(len(rows) - 0.5, -0.5)
    return figure


def _at(of_env: pd.DataFrame) -> str:
    """Return " at 30,000 steps" if variants were trained to different steps, else ""."""
    trained = set(of_env.get("steps", ()))
    return f" at {of_env['scored_at'].iloc[0]:,} steps" if len(trained) > 1 else ""


def _label(one: Comparison, with_env: bool) -> str:
    """Return what was expected, on two lines if it is long, and the environment."""
    a, relation, b = one.expected.split(" ", 2)
    text = one.expected if len(one.expected) <= 36 else f"{a}\n{relation} {b}"
    return text + (f"\n{one.env}" if with_env else "")


def _draw(
    axis: Axes, y: float, interval: Estimate, limits: tuple[float, float], text: str, color: str, marker: str
) -> None:
    """Draw a row: its text right of the axis, and the interval, with arrows where it continues beyond the axis."""
    axis.text(1.02, y, text, transform=axis.get_yaxis_transform(), va="center", fontsize=8)
    if pd.isna(interval.value):
        return
    low, high = limits
    ends = interval.low, interval.high
    axis.plot(np.clip(ends, low, high), [y, y], color=color, linewidth=1.8, solid_capstyle="butt")
    for end, beyond, arrow in ((low, ends[0] < low, "<"), (high, ends[1] > high, ">")):
        if beyond:
            axis.plot(end, y, arrow, color=color, markersize=5, clip_on=False)
    axis.plot(
        interval.value, y, marker, color=color, markerfacecolor=color if marker != "o" else "white", markersize=6.5
    )


def _ends(intervals: np.ndarray, room: float = AXIS_MARGIN) -> tuple[float, float]:
    """Return the ends of an axis for intervals [R, (value, low, high)]: it contains 0, all values and what is near."""
    shown = np.append(intervals[:, 0][np.isfinite(intervals[:, 0])], 0.0)
    beyond = room * (np.ptp(shown) or 1.0)
    low, high = np.nanmin(np.append(intervals[:, 1], shown.min())), np.nanmax(np.append(intervals[:, 2], shown.max()))
    low, high = max(low, shown.min() - beyond), min(high, shown.max() + beyond)
    margin = 0.04 * ((high - low) or 1.0)
    return float(low - margin), float(high + margin)


def _row_text(row: Mapping[Any, Any]) -> str:
    """Return a row's verdict, and which of its runs did not finish."""
    if pd.isna(row["difference"]):
        return "no seeds to compare"
    text = words_of(row, short=True) or f"no verdict: {row['no_verdict']}"
    return text + (f"; {row['ended_otherwise']}" if row["ended_otherwise"] else "")
