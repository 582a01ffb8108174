"""Why a variant does what it does: what was measured in its updates, against steps."""

from __future__ import annotations

from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import matplotlib.ticker
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sac_bench.report.figures.style import line_style
from sac_bench.results.load import Results

READING = (
    "Q of replayed pairs is a mean over updates; soft ones count entropy. Q less its Monte-Carlo return is a mean over "
    "the states of evaluation episodes after which the discounted return is known to 1% (sampled actions; of TD3 and "
    "DDPG mean ones), with the entropy that Q counts: above 0, Q overestimates; the return stands beside it. The "
    "gradient's variance is that of the policy's on one batch, summed over parameters, by both estimators and on equal "
    "axes, whichever trained. Runs recorded by earlier versions have neither."
)
ESTIMATORS = ("gradient_variance_reparameterised", "gradient_variance_score_function")
COLUMNS = 2


class Metric(NamedTuple):
    """How a column of the training table is drawn."""

    label: str
    scale: str = "linear"
    rewards: int = 0
    """It is in units of the scaled reward to this power, and is shown in the environment's own."""
    zero: bool = False
    """Its axis shows where zero is."""


METRICS = {
    "temperature": Metric("temperature", "log"),
    "entropy": Metric("entropy of the policy\n(nats)"),
    "saturation": Metric("share of actions\nbeyond 0.99"),
    "q": Metric("Q of replayed pairs\n(units of return)", "symlog", 1),
    "q_bias": Metric("Q less Monte-Carlo return\n(units of return)", "symlog", 1, zero=True),
    "monte_carlo": Metric("Monte-Carlo return\n(discounted)", "symlog", 1),
    "gradient_variance_reparameterised": Metric("gradient's variance\nif reparameterised", "log", 2),
    "gradient_variance_score_function": Metric("gradient's variance\nby score function", "log", 2),
    "v": Metric("V of replayed states\n(units of return)", "symlog", 1),
    "soft_value": Metric("soft V, next states\n(units of return)", "symlog", 1),
    "critic_loss": Metric("critic loss\n(units of return²)", "log", 2),
    "value_loss": Metric("value loss\n(its own units)", "log"),
    "approx_kl": Metric("KL of an update", "log"),
    "clip_fraction": Metric("share of ratios clipped"),
    "advantage_std": Metric("spread of advantages"),
    "bandwidth": Metric("kernel's bandwidth", "log"),
}
"""In the order in which they are shown; a metric of one's own algorithm comes after them."""
LEFT_OUT = {
    "run_id",
    "variant",
    "env",
    "seed",
    "step",
    "episodes",
    "return_mean",
    "q_target",
    "actor_loss",
    "policy_loss",
    "temperature_loss",
    "loss",
    "value",
    "stopped",
    "gradient_squared_norm",
}
"""Of little use beside the others; all of it is in training.csv."""


def measured(results: Results, env: str, variants: list[str]) -> list[str]:
    """The metrics that some run of these variants has on an environment, in order."""
    rows = results.training
    if not len(rows):
        return []
    numbers = rows[(rows["env"] == env) & rows["variant"].isin(variants)].select_dtypes("number")
    there = [name for name in numbers.columns if name not in LEFT_OUT and numbers[name].notna().any()]
    return sorted(there, key=lambda name: list(METRICS).index(name) if name in METRICS else len(METRICS))


def why(results: Results, env: str, variants: list[str]) -> Figure:
    """A panel a metric, a line a variant."""
    names = measured(results, env, variants)
    rows = -(-len(names) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(3.8 * COLUMNS, 1.9 * rows + 0.8), squeeze=False, layout="constrained"
    )
    drawn: dict[str, Any] = {}
    for axis, name in zip(axes.flat, names, strict=False):
        for i, variant in enumerate(variants):
            _line(axis, metric_curves(results, env, variant, name), variant, line_style(i, variant, results.manifest))
        drawn |= {label: handle for handle, label in zip(*axis.get_legend_handles_labels(), strict=True)}
        metric = METRICS.get(name, Metric(name))
        _steps(axis)
        _values(axis, metric.scale)
        if metric.zero:
            low, high = axis.get_ylim()
            axis.set_ylim(min(low, 0), max(high, 0))
            axis.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        axis.tick_params(labelsize=7)
        axis.set_ylabel(metric.label, fontsize=8)
    _alike([axis for axis, name in zip(axes.flat, names, strict=False) if name in ESTIMATORS])
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    there = [variant for variant in variants if variant in drawn]
    columns = max(1, int(7.6 / (0.55 + 0.075 * max(map(len, there), default=0))))
    figure.legend(
        [drawn[name] for name in there], there, loc="outside upper center", ncols=columns, fontsize=8, frameon=False
    )
    figure.supxlabel("environment steps", fontsize=8)
    return figure


def metric_curves(results: Results, env: str, variant: str, name: str) -> pd.DataFrame:
    """A metric [seeds, steps] of a variant's runs as far as each went, in the environment's units of reward."""
    rows = results.training
    rows = rows[(rows["env"] == env) & (rows["variant"] == variant) & (rows["step"] > 0)]
    scale = results.manifest.option(variant, env, "reward_scale", 1.0)
    values = rows.assign(value=rows[name] / scale ** METRICS.get(name, Metric(name)).rewards)
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
