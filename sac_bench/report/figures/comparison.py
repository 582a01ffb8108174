"""Learning curves of several algorithms, with published scores."""

from __future__ import annotations

import textwrap
from typing import Any

import matplotlib.pyplot as plt
import matplotlib.ticker
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.analysis.published import family
from sac_bench.analysis.scores import at_words, equal_steps
from sac_bench.report.baselines import beside
from sac_bench.report.figures.curves import acting, curves_of, marks
from sac_bench.report.figures.style import MARKERS, SUMMARIES, comparison_styles, random_line
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest


def comparison_curves(results: Results, statistic: str) -> Figure:
    """Draw all variants except sweeps, one panel per environment, with published scores if there are any."""
    summary, description = SUMMARIES[statistic]
    envs, styles, shapes = (
        results.manifest.envs,
        comparison_styles(results.manifest),
        published_shapes(results.manifest, statistic),
    )
    columns = min(3, len(envs))
    rows = -(-len(envs) // columns)
    width = (4.6, 7.2, 10.4)[columns - 1]
    figure, axes = plt.subplots(rows, columns, figsize=(width, 2.8 * rows + 1.0), squeeze=False, layout="constrained")
    for axis, env in zip(axes.flat, envs, strict=False):
        notes = []
        for variant, style in styles.items():
            curves = curves_of(results, env, variant)
            if note := _exceptions(results, env, variant, len(curves)):
                notes.append(f"{variant}: {note}")
            if curves.empty:
                continue
            middle, low, high = summary(curves.to_numpy())
            axis.plot(curves.columns, middle, label=variant, zorder=3, **style)
            axis.fill_between(curves.columns, low, high, color=style["color"], alpha=0.12, linewidth=0)
        _published_scores(
            axis,
            published_marks(results.manifest, env, statistic),
            _colors_of_algorithms(results.manifest, styles),
            shapes,
        )
        random_line(axis, results.manifest, env)
        if at_words(results.manifest, env):
            axis.axvline(
                equal_steps(results.manifest)[env, results.manifest.reference],
                color="0.4",
                linewidth=0.9,
                label="scored here",
            )
        _steps_axis(axis, results.manifest.steps_on(env), min(results.evaluations.query("step > 0")["step"], default=1))
        below = textwrap.wrap("; ".join(notes), 60)
        axis.set_title(env, fontsize=10, pad=5 + 8 * len(below))
        axis.annotate("\n".join(below), (0.5, 1.0), (0, 2), "axes fraction", "offset points", ha="center", fontsize=6.5)
    for axis in axes.flat[len(envs) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("return of an evaluation")
    drawn: dict[str, Any] = {}
    for axis in axes.flat:
        for handle, name in zip(*axis.get_legend_handles_labels(), strict=True):
            drawn.setdefault(name, handle)
    names = [name for name in (*styles, "random policy", "scored here", *shapes) if name in drawn]
    actions = acting(results.manifest, list(styles))
    title = f"{actions}; {description}; {results.manifest.seeds_each()} seeds each unless a panel says otherwise"
    if shapes:
        title += "\nmarkers: published final evaluations (docs/published.md), mean and standard deviation"
        title += ", or IQM" if statistic == "iqm" else ""
    figure.legend(
        [drawn[name] for name in names],
        names,
        loc="outside lower center",
        fontsize=8,
        frameon=False,
        ncols=max(1, int(width / (0.55 + 0.075 * max(map(len, names), default=0)))),
        handlelength=2.6,
        title=_wrapped(title, int(14 * width)),
        title_fontsize=8,
    )
    return figure


def _wrapped(text: str, width: int) -> str:
    return "\n".join(textwrap.fill(line, width) for line in text.splitlines())


def _colors_of_algorithms(manifest: Manifest, styles: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Return {algorithm: the colour of its first variant}."""
    colors: dict[str, Any] = {}
    for variant, style in styles.items():
        colors.setdefault(manifest.variants[variant].algorithm, style["color"])
    return colors


def published_marks(manifest: Manifest, env: str, statistic: str) -> pd.DataFrame:
    """Return published final evaluations within the steps of an environment's panel, with `name`: their marker's."""
    rows = beside(manifest, env)
    rows = rows[(rows["metric"] == "final_eval") & (rows["steps"] <= max(manifest.steps_on(env)))]
    if statistic != "iqm":
        rows = rows[rows["spread_kind"] != "iqm"]  # the figure shows means
    names = [
        f"{r['algorithm']} {r['source']} {r['env'].rpartition('-')[2]}"
        + (" (IQM)" if r["spread_kind"] == "iqm" else "")
        for r in rows.to_dict("records")
    ]
    return rows.assign(name=names)


def published_shapes(manifest: Manifest, statistic: str) -> dict[str, str]:
    """Return {name of published scores: their marker}, the same in all panels."""
    names = sorted({name for env in manifest.envs for name in published_marks(manifest, env, statistic)["name"]})
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}


def _published_scores(axis: Axes, marks: pd.DataFrame, colors: dict[str, Any], shapes: dict[str, str]) -> None:
    """Draw markers in the colours of their algorithms, with error bars if a spread is published."""
    for name in marks["name"].unique():
        rows = marks[marks["name"] == name]
        spread = None if rows["spread"].isna().all() else rows["spread"]
        axis.errorbar(
            rows["steps"],
            rows["mean"],
            yerr=spread,
            fmt=shapes[name],
            label=name,
            zorder=4,
            capsize=2,
            color=colors.get(family(rows["algorithm"].iloc[0]), "0.3"),
            elinewidth=0.8,
            markersize=4.5,
            markerfacecolor="white",
            markeredgewidth=0.9,
        )


def _exceptions(results: Results, env: str, variant: str, drawn: int) -> str:
    """Return how a line's seeds differ from those requested or of other lines: "3 of 5 seeds, 1 diverged"."""
    seeds = len(results.manifest.seeds_of(env, variant))
    count = [f"{drawn} of {seeds} seeds"] if drawn < seeds else []
    if results.manifest.seed_range and drawn == seeds:
        count = [f"{seeds} seeds"]
    return ", ".join(count + marks(results, env, variant))


def _steps_axis(axis: Axes, ends: list[int], first: int) -> None:
    """Format the axis of steps, in millions or thousands, up to the last of the lines' `ends`.

    It starts at 0; if a linear axis would compress short lines, it is logarithmic and starts at the `first` evaluation.
    """
    last = max(ends)
    size, word = (1e6, "million") if last >= 1e6 else (1e3, "thousand")
    if last > 4 * min(ends):
        axis.set_xscale("log")
        axis.set_xlim(0.9 * first, 1.1 * last)
        axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
        axis.minorticks_off()
    else:
        axis.set_xlim(-0.03 * last, 1.03 * last)
    axis.xaxis.set_major_formatter(lambda steps, _: f"{steps / size:g}")
    axis.set_xlabel(f"{word} steps")
