"""All figures of an experiment's page, by the section they are for."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import pandas as pd

from sac_bench.analysis.aggregates import on_one_scale
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.scores import at_words, scores
from sac_bench.report.figures.comparison import comparison_curves
from sac_bench.report.figures.curves import acting, learning_curves
from sac_bench.report.figures.diagnostics import measured, why
from sac_bench.report.figures.forest import claim_forest, forest
from sac_bench.report.figures.profile import profile
from sac_bench.report.figures.scores import final_scores, sensitivity
from sac_bench.report.figures.style import SUMMARIES, house_style, panels, sweeps, write_figure
from sac_bench.report.page import Picture
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import file_name

Pictures = dict[str, list[Picture]]
"""By section: claim, differences, curves, scores, profile, sensitivity, why."""


def write_figures(results: Results, final: pd.DataFrame, folder: Path, judged: Sequence[Comparison] = ()) -> Pictures:
    """All that an experiment's results allow; where there is a claim, its comparisons are its differences."""
    folder.mkdir(parents=True, exist_ok=True)
    house_style()
    table = scores(results)
    return {
        "claim": _claim(judged, results.manifest, folder),
        "differences": [] if judged else _differences(final, results.manifest, folder),
        "curves": _curves(results, folder),
        "scores": _scores(table, results.manifest, folder),
        "profile": _profile(table, results.manifest, folder),
        "sensitivity": _sensitivity(table, results.manifest, folder),
        "why": _why(results, folder),
    }


def name_of(env: str, manifest: Manifest) -> str:
    """An environment's part of a figure's name."""
    return file_name(env, manifest.envs)


def _noted(manifest: Manifest) -> str:
    """At which steps the scores of a picture are, where not at the end of every training."""
    said = [f"{env}{at_words(manifest, env)}" for env in manifest.envs if at_words(manifest, env)]
    return f" Scored on {', '.join(said)}." if said else ""


def _claim(judged: Sequence[Comparison], manifest: Manifest, folder: Path) -> list[Picture]:
    if not any(np.isfinite(one.normalised.value) for one in judged):
        for path in folder.glob("claim.*"):
            path.unlink()
        return []
    caption = (
        "The claim's comparisons: a - b with 95% intervals, in gains where the measure is in units of return; grey: "
        "the margin within which differences do not matter; right of them the outcomes." + _noted(manifest)
    )
    return [Picture(write_figure(claim_forest(judged), folder / "claim"), caption)]


def _differences(final: pd.DataFrame, manifest: Manifest, folder: Path) -> list[Picture]:
    if not final["difference"].notna().any():
        return []
    caption = f"Differences from {manifest.reference} with 95% intervals; right of them the verdicts.{_noted(manifest)}"
    return [
        Picture(
            write_figure(forest(final, manifest.envs, _others(manifest), manifest.reference), folder / "differences"),
            caption,
        )
    ]


def _curves(results: Results, folder: Path) -> list[Picture]:
    """Of several algorithms one figure a statistic; of one algorithm, and of sweeps, one an environment."""
    if not len(results.evaluations):
        return []
    found = []
    groups, several = panels(results.manifest), len(results.manifest.algorithms) > 1
    if several:
        for statistic, (_, said) in SUMMARIES.items():
            path = write_figure(comparison_curves(results, statistic), folder / f"comparison-{statistic}")
            found.append(Picture(path, f"Return against steps: {said}.{_noted(results.manifest)}"))
        groups.pop("variants", None)  # comparison-iqm shows the same
    for env in results.manifest.envs if groups else []:
        if (results.evaluations["env"] == env).any():
            path = write_figure(
                learning_curves(results, env, groups), folder / f"curves-{name_of(env, results.manifest)}"
            )
            said = SUMMARIES["iqm"][1]
            acted = acting(results.manifest, list(chain.from_iterable(groups.values())))
            found.append(Picture(path, f"Learning curves on {env}: return of {acted}; {said}."))
    return found


def _others(manifest: Manifest) -> list[str]:
    return [name for name in manifest.variants if name != manifest.reference]


def _scores(table: pd.DataFrame, manifest: Manifest, folder: Path) -> list[Picture]:
    if not table["score"].notna().any():
        return []
    caption = (
        "Scores: a dot a seed, the mean with its 95% interval; dashed: the reference's mean, dotted: a random policy."
        + _noted(manifest)
    )
    return [Picture(write_figure(final_scores(table, manifest), folder / "final"), caption)]


def _profile(table: pd.DataFrame, manifest: Manifest, folder: Path) -> list[Picture]:
    scaled = on_one_scale(table, manifest)
    if not scaled:
        return []
    without = [env for env in manifest.envs if env not in scaled]
    caption = (
        f"Share of runs above a score, over {', '.join(scaled)}; 0 is a random policy's, 1 the mean of "
        f"{manifest.reference}; bands: 95% stratified bootstrap."
        + (f" Without {', '.join(without)}: no such scale there." if without else "")
        + _noted(manifest)
    )
    return [Picture(write_figure(profile(scaled, manifest), folder / "profile"), caption)]


def _sensitivity(table: pd.DataFrame, manifest: Manifest, folder: Path) -> list[Picture]:
    if not table["score"].notna().any():
        return []
    found = []
    for key in sweeps(manifest):
        path = write_figure(sensitivity(table, manifest, key), folder / f"sensitivity-{file_name(key)}")
        found.append(Picture(path, f"Score against {key}: mean and 95% interval, a dot a seed.{_noted(manifest)}"))
    return found


def _why(results: Results, folder: Path) -> list[Picture]:
    found = []
    for env in results.manifest.envs:
        for title, variants in panels(results.manifest).items():
            if measured(results, env, variants):
                path = write_figure(
                    why(results, env, variants), folder / f"why-{name_of(env, results.manifest)}-{title}"
                )
                said = (
                    "means over the updates between two evaluations; line: median over seeds, band: lowest to highest"
                )
                found.append(Picture(path, f"What was measured in the updates on {env}, {title}: {said}."))
    return found
