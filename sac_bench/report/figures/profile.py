"""The performance profile: the share of runs above each scaled score, over all environments."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from sac_bench.analysis.statistics import performance_profile
from sac_bench.report.figures.groups import panels
from sac_bench.report.figures.layout import panel_grid, shared_legend
from sac_bench.report.figures.style import PAGE, Style, variant_styles
from sac_bench.results.manifest import Manifest

MOST = 200
"""With more distinct scores than this, the profile is drawn on a grid of this many points."""


def profile(scaled: dict[str, dict[str, np.ndarray]], manifest: Manifest, style: Style = PAGE) -> Figure:
    """Draw the share of runs above a score, with 95% stratified bootstrap bands: one panel per group of variants."""
    everything = np.concatenate([x for of_env in scaled.values() for x in of_env.values()])
    low, high = min(0.0, float(everything.min())) - 0.05, max(1.0, float(everything.max())) + 0.05
    exact = np.union1d(everything, [low, high])
    thresholds = exact if len(exact) <= MOST else np.linspace(low, high, MOST)
    groups, styles = panels(manifest), variant_styles(manifest)
    figure, axes = panel_grid(len(groups), style, sharey=True)
    for axis, (title, variants) in zip(axes.flat, groups.values(), strict=False):
        for variant in variants:
            runs = [of_env[variant] for of_env in scaled.values() if variant in of_env]
            if len(runs) < len(scaled):
                continue  # a profile over fewer environments is not comparable
            band, look = performance_profile(runs, thresholds), styles[variant]
            axis.plot(thresholds, band.value, drawstyle="steps-post", label=variant, **look)
            axis.fill_between(thresholds, band.low, band.high, step="post", color=look["color"], alpha=0.1, linewidth=0)
        axis.set(xlabel="scaled score", ylim=(-0.03, 1.03))
        if style.has_titles or len(groups) > 1:
            axis.set_title(title)
    for axis in axes[:, 0]:
        axis.set_ylabel("share of runs above")
    shared_legend(figure, style, {name: manifest.label(name) for name in manifest.variants})
    return figure
