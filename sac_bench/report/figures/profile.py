"""The performance profile: the share of runs above each scaled score, over all environments."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from sac_bench.analysis.statistics import performance_profile
from sac_bench.report.figures.style import line_style, panel_grid, panels
from sac_bench.results.manifest import Manifest

MOST = 200
"""With more distinct scores than this, the profile is drawn on a grid of this many points."""


def profile(scaled: dict[str, dict[str, np.ndarray]], manifest: Manifest) -> Figure:
    """Draw the share of runs above a score, with 95% stratified bootstrap bands: one panel per group of variants."""
    everything = np.concatenate([x for of_env in scaled.values() for x in of_env.values()])
    low, high = min(0.0, float(everything.min())) - 0.05, max(1.0, float(everything.max())) + 0.05
    exact = np.union1d(everything, [low, high])
    thresholds = exact if len(exact) <= MOST else np.linspace(low, high, MOST)
    groups = panels(manifest)
    figure, axes = panel_grid(len(groups), 3.2)
    for axis, (title, variants) in zip(axes.flat, groups.items(), strict=False):
        for i, variant in enumerate(variants):
            runs = [of_env[variant] for of_env in scaled.values() if variant in of_env]
            if len(runs) < len(scaled):
                continue  # a profile over fewer environments is not comparable
            band, style = performance_profile(runs, thresholds), line_style(i, variant, manifest)
            axis.plot(
                thresholds, band.value, drawstyle="steps-post", label=f"{variant} ({sum(map(len, runs))} runs)", **style
            )
            axis.fill_between(
                thresholds, band.low, band.high, step="post", color=style["color"], alpha=0.1, linewidth=0
            )
        axis.set(title=title, xlabel=f"score (0: random policy, 1: mean of {manifest.reference})", ylim=(-0.03, 1.03))
        axis.legend(fontsize=7)
    for axis in axes[:, 0]:
        axis.set_ylabel("share of runs above")
    return figure
