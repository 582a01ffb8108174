"""Learning curves of several algorithms, with published scores."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.analysis.published import family
from sac_bench.analysis.scores import equal_steps
from sac_bench.report.baselines import beside
from sac_bench.report.figures.curves import Panel, names_of, values_shown, without_legend
from sac_bench.report.figures.groups import named_groups
from sac_bench.report.figures.layout import shared_legend
from sac_bench.report.figures.style import MARKERS, PAGE, Style, statistic_of, variant_styles
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest

AXIS_MARGIN = 0.5
"""Published scores widen an axis of returns by at most this share of it; scores beyond stand at its edge."""


LEVEL, LEVELS = 0.08, 6
"""Scores beyond the axis: their distance from each other as a share of its height, and how many are stacked."""


def compared_panels(manifest: Manifest) -> list[Panel]:
    """Return a panel per environment with all variants but sweeps; a panel per group if these are many."""
    groups = named_groups(manifest).values()
    if len(groups) == 1:
        return [Panel(env, env, tuple(names)) for env in manifest.envs for _, names in groups]
    place = " on {}" if len(manifest.envs) > 1 else ""
    return [
        Panel(title + place.format(env), env, tuple(dict.fromkeys([manifest.reference, *names])))
        for env in manifest.envs
        for title, names in groups
    ]


def at_equal_steps(manifest: Manifest) -> dict[str, int]:
    """Return {environment: the steps at which all variants are scored}."""
    return {env: equal_steps(manifest)[env, manifest.reference] for env in manifest.envs}


def whole_trainings(manifest: Manifest) -> dict[str, int]:
    """Return {environment: the steps of the longest training}."""
    return {env: max(manifest.steps_on(env)) for env in manifest.envs}


def comparison_curves(
    results: Results, until: Mapping[str, int], style: Style = PAGE, panels: Sequence[Panel] | None = None
) -> Figure:
    """Draw variants up to some steps, with published scores: in all `compared_panels`, or in some."""
    manifest = results.manifest
    shown = compared_panels(manifest) if panels is None else panels
    figure = without_legend(results, shown, style, until)
    shapes, colors = published_shapes(manifest, until), _colors_of_algorithms(manifest)
    for axis, panel in zip(figure.axes, shown, strict=False):
        _published_scores(axis, published_marks(manifest, panel.env, until[panel.env]), colors, shapes)
    shared_legend(figure, style, comparison_names(manifest, shown, until))
    return figure


def comparison_names(manifest: Manifest, panels: Sequence[Panel], until: Mapping[str, int]) -> dict[str, str]:
    """Return {label of a line or marker: what a legend calls it} of panels with published scores."""
    return names_of(manifest, panels) | {name: name for name in published_shapes(manifest, until)}


def _colors_of_algorithms(manifest: Manifest) -> dict[str, Any]:
    """Return {algorithm: the colour of its first variant}."""
    colors: dict[str, Any] = {}
    for variant, style in variant_styles(manifest).items():
        colors.setdefault(manifest.variants[variant].algorithm, style["color"])
    return colors


def published_marks(manifest: Manifest, env: str, until: int) -> pd.DataFrame:
    """Return published final evaluations within the steps of an environment's panel, with `name`: their marker's."""
    rows = beside(manifest, env)
    rows = rows[(rows["metric"] == "final_eval") & (rows["steps"] <= 1.02 * until)]
    if statistic_of(manifest) != "iqm":
        rows = rows[rows["spread_kind"] != "iqm"]  # the figure shows means
    names = [
        f"{r['algorithm']} {r['source']} {r['env'].rpartition('-')[2]}"
        + (" (IQM)" if r["spread_kind"] == "iqm" else "")
        for r in rows.to_dict("records")
    ]
    return rows.assign(name=names)


def published_shapes(manifest: Manifest, until: Mapping[str, int]) -> dict[str, str]:
    """Return {name of published scores: their marker}, the same in all panels."""
    names = sorted({name for env in manifest.envs for name in published_marks(manifest, env, until[env])["name"]})
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}


def _published_scores(axis: Axes, marks: pd.DataFrame, colors: dict[str, Any], shapes: dict[str, str]) -> None:
    """Draw markers in the colours of their algorithms, with error bars if a spread is published.

    The curves decide the axis of returns: a score far outside stands at its edge, with its value.
    """
    low, high = values_shown(axis)
    room = AXIS_MARGIN * (high - low)
    beyond: list[tuple[float, float, str, Any, str]] = []
    for name in marks["name"].unique():
        rows = marks[marks["name"] == name]
        color = colors.get(family(rows["algorithm"].iloc[0]), "0.3")
        far = (rows["mean"] > high + room) | (rows["mean"] < low - room)
        near = rows[~far]
        spread = None if near["spread"].isna().all() else near["spread"]
        axis.errorbar(
            near["steps"],
            near["mean"],
            yerr=spread,
            fmt=shapes[name],
            label=name,
            zorder=4,
            capsize=2,
            color=color,
            elinewidth=0.8,
            markersize=4.5,
            markerfacecolor="white",
            markeredgewidth=0.9,
        )
        beyond += [(steps, mean, shapes[name], color, name) for steps, mean in rows.loc[far, ["steps", "mean"]].values]
    for is_above in (True, False):
        side = sorted((one for one in beyond if (one[1] > high) == is_above), key=lambda one: -abs(one[1]))
        for level, mark in enumerate(side):
            _off_the_axis(axis, level, is_above, *mark)
    if len(marks):
        axis.set_ylim(*_limits(axis, low - room, high + room))


def _off_the_axis(
    axis: Axes, level: int, is_above: bool, steps: float, mean: float, shape: str, color: Any, name: str
) -> None:
    """Draw a marker near the edge of an axis of returns, and its value with an arrow. Levels keep values apart."""
    place = axis.get_xaxis_transform()
    inwards = 0.07 + LEVEL * (level % LEVELS)
    at = 1 - inwards if is_above else inwards
    look = {"color": color, "markerfacecolor": "white", "markersize": 4.5, "markeredgewidth": 0.9}
    axis.plot(steps, at, shape, transform=place, label=name, zorder=4, **look)
    text = f"{mean:,.0f} {ARROWS[is_above]}"
    axis.annotate(
        text, (steps, at), (-5, 0), place, "offset points", ha="right", va="center", color=color, fontsize="small"
    )


ARROWS = {True: "\N{UPWARDS ARROW}", False: "\N{DOWNWARDS ARROW}"}


def _limits(axis: Axes, least: float, most: float) -> tuple[float, float]:
    """Return the ends of an axis of values: those that it has, but not beyond these."""
    low, high = axis.get_ylim()
    return max(low, least), min(high, most)
