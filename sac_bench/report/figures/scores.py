"""Scores of all variants and seeds, and scores against a swept option."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sac_bench.analysis.scores import at_words
from sac_bench.analysis.statistics import mean_interval
from sac_bench.report.figures.style import PALETTE, option_of, random_line, sweeps
from sac_bench.results.manifest import Manifest


def final_scores(table: pd.DataFrame, manifest: Manifest) -> Figure:
    """Draw each variant's mean score with its 95% t interval, and each seed as a dot."""
    variants, envs = list(manifest.variants), manifest.envs
    figure, axes = plt.subplots(
        1,
        len(envs),
        figsize=(4.6 * len(envs) + 0.6, 0.32 * len(variants) + 1.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, env in zip(axes[0], envs, strict=True):
        of_env = table[table["env"] == env]
        for y, variant in enumerate(variants):
            values = of_env.loc[of_env["variant"] == variant, "score"].dropna()
            estimate = mean_interval(values)
            color = "black" if variant == manifest.reference else PALETTE[0]
            axis.plot(values, [y] * len(values), "o", color=color, alpha=0.35, markersize=3.5)
            axis.plot(estimate.value, y, "D", color=color, markersize=5)
            axis.hlines(y, estimate.low, estimate.high, color=color, linewidth=1.5)
            requested = len(manifest.seeds_of(env, variant))
            if len(values) < requested:
                count = f"{len(values)} of {requested} seeds"
                across = axis.get_yaxis_transform()
                axis.text(0.99, y, count, transform=across, ha="right", va="bottom", fontsize=6)
        reference = of_env.loc[of_env["variant"] == manifest.reference, "score"].mean()
        if np.isfinite(reference):
            axis.axvline(reference, color="black", linewidth=0.8, linestyle="--")
        random_line(axis, manifest, env, vertical=True)
        low, high = of_env["score"].min(), of_env["score"].max()
        margin = 0.35 * (high - low or 1.0)
        if np.isfinite(margin):  # wide intervals of few seeds are cut, dots never
            axis.set_xlim(low - margin, high + margin)
        axis.set(title=env, xlabel=f"score{at_words(manifest, env)}: mean, 95% t interval, one dot per seed")
    axes[0][0].set_yticks(range(len(variants)), variants)
    axes[0][0].invert_yaxis()
    return figure


def sensitivity(table: pd.DataFrame, manifest: Manifest, title: str) -> Figure:
    """Draw scores against the option of a sweep: mean and 95% t interval over seeds, and each seed as a dot."""
    sweep = sweeps(manifest)[title]
    values = dict(sorted(sweep.values.items(), key=lambda item: item[1]))
    figure, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    for i, env in enumerate(manifest.envs):
        of_env = table[table["env"] == env]
        per_value = [of_env.loc[of_env["variant"] == variant, "score"].dropna() for variant in values]
        estimates = [mean_interval(scores_) for scores_ in per_value]
        at = np.array(list(values.values()))
        middle = np.array([e.value for e in estimates])
        spread = np.nan_to_num([[e.value - e.low, e.high - e.value] for e in estimates]).T
        axis.errorbar(at, middle, yerr=spread, color=PALETTE[i % 10], marker="D", markersize=4, capsize=2, label=env)
        for x, variant, seeds in zip(at, values, per_value, strict=True):
            axis.plot([x] * len(seeds), seeds, "o", color=PALETTE[i % 10], alpha=0.35, markersize=3.5)
            requested = len(manifest.seeds_of(env, variant))
            if 0 < len(seeds) < requested:
                axis.annotate(f" {len(seeds)} of {requested}", (x, seeds.max()), fontsize=6)
    if at.min() > 0 and at.max() / at.min() > 20:
        axis.set_xscale("log")
    if (own := option_of(manifest, sweep)) is not None:
        base = "reference" if sweep.base == manifest.reference else sweep.base
        axis.axvline(own, color="black", linewidth=0.8, linestyle="--", label=f"{base}: {own:g}")
    places = {at_words(manifest, env) for env in manifest.envs}
    place = places.pop() if len(places) == 1 else ""
    axis.set(title=f"sensitivity to {title}", xlabel=sweep.option, ylabel=f"score{place}: mean, 95% t interval")
    axis.legend(fontsize=7)
    return figure
