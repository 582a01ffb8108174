"""The performance profile: the share of runs above every score, on one scale for all environments."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sac_bench.analysis.statistics import normalised, performance_profile
from sac_bench.report.figures.curves import line_style, panel_grid, panels

MOST = 200
"""Of more runs than this, the profile's steps are drawn on a grid of as many points."""


def on_one_scale(scores: pd.DataFrame, about: dict[str, Any]) -> dict[str, dict[str, np.ndarray]]:
    """{environment: {variant: its runs' scores}}, a random policy's 0 and the reference's mean 1.

    Without environments where that is no scale: no random policy was measured, or the reference is not above it.
    """
    found = {}
    for env in about["envs"]:
        of_env = scores[scores["env"] == env].dropna(subset="score")
        random = about["random"].get(env, {}).get("return_mean", float("nan"))
        reference = float(of_env.loc[of_env["variant"] == about["reference"], "score"].mean())
        if random < reference:
            found[env] = {
                str(name): normalised(rows["score"], random, reference) for name, rows in of_env.groupby("variant")
            }
    return found


def profile(scaled: dict[str, dict[str, np.ndarray]], about: dict[str, Any]) -> Figure:
    """A panel a group of variants: share of runs above a score against that score, 95% stratified bootstrap."""
    everything = np.concatenate([x for of_env in scaled.values() for x in of_env.values()])
    low, high = min(0.0, float(everything.min())) - 0.05, max(1.0, float(everything.max())) + 0.05
    exact = np.union1d(everything, [low, high])
    thresholds = exact if len(exact) <= MOST else np.linspace(low, high, MOST)
    groups = panels(about)
    figure, axes = panel_grid(len(groups), 3.2)
    for axis, (title, variants) in zip(axes.flat, groups.items(), strict=False):
        for i, variant in enumerate(variants):
            runs = [of_env[variant] for of_env in scaled.values() if variant in of_env]
            if len(runs) < len(scaled):
                continue  # a profile over fewer environments is not comparable
            band, style = performance_profile(runs, thresholds), line_style(i, variant, about)
            axis.plot(
                thresholds, band.value, drawstyle="steps-post", label=f"{variant} ({sum(map(len, runs))} runs)", **style
            )
            axis.fill_between(
                thresholds, band.low, band.high, step="post", color=style["color"], alpha=0.1, linewidth=0
            )
        axis.set(title=title, xlabel=f"score (0: random policy, 1: mean of {about['reference']})", ylim=(-0.03, 1.03))
        axis.legend(fontsize=7)
    for axis in axes[:, 0]:
        axis.set_ylabel("share of runs above")
    return figure
