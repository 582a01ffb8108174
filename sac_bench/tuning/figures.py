"""Draws the figures of a study from study.json, as SVG and PNG."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from sac_bench.report.figures.style import PALETTE, house_style, write_figure

About = dict[str, Any]
"""The content of study.json (tuning/report.py)."""
PRUNED_STYLE: dict[str, Any] = {"color": "0.65", "marker": "x", "linestyle": "none", "markersize": 4.5}
COMPLETE_STYLE: dict[str, Any] = {"color": PALETTE[0], "marker": "o", "linestyle": "none", "markersize": 4.5}


def write_figures(about: About, folder: Path) -> list[Path]:
    """Write the figures that the trials allow so far, and return the PNG files in the order to show them."""
    folder.mkdir(parents=True, exist_ok=True)
    house_style()
    scored = [trial for trial in about["trials"] if trial["values"]]
    if not scored:
        return []
    figures = {"history": history(about), "rungs": rungs(about), "slices": slices(about)}
    if any(trial["state"] in ("PRUNED", "COMPLETE") for trial in scored):
        figures["cost"] = cost(about)
    if len(about["space"]) > 1:
        figures["parallel"] = parallel(about)
    if about["importances"]:
        figures["importances"] = importances(about)
    order = ["history", "importances", "slices", "parallel", "rungs", "cost"]
    return [write_figure(figures[name], folder / name) for name in order if name in figures]


def history(about: About) -> Figure:
    """Draw every trial's value by its number, the best so far, and the default's value."""
    figure, axis = plt.subplots(figsize=(5.6, 3.4), layout="constrained")
    complete = _of_state(about, "COMPLETE")
    pruned = [trial for trial in _of_state(about, "PRUNED") if trial["values"]]
    axis.plot(
        [t["number"] for t in pruned], [_last(t) for t in pruned], label="pruned, at its last rung", **PRUNED_STYLE
    )
    axis.plot([t["number"] for t in complete], [t["value"] for t in complete], label="complete", **COMPLETE_STYLE)
    if complete:
        so_far = np.maximum.accumulate([t["value"] for t in complete])
        axis.step(
            [t["number"] for t in complete], so_far, where="post", color="black", linewidth=1.2, label="best so far"
        )
    if about["verdict"]:
        axis.axhline(
            about["verdict"]["contenders"][0]["searched"], color="gray", linestyle="--", linewidth=0.9, label="default"
        )
    axis.set(xlabel="trial", ylabel=_value_label(about), title="history")
    axis.legend(fontsize=7)
    return figure


def importances(about: About) -> Figure:
    """Draw how important each option is."""
    shares = dict(sorted(about["importances"].items(), key=lambda item: item[1]))
    figure, axis = plt.subplots(figsize=(4.6, 0.32 * len(shares) + 1.2), layout="constrained")
    axis.barh(list(shares), list(shares.values()), color=PALETTE[0])
    axis.set(xlabel="share (PED-ANOVA over complete trials)", title="importance")
    return figure


def slices(about: About) -> Figure:
    """Draw the value against each searched option, with the default as a line."""
    names = list(about["space"])
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure, axes = plt.subplots(
        rows, columns, figsize=(3.1 * columns + 0.4, 2.6 * rows), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, name in zip(axes.flat, names, strict=False):
        place, ticks = _axis_of(about["space"][name])
        for state, style in (("PRUNED", PRUNED_STYLE), ("COMPLETE", COMPLETE_STYLE)):
            trials = [t for t in _of_state(about, state) if t["values"] and name in t["params"]]
            axis.plot([place(t["params"][name]) for t in trials], [_last(t) for t in trials], **style)
        if ticks is not None:
            axis.set_xticks(range(len(ticks)), ticks, fontsize=6.5)
        else:
            low, high = about["space"][name]["low"], about["space"][name]["high"]
            if about["space"][name].get("log"):
                axis.set_xscale("log")
                margin = (high / low) ** 0.04
                axis.set_xlim(low / margin, high * margin)
                ticks_at = [low, math.sqrt(low * high), high]
                axis.set_xticks(ticks_at, [f"{tick:.2g}" for tick in ticks_at])
                axis.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            else:
                axis.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
            axis.tick_params(labelsize=7)
        default = about["default"].get(name)
        if default is not None and (ticks is None or place(default) is not None):
            axis.axvline(place(default), color="gray", linestyle="--", linewidth=0.9)
        axis.set_xlabel(name)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel(_value_label(about), fontsize=7)
    figure.suptitle("complete trials (dots), pruned ones at their last rung (crosses); dashed: the default", fontsize=8)
    return figure


def parallel(about: About) -> Figure:
    """Draw one line per trial through its settings, coloured by its value, gray if it was pruned."""
    names = list(about["space"])
    figure, axis = plt.subplots(figsize=(1.35 * len(names) + 2.0, 3.6), layout="constrained")
    complete = sorted(_of_state(about, "COMPLETE"), key=lambda t: t["value"])
    for trial in _of_state(about, "PRUNED"):
        axis.plot(range(len(names)), _heights(about, trial), color="0.8", linewidth=0.6, zorder=1)
    if complete:
        norm = plt.Normalize(complete[0]["value"], complete[-1]["value"])
        for trial in complete:
            color = plt.get_cmap("viridis")(norm(trial["value"]))
            axis.plot(range(len(names)), _heights(about, trial), color=color, linewidth=1.3, zorder=2)
        figure.colorbar(plt.cm.ScalarMappable(norm, "viridis"), ax=axis, label=_value_label(about), pad=0.02)
    axis.set_xticks(range(len(names)), names, fontsize=7, rotation=20 if len(names) > 4 else 0)
    axis.set_yticks([])
    for i, name in enumerate(names):
        low, high = _ends(about["space"][name])
        axis.axvline(i, color="0.4", linewidth=0.7, zorder=0)
        axis.text(i, -0.03, low, ha="center", va="top", fontsize=6)
        axis.text(i, 1.03, high, ha="center", va="bottom", fontsize=6)
    axis.set_ylim(-0.12, 1.12)
    axis.set_title("parallel coordinates; gray: pruned", fontsize=9)
    return figure


def rungs(about: About) -> Figure:
    """Draw every trial's value at the rungs that it reached."""
    figure, axis = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
    for trial in about["trials"]:
        at = sorted((int(steps), value) for steps, value in trial["values"].items())
        kept = trial["state"] != "PRUNED"
        color, width = (PALETTE[0], 1.1) if kept else ("0.7", 0.8)
        axis.plot(*zip(*at, strict=True), color=color, linewidth=width, marker="o", markersize=3) if at else None
    for rung in about["stages"][:-1]:
        axis.axvline(rung, color="gray", linestyle=":", linewidth=0.8)
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axis.set(xlabel="steps of each run", ylabel=_value_label(about), title="rungs (gray: pruned)")
    return figure


