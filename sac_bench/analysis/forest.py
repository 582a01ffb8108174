"""The forest plot: differences from the reference with their intervals and verdicts."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sac_bench.analysis.differences import in_words
from sac_bench.analysis.figures import PALETTE

LOOKS = {"better": (PALETTE[0], "^"), "worse": (PALETTE[3], "v"), "equivalent": (PALETTE[2], "s"),
         "undecided": ("0.35", "o"), "": ("0.35", "o")}  # fmt: skip
"""Colour and marker of a verdict: told apart without colours too."""
ROOM = 1.3
"""Intervals are cut at this many times the span of the differences beyond it."""


def forest(final: pd.DataFrame, about: dict[str, Any]) -> Figure:
    """A panel an environment, a row a variant: difference from the reference, 95% interval, verdict."""
    envs, variants = about["envs"], [name for name in about["variants"] if name != about["reference"]]
    columns = min(2, len(envs))
    panels = -(-len(envs) // columns)
    size = (5.4 * columns, (0.3 * len(variants) + 1.0) * panels)
    figure, axes = plt.subplots(panels, columns, figsize=size, sharey=True, squeeze=False, layout="constrained")
    for axis, env in zip(axes.flat, envs, strict=False):
        rows = final[final["env"] == env].set_index("variant").loc[variants]
        low, high = _ends(rows)
        for y, row in enumerate(rows.to_dict("records")):
            axis.text(1.02, y, _said(row), transform=axis.get_yaxis_transform(), va="center", fontsize=8)
            if pd.isna(row["difference"]):
                continue
            color, marker = LOOKS[row["verdict"]]
            ends = row["difference_ci_low"], row["difference_ci_high"]
            axis.plot(np.clip(ends, low, high), [y, y], color=color, linewidth=1.8, solid_capstyle="butt")
            for end, beyond, arrow in ((low, ends[0] < low, "<"), (high, ends[1] > high, ">")):
                if beyond:
                    axis.plot(end, y, arrow, color=color, markersize=5, clip_on=False)
            filled = "white" if row["verdict"] in ("undecided", "") else color
            axis.plot(row["difference"], y, marker, color=color, markerfacecolor=filled, markersize=6.5)
        axis.axvline(0, color="black", linewidth=1)
        axis.set(title=env, xlim=(low, high), xlabel=f"score less that of {about['reference']}, 95% interval")
        axis.grid(visible=False, axis="y")
        axis.set_yticks(range(len(variants)), variants)
        axis.tick_params(labelleft=True)
        axis.set_ylim(len(variants) - 0.5, -0.5)
    for axis in axes.flat[len(envs) :]:
        axis.set_visible(False)
    return figure


def _ends(rows: pd.DataFrame) -> tuple[float, float]:
    """Of the axis: all differences and 0 are in it, and of the intervals what lies not too far beyond."""
    shown = np.append(rows["difference"].dropna(), 0.0)
    beyond = ROOM * (np.ptp(shown) or 1.0)
    low = np.nanmin(np.append(rows["difference_ci_low"], shown.min()))
    high = np.nanmax(np.append(rows["difference_ci_high"], shown.max()))
    low, high = max(low, shown.min() - beyond), min(high, shown.max() + beyond)
    margin = 0.04 * ((high - low) or 1.0)
    return float(low - margin), float(high + margin)


def _said(row: dict[str, Any]) -> str:
    if pd.isna(row["difference"]):
        return "no seeds to compare"
    said = in_words(row).replace(" a side would decide", "") or f"no verdict: {row['seeds']} seeds"
    return said + (f"; {row['ended_otherwise']}" if row["ended_otherwise"] else "")
