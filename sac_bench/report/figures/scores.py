"""Scores of all variants and seeds, and scores against a swept option."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from sac_bench.analysis.scores import at_words
from sac_bench.analysis.statistics import mean_interval
from sac_bench.report.figures.groups import Sweep, option_of
from sac_bench.report.figures.layout import Legend, even_grid, row_panels, shared_legend, subplots
from sac_bench.report.figures.pages import parts_that_fit, split
from sac_bench.report.figures.style import COLORS, DASHES, PAGE, Style, random_line, ticks, variant_styles, wrapped
from sac_bench.results.cells import rows_of
from sac_bench.results.manifest import Manifest

MIN_ROW_HEIGHT = 0.6
"""The least share of a row's height, at which its label still fits."""


def final_scores(
    table: pd.DataFrame,
    manifest: Manifest,
    style: Style = PAGE,
    envs: Sequence[str] | None = None,
    variants: Sequence[str] | None = None,
) -> Figure:
    """Draw each variant's mean score with its 95% t interval, and each seed as a dot.

    There is a panel for each environment and a row for each variant, or for those in `envs` and `variants`.
    """
    styles = variant_styles(manifest)
    envs, variants = envs or manifest.envs, variants or list(manifest.variants)
    labels = [wrapped(manifest.label(name), style.label) for name in variants]
    beside, height, least, most = _layout(labels, style)
    columns, rows = even_grid(len(envs), most)
    width = style.width if style.is_exact else min(style.width, 3.4 * columns + beside)
    figure, axes = row_panels(len(envs), columns, rows, width, style.squeezed(rows * height, least / height))
    for axis, env in zip(axes.flat, envs, strict=False):
        of_env = table[table["env"] == env]
        ends = []
        for y, variant in enumerate(variants):
            values = rows_of(table, env, variant)["score"].dropna()
            estimate = mean_interval(values)
            ends += [estimate.low, estimate.high]
            color = styles[variant]["color"]
            axis.plot(values, [y] * len(values), "o", color=color, alpha=0.35, markersize=3.5)
            axis.plot(estimate.value, y, "D", color=color, markersize=5)
            axis.hlines(y, estimate.low, estimate.high, color=color, linewidth=1.5)
            requested = len(manifest.seeds_of(env, variant))
            if len(values) < requested:
                count = f"{len(values)} of {requested} seeds"
                across = axis.get_yaxis_transform()
                axis.text(0.99, y, count, transform=across, ha="right", va="bottom", fontsize=style.small)
        reference = of_env.loc[of_env["variant"] == manifest.reference, "score"].mean()
        if np.isfinite(reference):
            axis.axvline(reference, color="black", linewidth=0.8, linestyle="--")
        random_line(axis, manifest, env, vertical=True)
        axis.set_xlim(*_ends(of_env["score"].to_numpy(), ends, axis.get_xlim()))
        axis.xaxis.set_major_locator(ticks(4))
        axis.set_xlabel(f"score{at_words(manifest, env)}")
        if style.has_titles or len(manifest.envs) > 1:
            axis.set_title(env)
    axes[0][0].set_yticks(range(len(variants)), labels)
    axes[0][0].set_ylim(len(variants) - 0.5, -0.5)
    return figure


def pages(manifest: Manifest, style: Style) -> list[tuple[list[str], list[str]]]:
    """Return the environments and variants of each figure of scores: as many as fit a page at their least height."""

    def layout(names: Sequence[str]) -> tuple[float, float, float, int]:
        return _layout([wrapped(manifest.label(name), style.label) for name in names], style)

    found = []
    for names in parts_that_fit(list(manifest.variants), lambda names: layout(names)[2] <= style.page):
        _, _, least, most = layout(names)
        found += [(envs, names) for envs in split(manifest.envs, style.page / least, most)]
    return found