def cost(about: About) -> Figure:
    """Draw the best value by the transitions used, and the transitions needed without pruning."""
    figure, axis = plt.subplots(figsize=(5.0, 3.4), layout="constrained")
    trials = [trial for trial in about["trials"] if trial["values"] and trial["state"] in ("PRUNED", "COMPLETE")]
    used = np.cumsum([trial["steps"] for trial in trials])
    best = np.fmax.accumulate([np.nan if t["value"] is None else t["value"] for t in trials])
    axis.step(used, best, where="post", color="black", label="best complete trial")
    whole = about["stages"][-1] * about["runs_per_trial"] * len(trials)
    axis.axvline(whole, color="gray", linestyle="--", linewidth=0.9, label="these trials without pruning")
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    saved = 1 - used[-1] / whole
    axis.set(
        xlabel="transitions trained, all trials in order",
        ylabel=_value_label(about),
        title=f"cost: {saved:.0%} saved by pruning",
    )
    axis.legend(fontsize=7)
    return figure


def _of_state(about: About, state: str) -> list[dict[str, Any]]:
    return [trial for trial in about["trials"] if trial["state"] == state]


def _last(trial: dict[str, Any]) -> float:
    """Return a trial's value at its last rung or the end."""
    return float(trial["values"][max(trial["values"], key=int)])


def _value_label(about: About) -> str:
    return str(about["value_means"])


def _axis_of(dimension: dict[str, Any]) -> tuple[Any, list[str] | None]:
    """Return (function from a value to its position on an axis, names of the ticks for a choice or None)."""
    if "choices" not in dimension:
        return (lambda value: value), None
    labels = [_label(choice) for choice in dimension["choices"]]
    return (lambda value: labels.index(_label(value)) if _label(value) in labels else None), labels


def _heights(about: About, trial: dict[str, Any]) -> list[float]:
    """Return a trial's settings, each scaled to the range from 0 to 1."""
    heights = []
    for name, dimension in about["space"].items():
        value = trial["params"].get(name)
        if "choices" in dimension:
            place, ticks = _axis_of(dimension)
            heights.append((place(value) or 0) / max(1, len(ticks or []) - 1))
        else:
            scale = math.log if dimension.get("log") else float
            low, high = scale(dimension["low"]), scale(dimension["high"])
            heights.append((scale(value) - low) / (high - low) if value is not None else math.nan)
    return heights


def _ends(dimension: dict[str, Any]) -> tuple[str, str]:
    ends = dimension["choices"] if "choices" in dimension else [dimension["low"], dimension["high"]]
    return _label(ends[0]), _label(ends[-1])


def _label(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(_label, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
