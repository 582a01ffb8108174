"""Figures of an experiment's results, as SVG and PNG."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Collection
from itertools import chain
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.analysis.published import family
from sac_bench.analysis.scores import at_words, equal_steps, policy_rows, scored_by
from sac_bench.analysis.statistics import bootstrap_iqm, mean_interval
from sac_bench.report.baselines import beside
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import write_atomically
from sac_bench.store.store import ENDED

PALETTE = sns.color_palette("colorblind")
REFERENCE = {"color": "black", "linewidth": 1.8}
DASHES = ("solid", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (7, 2, 1, 1, 1, 1)))
"""Lines of an experiment's algorithms, and of a panel's variants, in their order."""
MARKERS = "osD^vph<>*"


def _band_of_range(curves: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    return curves.mean(axis=0), curves.min(axis=0), curves.max(axis=0)


Summary = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]
SUMMARIES: dict[str, tuple[Summary, str]] = {
    "range": (_band_of_range, "mean over seeds; band: lowest to highest seed"),
    "iqm": (bootstrap_iqm, "IQM over seeds; band: 95% bootstrap interval"),
}
"""Curves [seeds, T] to middle, low and high [T], and what to call them."""


def house_style() -> None:
    """How all figures look."""
    sns.set_theme(style="whitegrid", context="paper", rc={"svg.hashsalt": "sac_bench", "figure.dpi": 150})


def line_style(place: int, variant: str, manifest: Manifest) -> dict[str, Any]:
    """How the line of a panel's variant looks in all figures: dashes tell it from its neighbours without colours."""
    if len(manifest.algorithms) > 1 and (style := comparison_styles(manifest).get(variant)):
        return style  # as in the comparison's curves
    if variant == manifest.reference:
        return dict(REFERENCE)
    return {"color": PALETTE[place % 10], "linewidth": 1.3, "linestyle": DASHES[place % len(DASHES)]}


def sweeps(manifest: Manifest) -> dict[str, dict[str, float]]:
    """{swept key: {variant: value}}, the reference included where its value is a number."""
    found: dict[str, dict[str, float]] = {}
    for name, variant in manifest.variants.items():
        if variant.swept:
            key, value = variant.swept
            found.setdefault(key, {})[name] = value
    for key, values in found.items():
        own = of_reference(manifest, key)
        if isinstance(own, (int, float)) and own not in values.values():
            values[manifest.reference] = float(own)
    return found


def of_reference(manifest: Manifest, key: str) -> Any:
    """An option of the reference, on the first environment."""
    return manifest.option(manifest.reference, manifest.envs[0], key)


def panels(manifest: Manifest) -> dict[str, list[str]]:
    """{title: variants}: one panel for the named variants, one for every swept key, the reference in each."""
    swept = sweeps(manifest)
    named = [name for name, v in manifest.variants.items() if not v.swept]
    groups = {"variants": named} if len(named) > 1 or not swept else {}
    for key, values in swept.items():
        groups[key] = sorted((n for n in values if n != manifest.reference), key=lambda n: values[n])
    return {
        title: [manifest.reference, *(n for n in names if n != manifest.reference)] for title, names in groups.items()
    }


def panel_grid(panels: int, height: float) -> tuple[Figure, np.ndarray]:
    """A figure with so many panels side by side, at most two, that it is legible in print; the rest is hidden."""
    columns = min(2, panels)
    rows = -(-panels // columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(4.2 * columns + 0.4, height * rows), sharey=True, squeeze=False, layout="constrained"
    )
    for axis in axes.flat[panels:]:
        axis.set_visible(False)
    return figure, axes


def learning_curves(results: Results, env: str, groups: dict[str, list[str]]) -> Figure:
    """Return of what scores each variant against steps, a panel a group: IQM over seeds and its 95% bootstrap interval.

    Diverged runs go on with the return of a random policy; of unfinished ones only what all seeds have reached counts.
    """
    figure, axes = panel_grid(len(groups), 3.4)
    for axis, (title, variants) in zip(axes.flat, groups.items(), strict=False):
        for i, variant in enumerate(variants):
            curves, asked = curves_of(results, env, variant), len(results.manifest.seeds)
            if curves.empty:
                continue
            seeds = f"n={len(curves)}" if len(curves) == asked else f"n={len(curves)} of {asked}"
            if diverged := _diverged(results, env, variant):
                seeds += f", {diverged} diverged"
            middle, low, high = bootstrap_iqm(curves.to_numpy())
            style = line_style(i, variant, results.manifest)
            axis.plot(curves.columns, middle, label=f"{variant} ({seeds})", **style)
            axis.fill_between(curves.columns, low, high, color=style["color"], alpha=0.15, linewidth=0)
        _random_line(axis, results.manifest, env)
        axis.set(title=f"{env}: {title}", xlabel="environment steps")
        axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        axis.legend(fontsize=7, loc="upper left")
    acted = acting(results.manifest, list(chain.from_iterable(groups.values())))
    for axis in axes[:, 0]:
        axis.set_ylabel(f"return, {acted}\n(IQM over seeds, 95% bootstrap CI)")
    return figure