def _layout(labels: Sequence[str], style: Style) -> tuple[float, float, float, int]:
    """Return the width of labels, the usual and least heights of a panel, and how many panels fit in a row."""
    beside = 0.56 * style.small / 72 * max(len(line) for label in labels for line in label.split("\n"))
    rows = sum(2.4 + 1.1 * label.count("\n") for label in labels) * style.small / 72
    around = 4.5 * style.text / 72
    return beside, rows + around, MIN_ROW_HEIGHT * rows + around, int((style.width - beside) / (style.panel - 0.6))


def _ends(scores: np.ndarray, intervals: Sequence[float], otherwise: tuple[float, float]) -> tuple[float, float]:
    """Return the ends of an axis of scores: wide intervals of few seeds are cut, dots never."""
    seen = scores[np.isfinite(scores)]
    if not len(seen):
        return otherwise
    room = 0.35 * (np.ptp(seen) or 1.0)
    low = max(np.nanmin([*intervals, *seen]), seen.min() - room)
    high = min(np.nanmax([*intervals, *seen]), seen.max() + room)
    margin = 0.05 * ((high - low) or 1.0)
    return float(low - margin), float(high + margin)


def sensitivity_pages(manifest: Manifest, sweep: Sweep, style: Style) -> list[list[str]]:
    """Return the environments of each figure of a sweep."""
    width, height = _sensitivity_size(style)
    return parts_that_fit(
        manifest.envs,
        lambda envs: height + Legend.of([*envs, _base_label(manifest, sweep)], width, style).inches <= style.page,
    )


def _sensitivity_size(style: Style) -> tuple[float, float]:
    width = style.width if style.is_exact else min(style.width, 4.6)
    return width, min(0.72 * width, style.tallest)


def _base_label(manifest: Manifest, sweep: Sweep) -> str:
    """Return what the line at the base's own value is called, "reference: 0.005"."""
    own = option_of(manifest, sweep)
    base = "reference" if sweep.base == manifest.reference else manifest.label(sweep.base)
    return "" if own is None else f"{base}: {own:g}"


def sensitivity(
    table: pd.DataFrame, manifest: Manifest, sweep: Sweep, style: Style = PAGE, envs: Sequence[str] | None = None
) -> Figure:
    """Draw scores against the option of a sweep: mean and 95% t interval over seeds, and each seed as a dot.

    There is a line for each environment, or for those in `envs`.
    """
    values = dict(sorted(sweep.values.items(), key=lambda item: item[1]))
    envs = envs or manifest.envs
    figure, ((axis,),) = subplots(1, 1, _sensitivity_size(style))
    for env in envs:
        i = manifest.envs.index(env)
        color = COLORS[i % len(COLORS)]
        per_value = [rows_of(table, env, variant)["score"].dropna() for variant in values]
        estimates = [mean_interval(scores_) for scores_ in per_value]
        at = np.array(list(values.values()))
        middle = np.array([e.value for e in estimates])
        spread = np.nan_to_num([[e.value - e.low, e.high - e.value] for e in estimates]).T
        dash = DASHES[i % len(DASHES)]
        axis.errorbar(
            at, middle, yerr=spread, color=color, linestyle=dash, marker="D", markersize=4, capsize=2, label=env
        )
        for x, variant, seeds in zip(at, values, per_value, strict=True):
            axis.plot([x] * len(seeds), seeds, "o", color=color, alpha=0.35, markersize=3.5)
            requested = len(manifest.seeds_of(env, variant))
            if 0 < len(seeds) < requested:
                axis.annotate(f" {len(seeds)} of {requested}", (x, seeds.max()), fontsize=style.small)
    if at.min() > 0 and at.max() / at.min() > 20:
        axis.set_xscale("log")
    labels = list(envs)
    if (own := option_of(manifest, sweep)) is not None:
        labels.append(_base_label(manifest, sweep))
        axis.axvline(own, color="black", linewidth=0.8, linestyle="--", label=labels[-1])
    places = {at_words(manifest, env) for env in manifest.envs}
    place = places.pop() if len(places) == 1 else ""
    axis.set(xlabel=sweep.label, ylabel=f"score{place}")
    if style.has_titles:
        axis.set_title(f"sensitivity to {sweep.title}")
    shared_legend(figure, style, labels)
    return figure
