"""Scores against the arithmetic of training, one point per variant."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib.figure import Figure

from sac_bench.analysis.compute import frontier
from sac_bench.report.figures.layout import panel_grid, shared_legend
from sac_bench.report.figures.style import PAGE, Style, random_line, variant_styles
from sac_bench.results.manifest import Manifest

FRONT = "Pareto front"


def pareto(table: pd.DataFrame, manifest: Manifest, style: Style = PAGE, envs: Sequence[str] | None = None) -> Figure:
    """Draw each variant's score with its 95% interval against its FLOPs, and the Pareto front, given compute.table.

    There is a panel for each environment, or for those in `envs`.
    """
    envs, styles = envs or manifest.envs, variant_styles(manifest)
    figure, axes = panel_grid(len(envs), style)
    for axis, env in zip(axes.flat, envs, strict=False):
        of_env = table[(table["env"] == env) & table["flops"].notna() & table["score"].notna()].sort_values("flops")
        best = of_env[frontier(of_env["flops"].to_numpy(), of_env["score"].to_numpy())]
        front = [*best["flops"], of_env["flops"].max()], [*best["score"], best["score"].max()]
        axis.plot(*front, color="0.6", linewidth=1.0, drawstyle="steps-post", label=FRONT)
        for row in of_env.to_dict("records"):
            color = styles[row["variant"]]["color"]
            axis.plot(row["flops"], row["score"], "D", color=color, markersize=5, label=row["variant"])
            axis.vlines(row["flops"], row["ci_low"], row["ci_high"], color=color, linewidth=1.3)
        random_line(axis, manifest, env)
        axis.set_xscale("log")
        axis.set_xlabel("FLOPs of acting and updating")
        if style.has_titles or len(envs) > 1:
            axis.set_title(env)
    for axis in axes[:, 0]:
        axis.set_ylabel("score at the end of training")
    names = {name: manifest.label(name) for name in manifest.variants}
    shared_legend(figure, style, names | {FRONT: FRONT, "random policy": "random policy"})
    return figure