def acting(manifest: Manifest, variants: Collection[str]) -> str:
    """Whose returns are drawn: "mean action (sql: sampled ones)"."""
    by = [name for name in variants if scored_by(manifest, name) == "sample"]
    if len(by) == len(variants):
        return "sampled actions"
    return "mean action" + (f" ({', '.join(by)}: sampled ones)" if by else "")


def comparison_curves(results: Results, statistic: str) -> Figure:
    """All variants that are no point of a sweep, a panel an environment, with published scores where there are any."""
    summary, said = SUMMARIES[statistic]
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
        _random_line(axis, results.manifest, env)
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
    said = f"{acting(results.manifest, list(styles))}; {said}"
    title = f"{said}; {len(results.manifest.seeds)} seeds each unless a panel says otherwise"
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


def comparison_styles(manifest: Manifest) -> dict[str, dict[str, Any]]:
    """{variant that is no point of a sweep: how its line looks}: a colour a variant, dashes an algorithm."""
    dashes = {name: DASHES[i % len(DASHES)] for i, name in enumerate(manifest.algorithms)}
    colors = [PALETTE[i] for i in (0, 1, 2, 3, 4, 5, 6, 9, 8)]  # 7 is the gray of the random policy's line
    styles, others = {}, 0
    for name, variant in manifest.variants.items():
        if variant.swept:
            continue
        style = dict(REFERENCE) if name == manifest.reference else {"color": colors[others % 9], "linewidth": 1.3}
        others += name != manifest.reference
        styles[name] = style | {"linestyle": dashes[variant.algorithm]}
    return styles


