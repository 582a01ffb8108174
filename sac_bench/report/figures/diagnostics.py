"""Why a variant does what it does: what was measured in its updates, against steps."""

from __future__ import annotations

from typing import Any

import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.algorithms import gradients
from sac_bench.algorithms.metric import Metric, names
from sac_bench.report.figures.style import line_style
from sac_bench.results.load import Results
from sac_bench.training.metrics import metrics

READING = (
    "Q of replayed pairs is a mean over updates; soft ones count entropy. Q less its Monte-Carlo return is a mean over "
    "the states of evaluation episodes after which the discounted return is known to 1% (sampled actions; of TD3 and "
    "DDPG mean ones), with the entropy that Q counts: above 0, Q overestimates; the return stands beside it. The "
    "gradient's variance is that of the policy's on one batch, summed over parameters, by both estimators and on equal "
    "axes, whichever trained. Runs recorded by earlier versions have neither."
)
ESTIMATORS = names(gradients.VARIANCES)
COLUMNS = 2


LABELS = {"run_id", "variant", "env", "seed", "step", "episodes", "return_mean"}
"""Columns of the training table that are no metrics."""


def measured(results: Results, env: str, variants: list[str]) -> list[str]:
    """Return the names of the metrics that some run of these variants has on an environment, in drawing order."""
    rows = results.training
    if not len(rows):
        return []
    numbers = rows[(rows["env"] == env) & rows["variant"].isin(variants)].select_dtypes("number")
    defined = metrics()
    undrawn = LABELS | {name for name, metric in defined.items() if not metric.drawn}
    shown = [name for name in numbers.columns if name not in undrawn and numbers[name].notna().any()]
    return sorted(shown, key=lambda name: list(defined).index(name) if name in defined else len(defined))


def why(results: Results, env: str, variants: list[str]) -> Figure:
    """A panel a metric, a line a variant."""
    drawn_names = measured(results, env, variants)
    rows = -(-len(drawn_names) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(3.8 * COLUMNS, 1.9 * rows + 0.8), squeeze=False, layout="constrained"
    )
    drawn: dict[str, Any] = {}
    for axis, name in zip(axes.flat, drawn_names, strict=False):
        for i, variant in enumerate(variants):
            _line(axis, metric_curves(results, env, variant, name), variant, line_style(i, variant, results.manifest))
        drawn |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        metric = _definition(name)
        _steps(axis)
        _values(axis, metric.scale)
        if metric.zero:
            low, high = axis.get_ylim()
            axis.set_ylim(min(low, 0), max(high, 0))
            axis.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        axis.tick_params(labelsize=7)
        axis.set_ylabel(metric.label, fontsize=8)
    _alike([axis for axis, name in zip(axes.flat, drawn_names, strict=False) if name in ESTIMATORS])
    for axis in axes.flat[len(drawn_names) :]:
        axis.set_visible(False)
    there = [variant for variant in variants if variant in drawn]
    columns = max(1, int(7.6 / (0.55 + 0.075 * max(map(len, there), default=0))))
    figure.legend(
        [drawn[name] for name in there], there, loc="outside upper center", ncols=columns, fontsize=8, frameon=False
    )
    figure.supxlabel("environment steps", fontsize=8)
    return figure


def _definition(name: str) -> Metric:
    """Return a metric's definition; an undeclared one is drawn under its name."""
    return metrics().get(name, Metric(name, name))


def metric_curves(results: Results, env: str, variant: str, name: str) -> pd.DataFrame:
    """Return a metric [seeds, steps] of a variant's runs as far as each went, in the environment's units of reward."""
    rows = results.training
    rows = rows[(rows["env"] == env) & (rows["variant"] == variant) & (rows["step"] > 0)]
    scale = results.manifest.option(variant, env, "reward_scale", 1.0)
    values = rows.assign(value=rows[name] / scale ** _definition(name).rewards)
    return values.pivot_table(index="seed", columns="step", values="value").replace([np.inf, -np.inf], np.nan)


def _line(axis: Axes, curves: pd.DataFrame, variant: str, style: dict[str, Any]) -> None:
    """Median and range over the seeds that are still there."""
    if curves.empty:
        return
    axis.plot(curves.columns, curves.median(), label=variant, **style)
    axis.fill_between(curves.columns, curves.min(), curves.max(), color=style["color"], alpha=0.12, linewidth=0)


def _steps(axis: Axes) -> None:
    """A logarithmic axis where a linear one would press short lines together."""
    ends = [float(np.max(np.asarray(line.get_xdata(), dtype=float))) for line in axis.lines]
    if ends and max(ends) > 4 * min(ends):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 3.0)))
        axis.minorticks_off()
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))


def _values(axis: Axes, wanted: str) -> None:
    """The lines fill the axis, bands are cut; logarithmic only where the lines span more than a factor of 30."""
    lines = _drawn(axis)
    size = np.abs(lines[lines != 0])
    if len(size) and size.max() > 30 * size.min():
        if wanted == "log" and (lines > 0).all():
            axis.set_yscale("log")
            axis.set_ylim(lines.min() / 2, 2 * lines.max())
            return
        if wanted == "symlog" and size.max() > 30 * np.median(size):
            axis.set_yscale("symlog", linthresh=10 ** np.ceil(np.log10(np.median(size))))
            return
    if len(lines):
        low, high = axis.get_ylim()
        margin = 0.4 * (np.ptp(lines) or abs(lines[0]) or 1.0)
        axis.set_ylim(max(low, lines.min() - margin), min(high, lines.max() + margin))


def _alike(axes: list[Axes]) -> None:
    """Axes to be compared: logarithmic, over the same values."""
    lines = np.concatenate([_drawn(axis) for axis in axes] or [np.zeros(0)])
    for axis in axes if len(lines) and (lines > 0).all() else []:
        axis.set_yscale("log")
        axis.set_ylim(lines.min() / 2, 2 * lines.max())


def _drawn(axis: Axes) -> np.ndarray:
    """The finite values of an axis's lines."""
    lines = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axis.lines] or [np.zeros(0)])
    return lines[np.isfinite(lines)]
