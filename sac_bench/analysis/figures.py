"""Figures of an experiment's results, as SVG and PNG."""

from __future__ import annotations

import io
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

from sac_bench.analysis.statistics import bootstrap_iqm, mean_interval
from sac_bench.analysis.tables import scores
from sac_bench.files import write_atomically
from sac_bench.results import Results
from sac_bench.store import ENDED

PALETTE = sns.color_palette("colorblind")
REFERENCE = {"color": "black", "linewidth": 1.8}


def write_figures(results: Results, about: dict[str, Any], folder: Path) -> list[Path]:
    """All figures an experiment's results allow; returns the PNG files in the order to show them."""
    folder.mkdir(parents=True, exist_ok=True)
    sns.set_theme(style="whitegrid", context="paper", rc={"svg.hashsalt": "sac_bench", "figure.dpi": 150})
    paths = []
    for env in about["envs"]:
        if len(results.evaluations) and (results.evaluations["env"] == env).any():
            paths.append(_write(learning_curves(results, about, env), folder / f"curves-{_slug(env)}"))
    table = scores(results, about)
    if table["score"].notna().any():
        paths.append(_write(final_scores(table, about), folder / "final"))
        for key in sweeps(about):
            paths.append(_write(sensitivity(table, about, key), folder / f"sensitivity-{_slug(key)}"))
    return paths


def sweeps(about: dict[str, Any]) -> dict[str, dict[str, float]]:
    """{swept key: {variant: value}}, the reference included where its value is a number."""
    found: dict[str, dict[str, float]] = {}
    for name, variant in about["variants"].items():
        if variant["swept"]:
            key, value = variant["swept"]
            found.setdefault(key, {})[name] = value
    for key, values in found.items():
        own = of_reference(about, key)
        if isinstance(own, (int, float)) and own not in values.values():
            values[about["reference"]] = float(own)
    return found


def of_reference(about: dict[str, Any], key: str) -> Any:
    """An option of the reference, on the first environment."""
    return about["config"].get(about["reference"], {}).get(about["envs"][0], {}).get(key)


def panels(about: dict[str, Any]) -> dict[str, list[str]]:
    """{title: variants}: one panel for the named variants, one for every swept key, the reference in each."""
    swept = sweeps(about)
    named = [name for name, v in about["variants"].items() if not v["swept"]]
    groups = {"variants": named} if len(named) > 1 or not swept else {}
    for key, values in swept.items():
        groups[key] = sorted((n for n in values if n != about["reference"]), key=lambda n: values[n])
    return {title: [about["reference"], *(n for n in names if n != about["reference"])]
            for title, names in groups.items()}  # fmt: skip


def learning_curves(results: Results, about: dict[str, Any], env: str) -> Figure:
    """Return of the mean action against steps: IQM over seeds and its 95% bootstrap interval.

    Diverged runs go on with the return of a random policy; of unfinished ones only what all seeds have reached counts.
    """
    groups = panels(about)
    figure, axes = plt.subplots(1, len(groups), figsize=(4.2 * len(groups) + 0.4, 3.4), sharey=True, squeeze=False,
                                layout="constrained")  # fmt: skip
    for axis, (title, variants) in zip(axes[0], groups.items(), strict=True):
        for i, variant in enumerate(variants):
            curves, asked = curves_of(results, about, env, variant), len(about["seeds"])
            if curves.empty:
                continue
            seeds = f"n={len(curves)}" if len(curves) == asked else f"n={len(curves)} of {asked}"
            if diverged := _diverged(results, env, variant):
                seeds += f", {diverged} diverged"
            middle, low, high = bootstrap_iqm(curves.to_numpy())
            style = REFERENCE if variant == about["reference"] else {"color": PALETTE[i % 10], "linewidth": 1.2}
            axis.plot(curves.columns, middle, label=f"{variant} ({seeds})", **style)
            axis.fill_between(curves.columns, low, high, color=style["color"], alpha=0.15, linewidth=0)
        _random_line(axis, about, env)
        axis.set(title=f"{env}: {title}", xlabel="environment steps")
        axis.xaxis.set_major_formatter(matplotlib.ticker.EngFormatter(sep=""))
        axis.legend(fontsize=7, loc="upper left")
    axes[0][0].set_ylabel("return, mean action\n(IQM over seeds, 95% bootstrap CI)")
    return figure


def curves_of(results: Results, about: dict[str, Any], env: str, variant: str) -> pd.DataFrame:
    """Returns of the mean action [seeds, steps] of the runs that enter the table; of all where none does yet."""
    mine = lambda table: table[(table["env"] == env) & (table["variant"] == variant)]
    rows, runs = mine(results.evaluations), mine(results.runs).set_index("seed")
    curves = rows[rows["policy"] == "mean"].pivot_table(index="seed", columns="step", values="return_mean")
    random = about["random"].get(env, {}).get("return_mean", np.nan)
    diverged = curves.index[runs.loc[curves.index, "status"] == "diverged"]
    if len(diverged):
        all_steps = results.evaluations.loc[results.evaluations["env"] == env, "step"].unique()
        curves = curves.reindex(columns=sorted(s for s in all_steps if s <= about["variants"][variant]["steps"][env]))
    for seed in diverged:
        curves.loc[seed, curves.columns > runs.loc[seed, "steps"]] = random
    entered = curves.index[runs.loc[curves.index, "status"].isin(ENDED)]
    return (curves.loc[entered] if len(entered) else curves).dropna(axis=1)


