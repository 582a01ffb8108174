"""Learning curves: return against steps, or against what training took."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import matplotlib.ticker
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.analysis.compute import AXES, spent
from sac_bench.analysis.scores import at_words, curves_of, equal_steps, scored_by
from sac_bench.report.figures.layout import panel_grid, shared_legend
from sac_bench.report.figures.style import PAGE, SUMMARIES, Style, random_line, statistic_of, ticks, variant_styles
from sac_bench.results.cells import once, rows_of
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest

SCORED_HERE = "scored here"


@dataclass(frozen=True)
class Panel:
    """The curves of some variants on an environment."""

    title: str
    env: str
    variants: tuple[str, ...]
    against: str = "steps"
    """What returns are drawn against, one of analysis.compute.AXES."""


def learning_curves(
    results: Results, panels: Sequence[Panel], style: Style = PAGE, until: Mapping[str, int] | None = None
) -> Figure:
    """Draw the variants' returns over seeds (`statistic_of`) in panels with one legend.

    until: {environment: the last step to draw}; by default the end of the longest training. Diverged runs continue with
    the return of a random policy. Unfinished runs are drawn up to the steps that all seeds have reached.
    """
    figure = without_legend(results, panels, style, until)
    shared_legend(figure, style, names_of(results.manifest, panels))
    return figure


def without_legend(
    results: Results, panels: Sequence[Panel], style: Style, until: Mapping[str, int] | None = None
) -> Figure:
    """Draw what `learning_curves` draws, without a legend."""
    manifest = results.manifest
    figure, axes = panel_grid(len(panels), style, sharey=len({panel.env for panel in panels}) == 1)
    for axis, panel in zip(axes.flat, panels, strict=False):
        draw_curves(axis, results, panel, (until or {}).get(panel.env, max(manifest.steps_on(panel.env))))
        if style.has_titles or len(panels) > 1:
            axis.set_title(panel.title)
    for axis in axes[:, 0]:
        axis.set_ylabel("return")
    return figure


def names_of(manifest: Manifest, panels: Sequence[Panel]) -> dict[str, str]:
    """Return {label of a line: what a legend calls it} of panels, in order."""
    shown = {name for panel in panels for name in panel.variants}
    names = {name: manifest.label(name) for name in manifest.variants if name in shown}
    return names | {name: name for name in ("random policy", SCORED_HERE)}


def draw_curves(axis: Axes, results: Results, panel: Panel, last: int) -> None:
    """Draw a panel's curves up to a last step, with the step at which runs are scored if trainings go on."""
    manifest, env = results.manifest, panel.env
    styles, (summary, _) = variant_styles(manifest), SUMMARIES[statistic_of(manifest)]
    for variant in panel.variants:
        curves = curves_of(results, env, variant)
        curves = curves[[step for step in curves.columns if int(step) <= last]]
        if curves.empty:
            continue
        at, updates = (
            spent(results, env, variant, axis).reindex(curves.columns).to_numpy() for axis in (panel.against, "updates")
        )
        known = ~np.isnan(at) & ~((updates == 0) & AXES[panel.against].is_log)
        curves = curves.loc[:, known].set_axis(at[known], axis="columns")
        if curves.empty:
            continue
        middle, low, high = summary(curves.to_numpy())
        marker = "o" if len(curves.columns) == 1 else None  # a line needs two points
        axis.plot(curves.columns, middle, label=variant, zorder=3, marker=marker, markersize=3.5, **styles[variant])
        axis.fill_between(curves.columns, low, high, color=styles[variant]["color"], alpha=0.13, linewidth=0)
    random_line(axis, manifest, env)
    if panel.against != "steps":
        axis.set_xscale("log" if AXES[panel.against].is_log else "linear")
        axis.set_xlabel(AXES[panel.against].label)
        return
    scored = equal_steps(manifest)[env, manifest.reference]
    if at_words(manifest, env) and scored < last:
        axis.axvline(scored, color="0.4", linewidth=0.9, label=SCORED_HERE)
    ends = [n for n in manifest.steps_on(env) if n <= last] or [last]
    steps_axis(axis, [*ends, last], once(results, "first evaluation", lambda: _first_evaluation(results)))


def _first_evaluation(results: Results) -> int:
    """Return the first step above 0 at which a run was evaluated; 1 if there is none."""
    steps = results.evaluations["step"]
    return int(steps[steps > 0].min()) if (steps > 0).any() else 1


def steps_axis(axis: Axes, ends: Sequence[int], first: int) -> None:
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
        axis.xaxis.set_major_locator(ticks(5))
    axis.xaxis.set_major_formatter(lambda steps, _: f"{steps / size:g}")
    axis.set_xlabel(f"{word} steps")


def in_caption(results: Results, panels: Sequence[Panel], until: Mapping[str, int] | None = None) -> str:
    """Return what the panels show, in words: statistic, actions, seeds, and which lines are exceptions."""
    manifest = results.manifest
    variants = list(dict.fromkeys(name for panel in panels for name in panel.variants))
    known = list(_exceptions(results, panels, until or {}))
    return (
        f"return of {acting(manifest, variants)}; {SUMMARIES[statistic_of(manifest)][1]}; "
        f"{manifest.seeds_each()} seeds each." + (f" Exceptions: {'; '.join(known)}." if known else "")
    )


def _exceptions(results: Results, panels: Sequence[Panel], until: Mapping[str, int]) -> Iterator[str]:
    """Yield how lines differ from what a reader expects: "ppo: trained to 500,000 steps, 1 diverged"."""
    manifest = results.manifest
    several = len({panel.env for panel in panels}) > 1
    cells = dict.fromkeys((panel.env, name) for panel in panels for name in panel.variants)
    for env, variant in cells:
        seeds, drawn = len(manifest.seeds_of(env, variant)), len(curves_of(results, env, variant))
        notes = [f"{drawn} of {seeds} seeds"] if drawn < seeds else [f"{seeds} seeds"] if manifest.seed_range else []
        steps = manifest.variants[variant].steps[env]
        if steps > until.get(env, steps):
            notes.append(f"trained to {steps:,} steps, shown to {until[env]:,}")
        notes += marks(results, env, variant)
        if notes:
            yield f"{manifest.label(variant)}{f' on {env}' if several else ''}: {', '.join(notes)}"


def acting(manifest: Manifest, variants: Collection[str]) -> str:
    """Return which actions' returns are drawn: "mean action (sql: sampled actions)"."""
    if any(manifest.variants[name].imported for name in variants):
        return "the imported protocol"
    by = [name for name in variants if scored_by(manifest, name) == "sample"]
    if len(by) == len(variants):
        return "sampled actions"
    return "mean action" + (f" ({', '.join(map(manifest.label, by))}: sampled actions)" if by else "")


def marks(results: Results, env: str, variant: str) -> list[str]:
    """Return how many of a variant's runs in an environment diverged and exploded: ["1 diverged"]; [] if none."""
    runs = rows_of(results.runs, env, variant)
    counts = {"diverged": (runs["status"] == "diverged").sum(), "exploded": runs["exploded"].notna().sum()}
    return [f"{count} {mark}" for mark, count in counts.items() if count]


def values_shown(axis: Axes) -> tuple[float, float]:
    """Return the lowest and highest value of an axis's lines and bands."""
    low, high = axis.dataLim.intervaly
    return (float(low), float(high)) if np.isfinite([low, high]).all() else (0.0, 1.0)
