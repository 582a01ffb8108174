"""Diagnostics: the metrics of a variant's updates against steps."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.options.metric import GRADIENT_VARIANCES, Metric, names
from sac_bench.report.figures.layout import panel_grid, shared_legend
from sac_bench.report.figures.pages import pages_of
from sac_bench.report.figures.style import PAGE, Style, ticks, variant_styles
from sac_bench.results.cells import rows_of
from sac_bench.results.load import Results
from sac_bench.training.metrics import RETIRED, metrics

READING = (
    "Q of replayed pairs is a mean over updates; a soft Q includes entropy. Q minus its Monte Carlo return is measured "
    "in evaluation episodes, whose actions are those that Q values, sampled or mean. A state counts if it is so early "
    "that the time limit hides at most 1% of the discounted return, however the episode ends. Mean and spread "
    "(standard deviation over states) of the difference are divided by the size of the mean return, as in REDQ "
    "(arXiv 2101.05982). The return includes the entropy that Q includes and is shown next to them. If the mean is "
    "above 0, Q overestimates. The variance of the policy's gradient is measured on one batch, summed over parameters "
    "and shown for both estimators on equal axes, whichever one trained. Runs of earlier versions lack some of these "
    "panels."
)
ESTIMATORS = names(GRADIENT_VARIANCES)
MIN_PANEL_WIDTH = 0.74
"""The least width of a panel as a share of a learning curve's."""
LABELS = {"run_id", "variant", "env", "seed", "step", "episodes", "return_mean"}
"""Columns of the training table that are not metrics."""


def measured(results: Results, env: str, variants: list[str]) -> list[str]:
    """Return the names of the metrics that some run of these variants has on an environment, in drawing order."""
    if not len(results.training):
        return []
    numbers = pd.concat([rows_of(results.training, env, name) for name in variants]).select_dtypes("number")
    defined = metrics()
    undrawn = LABELS | {*RETIRED} | {name for name, metric in defined.items() if not metric.drawn}
    shown = [name for name in numbers.columns if name not in undrawn and numbers[name].notna().any()]
    return sorted(shown, key=lambda name: list(defined).index(name) if name in defined else len(defined))


def pages(results: Results, env: str, variants: list[str], style: Style) -> list[list[str]]:
    """Return the names of the `measured` metrics, by figure."""
    labels = [results.manifest.label(name) for name in variants]
    return pages_of(measured(results, env, variants), lambda _: labels, style, MIN_PANEL_WIDTH * style.panel)


def diagnostics(
    results: Results, env: str, variants: list[str], style: Style = PAGE, names: Sequence[str] | None = None
) -> Figure:
    """Draw all `measured` metrics, or some: one panel per metric, one line per variant."""
    drawn_names, styles = names or measured(results, env, variants), variant_styles(results.manifest)
    figure, axes = panel_grid(len(drawn_names), style, 0.62, least=MIN_PANEL_WIDTH * style.panel)
    for axis, name in zip(axes.flat, drawn_names, strict=False):
        for variant in variants:
            _line(axis, metric_curves(results, env, variant, name), variant, styles[variant])
        metric = _definition(name)
        _steps(axis)
        _values(axis, metric.scale)
        if metric.zero:
            low, high = axis.get_ylim()
            axis.set_ylim(min(low, 0), max(high, 0))
            axis.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        width = int(1.6 * axis.get_window_extent().width / figure.dpi * 72 / style.small)
        axis.set_title(textwrap.fill(metric.label, width), fontsize=style.small)
    _equalise([axis for axis, name in zip(axes.flat, drawn_names, strict=False) if name in ESTIMATORS])
    for axis in axes.flat[max(0, len(drawn_names) - axes.shape[1]) : len(drawn_names)]:
        axis.set_xlabel("environment steps", fontsize=style.small)
    shared_legend(figure, style, {name: results.manifest.label(name) for name in variants})
    return figure


def _definition(name: str) -> Metric:
    """Return a metric's definition; an undeclared metric is labelled by its name."""
    return metrics().get(name, Metric(name, name))


def metric_curves(results: Results, env: str, variant: str, name: str) -> pd.DataFrame:
    """Return a metric [seeds, steps] of a variant's runs up to their last steps, in the environment's reward units."""
    rows = rows_of(results.training, env, variant)
    rows = rows[rows["step"] > 0]
    scale = results.manifest.option(variant, env, "reward_scale", 1.0)
    values = rows.assign(value=rows[name] / scale ** _definition(name).rewards)
    return values.pivot_table(index="seed", columns="step", values="value").replace([np.inf, -np.inf], np.nan)


def _line(axis: Axes, curves: pd.DataFrame, variant: str, style: dict[str, Any]) -> None:
    """Draw the median and range over the seeds that have a value at each step."""
    if curves.empty:
        return
    marker = "o" if len(curves.columns) == 1 else None  # a line needs two points
    axis.plot(curves.columns, curves.median(), label=variant, marker=marker, markersize=3.5, **style)
    axis.fill_between(curves.columns, curves.min(), curves.max(), color=style["color"], alpha=0.12, linewidth=0)


def _steps(axis: Axes) -> None:
    """Format the axis of steps: logarithmic if a linear one would compress short lines."""
    ends = [float(np.max(np.asarray(line.get_xdata(), dtype=float))) for line in axis.lines]
    if ends and max(ends) > 4 * min(ends):
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 3.0)))
        axis.minorticks_off()
    elif ends:
        axis.set_xlim(0, 1.03 * max(ends))
        axis.xaxis.set_major_locator(ticks(4))
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))


def _values(axis: Axes, scale: str) -> None:
    """Fit the axis of values to the lines, not the bands; logarithmic only if the lines span a factor above 30."""
    lines = _drawn(axis)
    size = np.abs(lines[lines != 0])
    if len(size) and size.max() > 30 * size.min():
        if scale == "log" and (lines > 0).all():
            axis.set_yscale("log")
            axis.set_ylim(lines.min() / 2, 2 * lines.max())
            return
        if scale == "symlog" and size.max() > 30 * np.median(size):
            axis.set_yscale("symlog", linthresh=10 ** np.ceil(np.log10(np.median(size))))
            end, limits = 10 ** np.floor(np.log10(size.max())), axis.get_ylim()
            axis.set_yticks([-end, 0, end])  # more would be printed over each other
            axis.set_ylim(limits)
            return
    if len(lines):
        low, high = axis.get_ylim()
        margin = 0.4 * (np.ptp(lines) or abs(lines[0]) or 1.0)
        axis.set_ylim(max(low, lines.min() - margin), min(high, lines.max() + margin))


def _equalise(axes: list[Axes]) -> None:
    """Make axes comparable: logarithmic, over the same values."""
    lines = np.concatenate([_drawn(axis) for axis in axes] or [np.zeros(0)])
    for axis in axes if len(lines) and (lines > 0).all() else []:
        axis.set_yscale("log")
        axis.set_ylim(lines.min() / 2, 2 * lines.max())


def _drawn(axis: Axes) -> np.ndarray:
    """Return the finite values of an axis's lines."""
    lines = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in axis.lines] or [np.zeros(0)])
    return lines[np.isfinite(lines)]
