"""All figures of an experiment's page, by the section they are for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.scores import at_words
from sac_bench.report.baselines import algorithms
from sac_bench.report.figures.curves import (
    SUMMARIES,
    acting,
    comparison_curves,
    final_scores,
    house_style,
    learning_curves,
    panels,
    sensitivity,
    sweeps,
    write_figure,
)
from sac_bench.report.figures.diagnostics import measured, why
from sac_bench.report.figures.forest import claim_forest, forest
from sac_bench.report.figures.profile import on_one_scale, profile
from sac_bench.report.page import Picture
from sac_bench.report.tables import scores
from sac_bench.results.results import Results
from sac_bench.store.atomic import file_name

Pictures = dict[str, list[Picture]]
"""By section: claim, differences, curves, scores, profile, sensitivity, why."""


def write_figures(
    results: Results, about: dict[str, Any], final: pd.DataFrame, folder: Path, judged: Sequence[Comparison] = ()
) -> Pictures:
    """All that an experiment's results allow; where there is a claim, its comparisons are its differences."""
    folder.mkdir(parents=True, exist_ok=True)
    house_style()
    table = scores(results, about)
    return {
        "claim": _claim(judged, about, folder),
        "differences": [] if judged else _differences(final, about, folder),
        "curves": _curves(results, about, folder),
        "scores": _scores(table, about, folder),
        "profile": _profile(table, about, folder),
        "sensitivity": _sensitivity(table, about, folder),
        "why": _why(results, about, folder),
    }


def name_of(env: str, about: dict[str, Any]) -> str:
    """An environment's part of a figure's name."""
    return file_name(env, about["envs"])


def _noted(about: dict[str, Any]) -> str:
    """At which steps the scores of a picture are, where not at the end of every training."""
    said = [f"{env}{at_words(about, env)}" for env in about["envs"] if at_words(about, env)]
    return f" Scored on {', '.join(said)}." if said else ""


def _claim(judged: Sequence[Comparison], about: dict[str, Any], folder: Path) -> list[Picture]:
    if not any(np.isfinite(one.normalised.value) for one in judged):
        for path in folder.glob("claim.*"):
            path.unlink()
        return []
    caption = (
        "The claim's comparisons: a - b with 95% intervals, in gains where the measure is in units of return; grey: "
        "the margin within which differences do not matter; right of them the outcomes." + _noted(about)
    )
    return [Picture(write_figure(claim_forest(judged), folder / "claim"), caption)]


def _differences(final: pd.DataFrame, about: dict[str, Any], folder: Path) -> list[Picture]:
    if not final["difference"].notna().any():
        return []
    caption = f"Differences from {about['reference']} with 95% intervals; right of them the verdicts.{_noted(about)}"
    return [Picture(write_figure(forest(final, about), folder / "differences"), caption)]


def _curves(results: Results, about: dict[str, Any], folder: Path) -> list[Picture]:
    """Of several algorithms one figure a statistic; of one algorithm, and of sweeps, one an environment."""
    if not len(results.evaluations):
        return []
    found = []
    groups, several = panels(about), len(algorithms(about)) > 1
    if several:
        for statistic, (_, said) in SUMMARIES.items():
            path = write_figure(comparison_curves(results, about, statistic), folder / f"comparison-{statistic}")
            found.append(Picture(path, f"Return against steps: {said}.{_noted(about)}"))
        groups.pop("variants", None)  # comparison-iqm shows the same
    for env in about["envs"] if groups else []:
        if (results.evaluations["env"] == env).any():
            path = write_figure(learning_curves(results, about, env, groups), folder / f"curves-{name_of(env, about)}")
            said = SUMMARIES["iqm"][1]
            acted = acting(about, list(chain.from_iterable(groups.values())))
            found.append(Picture(path, f"Learning curves on {env}: return of {acted}; {said}."))
    return found


def _scores(table: pd.DataFrame, about: dict[str, Any], folder: Path) -> list[Picture]:
    if not table["score"].notna().any():
        return []
    caption = (
        "Scores: a dot a seed, the mean with its 95% interval; dashed: the reference's mean, dotted: a random policy."
        + _noted(about)
    )
    return [Picture(write_figure(final_scores(table, about), folder / "final"), caption)]


def _profile(table: pd.DataFrame, about: dict[str, Any], folder: Path) -> list[Picture]:
    scaled = on_one_scale(table, about)
    if not scaled:
        return []
    without = [env for env in about["envs"] if env not in scaled]
    caption = (
        f"Share of runs above a score, over {', '.join(scaled)}; 0 is a random policy's, 1 the mean of "
        f"{about['reference']}; bands: 95% stratified bootstrap."
        + (f" Without {', '.join(without)}: no such scale there." if without else "")
        + _noted(about)
    )
    return [Picture(write_figure(profile(scaled, about), folder / "profile"), caption)]


def _sensitivity(table: pd.DataFrame, about: dict[str, Any], folder: Path) -> list[Picture]:
    if not table["score"].notna().any():
        return []
    found = []
    for key in sweeps(about):
        path = write_figure(sensitivity(table, about, key), folder / f"sensitivity-{file_name(key)}")
        found.append(Picture(path, f"Score against {key}: mean and 95% interval, a dot a seed.{_noted(about)}"))
    return found


def _why(results: Results, about: dict[str, Any], folder: Path) -> list[Picture]:
    found = []
    for env in about["envs"]:
        for title, variants in panels(about).items():
            if measured(results, env, variants):
                path = write_figure(why(results, about, env, variants), folder / f"why-{name_of(env, about)}-{title}")
                said = (
                    "means over the updates between two evaluations; line: median over seeds, band: lowest to highest"
                )
                found.append(Picture(path, f"What was measured in the updates on {env}, {title}: {said}."))
    return found
