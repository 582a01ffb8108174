"""Draws the figures of a study from its record, as SVG and PNG.

Optuna's own plots need its storage, which a report does without, and do not know rungs or the default.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.ticker
import numpy as np
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from sac_bench.report.figures.layout import subplots
from sac_bench.report.figures.style import PALETTE, house_style, write_figure
from sac_bench.tuning.record import SearchedOption, StudyRecord, TrialRecord

PRUNED_STYLE: dict[str, Any] = {"color": "0.65", "marker": "x", "linestyle": "none", "markersize": 4.5}
COMPLETE_STYLE: dict[str, Any] = {"color": PALETTE[0], "marker": "o", "linestyle": "none", "markersize": 4.5}


def write_figures(study: StudyRecord, folder: Path) -> list[Path]:
    """Write the figures that the trials allow so far, and return the PNG files in the order to show them."""
    folder.mkdir(parents=True, exist_ok=True)
    house_style()
    scored = [trial for trial in study.trials if trial.values]
    if not scored:
        return []
    figures = {"history": history(study), "rungs": rungs(study), "slices": slices(study)}
    if any(trial.state in ("PRUNED", "COMPLETE") for trial in scored):
        figures["cost"] = cost(study)
    if len(study.space) > 1:
        figures["parallel"] = parallel(study)
    if study.importances:
        figures["importances"] = importances(study)
    order = ["history", "importances", "slices", "parallel", "rungs", "cost"]
    return [write_figure(figures[name], folder / name) for name in order if name in figures]


def history(study: StudyRecord) -> Figure:
    """Draw every trial's value by its number, the best so far, and the default's value."""
    figure, ((axis,),) = subplots(1, 1, (5.6, 3.4))
    complete = _of_state(study, "COMPLETE")
    pruned = [trial for trial in _of_state(study, "PRUNED") if trial.values]
    axis.plot([t.number for t in pruned], [t.last for t in pruned], label="pruned, at its last rung", **PRUNED_STYLE)
    axis.plot([t.number for t in complete], [t.last for t in complete], label="complete", **COMPLETE_STYLE)
    if complete:
        so_far = np.maximum.accumulate([t.last for t in complete])
        axis.step([t.number for t in complete], so_far, where="post", color="black", linewidth=1.2, label="best so far")
    if study.verdict:
        axis.axhline(study.verdict.contenders[0].searched, color="gray", linestyle="--", linewidth=0.9, label="default")
    axis.set(xlabel="trial", ylabel=study.value_means, title="history")
    axis.legend(fontsize=7)
    return figure


def importances(study: StudyRecord) -> Figure:
    """Draw how important each option is."""
    shares = dict(sorted(study.importances.items(), key=lambda item: item[1]))
    figure, ((axis,),) = subplots(1, 1, (4.6, 0.32 * len(shares) + 1.2))
    axis.barh(list(shares), list(shares.values()), color=PALETTE[0])
    axis.set(xlabel="share (PED-ANOVA over complete trials)", title="importance")
    return figure


def slices(study: StudyRecord) -> Figure:
    """Draw the value against each searched option, with the default as a line."""
    names = list(study.space)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure, axes = subplots(rows, columns, (3.1 * columns + 0.4, 2.6 * rows), sharey=True)
    for axis, name in zip(axes.flat, names, strict=False):
        place, ticks = _axis_of(study.space[name])
        for state, style in (("PRUNED", PRUNED_STYLE), ("COMPLETE", COMPLETE_STYLE)):
            trials = [t for t in _of_state(study, state) if t.values and name in t.params]
            axis.plot([place(t.params[name]) for t in trials], [t.last for t in trials], **style)
        if ticks is not None:
            axis.set_xticks(range(len(ticks)), ticks, fontsize=6.5)
        else:
            low, high = study.space[name].low, study.space[name].high
            if study.space[name].log:
                axis.set_xscale("log")
                margin = (high / low) ** 0.04
                axis.set_xlim(low / margin, high * margin)
                ticks_at = [low, math.sqrt(low * high), high]
                axis.set_xticks(ticks_at, [f"{tick:.2g}" for tick in ticks_at])
                axis.xaxis.set_minor_formatter(matplotlib.ticker.NullFormatter())
            else:
                axis.set_xlim(low - 0.04 * (high - low), high + 0.04 * (high - low))
            axis.tick_params(labelsize=7)
        default = study.default.get(name)
        if default is not None and (ticks is None or place(default) is not None):
            axis.axvline(place(default), color="gray", linestyle="--", linewidth=0.9)
        axis.set_xlabel(name)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel(study.value_means, fontsize=7)
    figure.suptitle("complete trials (dots), pruned ones at their last rung (crosses); dashed: the default", fontsize=8)
    return figure


def parallel(study: StudyRecord) -> Figure:
    """Draw one line per trial through its settings, coloured by its value, gray if it was pruned."""
    names = list(study.space)
    figure, ((axis,),) = subplots(1, 1, (1.35 * len(names) + 2.0, 3.6))
    complete = sorted(_of_state(study, "COMPLETE"), key=lambda t: t.last)
    for trial in _of_state(study, "PRUNED"):
        axis.plot(range(len(names)), _heights(study, trial), color="0.8", linewidth=0.6, zorder=1)
    if complete:
        norm = Normalize(complete[0].last, complete[-1].last)
        for trial in complete:
            color = matplotlib.colormaps["viridis"](norm(trial.last))
            axis.plot(range(len(names)), _heights(study, trial), color=color, linewidth=1.3, zorder=2)
        figure.colorbar(ScalarMappable(norm, "viridis"), ax=axis, label=study.value_means, pad=0.02)
    axis.set_xticks(range(len(names)), names, fontsize=7, rotation=20 if len(names) > 4 else 0)
    axis.set_yticks([])
    for i, name in enumerate(names):
        low, high = _ends(study.space[name])
        axis.axvline(i, color="0.4", linewidth=0.7, zorder=0)
        axis.text(i, -0.03, low, ha="center", va="top", fontsize=6)
        axis.text(i, 1.03, high, ha="center", va="bottom", fontsize=6)
    axis.set_ylim(-0.12, 1.12)
    axis.set_title("parallel coordinates; gray: pruned", fontsize=9)
    return figure


def rungs(study: StudyRecord) -> Figure:
    """Draw every trial's value at the rungs that it reached."""
    figure, ((axis,),) = subplots(1, 1, (5.0, 3.4))
    for trial in study.trials:
        at = sorted(trial.values.items())
        kept = trial.state != "PRUNED"
        color, width = (PALETTE[0], 1.1) if kept else ("0.7", 0.8)
        axis.plot(*zip(*at, strict=True), color=color, linewidth=width, marker="o", markersize=3) if at else None
    for rung in study.stages[:-1]:
        axis.axvline(rung, color="gray", linestyle=":", linewidth=0.8)
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    axis.set(xlabel="steps of each run", ylabel=study.value_means, title="rungs (gray: pruned)")
    return figure