def _diverged(results: Results, env: str, variant: str) -> int:
    runs = results.runs
    return int(((runs["env"] == env) & (runs["variant"] == variant) & (runs["status"] == "diverged")).sum())


def final_scores(table: pd.DataFrame, about: dict[str, Any]) -> Figure:
    """Every variant's score: mean and 95% t interval, and every seed as a dot."""
    variants, envs = list(about["variants"]), about["envs"]
    figure, axes = plt.subplots(1, len(envs), figsize=(4.6 * len(envs) + 0.6, 0.32 * len(variants) + 1.2), sharey=True,
                                squeeze=False, layout="constrained")  # fmt: skip
    for axis, env in zip(axes[0], envs, strict=True):
        of_env = table[table["env"] == env]
        for y, variant in enumerate(variants):
            values = of_env.loc[of_env["variant"] == variant, "score"].dropna()
            estimate = mean_interval(values)
            color = "black" if variant == about["reference"] else PALETTE[0]
            axis.plot(values, [y] * len(values), "o", color=color, alpha=0.35, markersize=3.5)
            axis.plot(estimate.value, y, "D", color=color, markersize=5)
            axis.hlines(y, estimate.low, estimate.high, color=color, linewidth=1.5)
            if len(values) < len(about["seeds"]):
                entered = f"{len(values)} of {len(about['seeds'])} seeds"
                across = axis.get_yaxis_transform()
                axis.text(0.99, y, entered, transform=across, ha="right", va="bottom", fontsize=6)
        reference = of_env.loc[of_env["variant"] == about["reference"], "score"].mean()
        if np.isfinite(reference):
            axis.axvline(reference, color="black", linewidth=0.8, linestyle="--")
        _random_line(axis, about, env, vertical=True)
        low, high = of_env["score"].min(), of_env["score"].max()
        margin = 0.35 * (high - low or 1.0)
        if np.isfinite(margin):  # the widest intervals of few seeds are cut, the dots never
            axis.set_xlim(low - margin, high + margin)
        axis.set(title=env, xlabel="score: mean, 95% t interval, one dot a seed")
    axes[0][0].set_yticks(range(len(variants)), variants)
    axes[0][0].invert_yaxis()
    return figure


def sensitivity(table: pd.DataFrame, about: dict[str, Any], key: str) -> Figure:
    """Score against one swept number: mean and 95% t interval over seeds, dots for seeds."""
    values = dict(sorted(sweeps(about)[key].items(), key=lambda item: item[1]))
    figure, axis = plt.subplots(figsize=(4.6, 3.4), layout="constrained")
    for i, env in enumerate(about["envs"]):
        of_env = table[table["env"] == env]
        per_value = [of_env.loc[of_env["variant"] == variant, "score"].dropna() for variant in values]
        estimates = [mean_interval(scores_) for scores_ in per_value]
        at = np.array(list(values.values()))
        middle = np.array([e.value for e in estimates])
        spread = np.nan_to_num([[e.value - e.low, e.high - e.value] for e in estimates]).T
        axis.errorbar(at, middle, yerr=spread, color=PALETTE[i % 10], marker="D", markersize=4, capsize=2, label=env)
        for x, seeds in zip(at, per_value, strict=True):
            axis.plot([x] * len(seeds), seeds, "o", color=PALETTE[i % 10], alpha=0.35, markersize=3.5)
            if 0 < len(seeds) < len(about["seeds"]):
                axis.annotate(f" {len(seeds)} of {len(about['seeds'])}", (x, seeds.max()), fontsize=6)
    if at.min() > 0 and at.max() / at.min() > 20:
        axis.set_xscale("log")
    own = of_reference(about, key)
    if isinstance(own, (int, float)):
        axis.axvline(own, color="black", linewidth=0.8, linestyle="--", label=f"reference: {own:g}")
    axis.set(title=f"sensitivity to {key}", xlabel=key, ylabel="score: mean, 95% t interval")
    axis.legend(fontsize=7)
    return figure


def _random_line(axis: Axes, about: dict[str, Any], env: str, vertical: bool = False) -> None:
    random = about["random"].get(env)
    if random:
        line = axis.axvline if vertical else axis.axhline
        line(random["return_mean"], color="gray", linewidth=0.8, linestyle=":", label="random policy")


def _slug(text: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in text)


def _write(figure: Figure, path: Path) -> Path:
    for suffix, metadata in ((".svg", {"Date": None}), (".png", None)):
        drawn = io.BytesIO()
        figure.savefig(drawn, format=suffix[1:], metadata=metadata)
        write_atomically(path.with_name(path.name + suffix), drawn.getvalue())
    plt.close(figure)
    return path.with_name(path.name + ".png")
