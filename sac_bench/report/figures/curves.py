"""Learning curves: return against steps."""

from __future__ import annotations

from collections.abc import Collection
from itertools import chain

import matplotlib.ticker
import pandas as pd
from matplotlib.figure import Figure

from sac_bench.analysis.scores import policy_rows, scored_by
from sac_bench.analysis.statistics import bootstrap_iqm
from sac_bench.report.figures.style import line_style, panel_grid, random_line
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.store.run import ENDED


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
            if count := diverged(results, env, variant):
                seeds += f", {count} diverged"
            middle, low, high = bootstrap_iqm(curves.to_numpy())
            style = line_style(i, variant, results.manifest)
            axis.plot(curves.columns, middle, label=f"{variant} ({seeds})", **style)
            axis.fill_between(curves.columns, low, high, color=style["color"], alpha=0.15, linewidth=0)
        random_line(axis, results.manifest, env)
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


def diverged(results: Results, env: str, variant: str) -> int:
    runs = results.runs
    return int(((runs["env"] == env) & (runs["variant"] == variant) & (runs["status"] == "diverged")).sum())