def _colors_of_algorithms(manifest: Manifest, styles: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """{algorithm: the colour of its first variant}"""
    colors: dict[str, Any] = {}
    for variant, style in styles.items():
        colors.setdefault(manifest.variants[variant].algorithm, style["color"])
    return colors


def published_marks(manifest: Manifest, env: str, statistic: str) -> pd.DataFrame:
    """Published final evaluations at steps that the panel of an environment spans, with the `name` of their marker."""
    rows = beside(manifest, env)
    rows = rows[(rows["metric"] == "final_eval") & (rows["steps"] <= max(manifest.steps_on(env)))]
    if statistic != "iqm":
        rows = rows[rows["spread_kind"] != "iqm"]  # not to be taken for means
    names = [
        f"{r['algorithm']} {r['source']} {r['env'].rpartition('-')[2]}"
        + (" (IQM)" if r["spread_kind"] == "iqm" else "")
        for r in rows.to_dict("records")
    ]
    return rows.assign(name=names)


def published_shapes(manifest: Manifest, statistic: str) -> dict[str, str]:
    """{name of published scores in a figure: their marker}, the same in all panels."""
    names = sorted({name for env in manifest.envs for name in published_marks(manifest, env, statistic)["name"]})
    return {name: MARKERS[i % len(MARKERS)] for i, name in enumerate(names)}


def _published_scores(axis: Axes, marks: pd.DataFrame, colors: dict[str, Any], shapes: dict[str, str]) -> None:
    """Markers in the colours of their algorithms, with error bars where a spread is published."""
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
    """How a line's seeds differ from what was asked: "3 of 5 seeds, 1 diverged"."""
    asked, diverged = len(results.manifest.seeds), _diverged(results, env, variant)
    said = [f"{drawn} of {asked} seeds"] if drawn < asked else []
    return ", ".join(said + ([f"{diverged} diverged"] if diverged else []))


def _steps_axis(axis: Axes, ends: list[int], first: int) -> None:
    """Steps to the last of the lines' `ends`, in millions or thousands: from 0, or, where a linear axis would press the
    short lines together, from the `first` evaluation in a logarithmic one."""
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


def curves_of(results: Results, env: str, variant: str) -> pd.DataFrame:
    """Returns [seeds, steps] of the runs that enter the table; of all where none does yet; by what scores it."""
    mine = lambda table: table[(table["env"] == env) & (table["variant"] == variant)]
    rows, runs = mine(results.evaluations), mine(results.runs).set_index("seed")
    rows = policy_rows(rows, scored_by(results.manifest, variant))
    curves = rows.pivot_table(index="seed", columns="step", values="return_mean")
    random = results.manifest.random_return(env)
    diverged = curves.index[runs.loc[curves.index, "status"] == "diverged"]
    if len(diverged):
        all_steps = results.evaluations.loc[results.evaluations["env"] == env, "step"].unique()
        curves = curves.reindex(
            columns=sorted(s for s in all_steps if s <= results.manifest.variants[variant].steps[env])
        )
    for seed in diverged:
        curves.loc[seed, curves.columns > runs.loc[seed, "steps"]] = random
    entered = curves.index[runs.loc[curves.index, "status"].isin(ENDED)]
    return (curves.loc[entered] if len(entered) else curves).dropna(axis=1)


def _diverged(results: Results, env: str, variant: str) -> int:
    runs = results.runs
    return int(((runs["env"] == env) & (runs["variant"] == variant) & (runs["status"] == "diverged")).sum())


def final_scores(table: pd.DataFrame, manifest: Manifest) -> Figure:
    """Every variant's score: mean and 95% t interval, and every seed as a dot."""
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
            if len(values) < len(manifest.seeds):
                entered = f"{len(values)} of {len(manifest.seeds)} seeds"
                across = axis.get_yaxis_transform()
                axis.text(0.99, y, entered, transform=across, ha="right", va="bottom", fontsize=6)
        reference = of_env.loc[of_env["variant"] == manifest.reference, "score"].mean()
        if np.isfinite(reference):
            axis.axvline(reference, color="black", linewidth=0.8, linestyle="--")
        _random_line(axis, manifest, env, vertical=True)
        low, high = of_env["score"].min(), of_env["score"].max()
        margin = 0.35 * (high - low or 1.0)
        if np.isfinite(margin):  # the widest intervals of few seeds are cut, the dots never
            axis.set_xlim(low - margin, high + margin)
        axis.set(title=env, xlabel=f"score{at_words(manifest, env)}: mean, 95% t interval, one dot a seed")
    axes[0][0].set_yticks(range(len(variants)), variants)
    axes[0][0].invert_yaxis()
    return figure


def sensitivity(table: pd.DataFrame, manifest: Manifest, key: str) -> Figure:
    """Score against one swept number: mean and 95% t interval over seeds, dots for seeds."""
    values = dict(sorted(sweeps(manifest)[key].items(), key=lambda item: item[1]))
    figure, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    for i, env in enumerate(manifest.envs):
        of_env = table[table["env"] == env]
        per_value = [of_env.loc[of_env["variant"] == variant, "score"].dropna() for variant in values]
        estimates = [mean_interval(scores_) for scores_ in per_value]
        at = np.array(list(values.values()))
        middle = np.array([e.value for e in estimates])
        spread = np.nan_to_num([[e.value - e.low, e.high - e.value] for e in estimates]).T
        axis.errorbar(at, middle, yerr=spread, color=PALETTE[i % 10], marker="D", markersize=4, capsize=2, label=env)
        for x, seeds in zip(at, per_value, strict=True):
            axis.plot([x] * len(seeds), seeds, "o", color=PALETTE[i % 10], alpha=0.35, markersize=3.5)
            if 0 < len(seeds) < len(manifest.seeds):
                axis.annotate(f" {len(seeds)} of {len(manifest.seeds)}", (x, seeds.max()), fontsize=6)
    if at.min() > 0 and at.max() / at.min() > 20:
        axis.set_xscale("log")
    own = of_reference(manifest, key)
    if isinstance(own, (int, float)):
        axis.axvline(own, color="black", linewidth=0.8, linestyle="--", label=f"reference: {own:g}")
    places = {at_words(manifest, env) for env in manifest.envs}
    place = places.pop() if len(places) == 1 else ""
    axis.set(title=f"sensitivity to {key}", xlabel=key, ylabel=f"score{place}: mean, 95% t interval")
    axis.legend(fontsize=7)
    return figure


def _random_line(axis: Axes, manifest: Manifest, env: str, vertical: bool = False) -> None:
    random = manifest.random_return(env)
    if np.isfinite(random):
        line = axis.axvline if vertical else axis.axhline
        line(random, color="gray", linewidth=0.8, linestyle=":", label="random policy")


def write_figure(figure: Figure, path: Path) -> Path:
    """As SVG and PNG beside each other, the same bytes for the same figure; the PNG's path."""
    if engine := figure.get_layout_engine():  # once for both, as it takes longer than drawing
        engine.execute(figure)
        figure.set_layout_engine("none")
    for suffix, metadata in ((".svg", {"Date": None}), (".png", None)):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix[1:], metadata=metadata)
        write_atomically(path.with_name(path.name + suffix), drawn.getvalue())
    plt.close(figure)
    return path.with_name(path.name + ".png")
