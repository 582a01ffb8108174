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
from sac_bench.store.status import ENDED


def learning_curves(results: Results, env: str, groups: dict[str, list[str]]) -> Figure:
    """Draw the IQM over seeds of each variant's return, with its 95% bootstrap interval: one panel per group.

    Diverged runs continue with the return of a random policy. Unfinished runs are drawn up to the steps that all seeds
    have reached.
    """
    figure, axes = panel_grid(len(groups), 3.4)
    for axis, (title, variants) in zip(axes.flat, groups.items(), strict=False):
        for i, variant in enumerate(variants):
            curves, requested = curves_of(results, env, variant), len(results.manifest.seeds_of(env, variant))
            if curves.empty:
                continue
            seeds = f"n={len(curves)}" if len(curves) == requested else f"n={len(curves)} of {requested}"
            seeds = ", ".join([seeds, *marks(results, env, variant)])
            middle, low, high = bootstrap_iqm(curves.to_numpy())
            style = line_style(i, variant, results.manifest)
            axis.plot(curves.columns, middle, label=f"{variant} ({seeds})", **style)
            axis.fill_between(curves.columns, low, high, color=style["color"], alpha=0.15, linewidth=0)
        random_line(axis, results.manifest, env)
        axis.set(title=f"{env}: {title}", xlabel="environment steps")
        axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        axis.legend(fontsize=7, loc="upper left")
    actions = acting(results.manifest, list(chain.from_iterable(groups.values())))
    for axis in axes[:, 0]:
        axis.set_ylabel(f"return, {actions}\n(IQM over seeds, 95% bootstrap CI)")
    return figure


def acting(manifest: Manifest, variants: Collection[str]) -> str:
    """Return which actions' returns are drawn: "mean action (sql: sampled actions)"."""
    by = [name for name in variants if scored_by(manifest, name) == "sample"]
    if len(by) == len(variants):
        return "sampled actions"
    return "mean action" + (f" ({', '.join(by)}: sampled actions)" if by else "")


def curves_of(results: Results, env: str, variant: str) -> pd.DataFrame:
    """Return the returns [seeds, steps] of a variant's runs that count, or of all runs if none counts yet."""
    evaluations, runs = (_of(table, env, variant) for table in (results.evaluations, results.runs.set_index("seed")))
    rows = policy_rows(evaluations, scored_by(results.manifest, variant))
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
    if results.manifest.reached:  # only runs that count have rows
        return curves.dropna(axis=1)
    entered = curves.index[runs.loc[curves.index, "status"].isin(ENDED)]
    return (curves.loc[entered] if len(entered) else curves).dropna(axis=1)


def marks(results: Results, env: str, variant: str) -> list[str]:
    """Return how many of a variant's runs in an environment diverged and exploded: ["1 diverged"]; [] if none."""
    runs = _of(results.runs, env, variant)
    counts = {"diverged": (runs["status"] == "diverged").sum(), "exploded": runs["exploded"].notna().sum()}
    return [f"{count} {mark}" for mark, count in counts.items() if count]


def _of(table: pd.DataFrame, env: str, variant: str) -> pd.DataFrame:
    return table[(table["env"] == env) & (table["variant"] == variant)]