def cost(study: StudyRecord) -> Figure:
    """Draw the best value by the transitions used, and the transitions needed without pruning."""
    figure, ((axis,),) = subplots(1, 1, (5.0, 3.4))
    trials = [trial for trial in study.trials if trial.values and trial.state in ("PRUNED", "COMPLETE")]
    used = np.cumsum([trial.steps for trial in trials])
    best = np.fmax.accumulate([t.last if t.state == "COMPLETE" else np.nan for t in trials])
    axis.step(used, best, where="post", color="black", label="best complete trial")
    whole = study.stages[-1] * study.runs_per_trial * len(trials)
    axis.axvline(whole, color="gray", linestyle="--", linewidth=0.9, label="these trials without pruning")
    axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
    saved = 1 - used[-1] / whole
    axis.set(
        xlabel="transitions trained, all trials in order",
        ylabel=study.value_means,
        title=f"cost: {saved:.0%} saved by pruning",
    )
    axis.legend(fontsize=7)
    return figure


def _of_state(study: StudyRecord, state: str) -> list[TrialRecord]:
    return [trial for trial in study.trials if trial.state == state]


def _axis_of(option: SearchedOption) -> tuple[Any, list[str] | None]:
    """Return (function from a value to its position on an axis, names of the ticks for a choice or None)."""
    if not option.choices:
        return (lambda value: value), None
    labels = [_label(choice) for choice in option.choices]
    return (lambda value: labels.index(_label(value)) if _label(value) in labels else None), labels


def _heights(study: StudyRecord, trial: TrialRecord) -> list[float]:
    """Return a trial's settings, each scaled to the range from 0 to 1."""
    heights = []
    for name, option in study.space.items():
        value = trial.params.get(name)
        if option.choices:
            place, ticks = _axis_of(option)
            heights.append((place(value) or 0) / max(1, len(ticks or []) - 1))
        else:
            scale = math.log if option.log else float
            low, high = scale(option.low), scale(option.high)
            heights.append((scale(value) - low) / (high - low) if value is not None else math.nan)
    return heights


def _ends(option: SearchedOption) -> tuple[str, str]:
    ends = option.choices or (option.low, option.high)
    return _label(ends[0]), _label(ends[-1])


def _label(value: Any) -> str:
    if isinstance(value, list):
        return "x".join(map(_label, value))
    return str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
