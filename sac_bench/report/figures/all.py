"""All figures of an experiment's report, by section."""

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
from sac_bench.report.figures.diagnostics import diagnostics, measured
from sac_bench.report.figures.forest import claim_forest, forest
from sac_bench.report.figures.looks import Progress, looks
from sac_bench.report.figures.profile import profile
from sac_bench.report.figures.scores import final_scores, sensitivity
from sac_bench.report.figures.style import SUMMARIES, house_style, panels, sweeps, write_figure
from sac_bench.report.page import Picture
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import file_name

Pictures = dict[str, list[Picture]]
"""{section: its figures}: claim, differences, looks, curves, scores, profile, sensitivity, diagnostics."""


def write_figures(
    results: Results,
    final: pd.DataFrame,
    folder: Path,
    comparisons: Sequence[Comparison] = (),
    progress: Sequence[Progress] = (),
) -> Pictures:
    """Write all figures that an experiment's results allow. A claim's comparisons replace the differences.

    `progress`: the comparisons with several looks.
    """
    folder.mkdir(parents=True, exist_ok=True)
    house_style()
    table = scores(results)
    return {
        "claim": _claim(comparisons, results.manifest, folder),
        "differences": [] if comparisons else _differences(final, results.manifest, folder),
        "looks": _looks(progress, folder),
        "curves": _curves(results, folder),
        "scores": _scores(table, results.manifest, folder),
        "profile": _profile(table, results.manifest, folder),
        "sensitivity": _sensitivity(table, results.manifest, folder),
        "diagnostics": _diagnostics(results, folder),
    }


def name_of(env: str, manifest: Manifest) -> str:
    """Return an environment's part of a figure's file name."""
    return file_name(env, manifest.envs)


def _noted(manifest: Manifest) -> str:
    """Return a sentence on the steps at which runs are scored, if that is not at the end of every training."""
    places = [f"{env}{at_words(manifest, env)}" for env in manifest.envs if at_words(manifest, env)]
    return f" Scored on {', '.join(places)}." if places else ""


def _claim(comparisons: Sequence[Comparison], manifest: Manifest, folder: Path) -> list[Picture]:
    if not any(np.isfinite(one.normalised.value) for one in comparisons):
        for path in folder.glob("claim.*"):
            path.unlink()
        return []
    caption = (
        "The claim's comparisons: a - b with 95% intervals, in gains if the measure is in units of return. Grey: the "
        "margin within which differences do not matter. Right: outcomes." + _noted(manifest)
    )
    return [Picture(write_figure(claim_forest(comparisons), folder / "claim"), caption)]


def _differences(final: pd.DataFrame, manifest: Manifest, folder: Path) -> list[Picture]:
    if not final["difference"].notna().any():
        return []
    caption = f"Differences from {manifest.reference} with 95% intervals. Right: verdicts.{_noted(manifest)}"
    return [
        Picture(
            write_figure(forest(final, manifest.envs, _others(manifest), manifest.reference), folder / "differences"),
            caption,
        )
    ]


def _looks(progress: Sequence[Progress], folder: Path) -> list[Picture]:
    if not progress:
        return []
    caption = (
        "Differences at every look at the results, with intervals that hold for all looks together. The last, coloured "
        "one is the look at which a comparison was decided or stopped. Grey: the margin."
    )
    return [Picture(write_figure(looks(progress), folder / "looks"), caption)]


def _curves(results: Results, folder: Path) -> list[Picture]:
    """Write one figure per statistic for several algorithms, and one per environment for one algorithm and sweeps."""
    if not len(results.evaluations):
        return []
    pictures = []
    groups, several = panels(results.manifest), len(results.manifest.algorithms) > 1
    if several:
        for statistic, (_, description) in SUMMARIES.items():
            path = write_figure(comparison_curves(results, statistic), folder / f"comparison-{statistic}")
            pictures.append(Picture(path, f"Return against steps: {description}.{_noted(results.manifest)}"))
        groups.pop("variants", None)  # comparison-iqm shows the same
    for env in results.manifest.envs if groups else []:
        if (results.evaluations["env"] == env).any():
            path = write_figure(
                learning_curves(results, env, groups), folder / f"curves-{name_of(env, results.manifest)}"
            )
            description = SUMMARIES["iqm"][1]
            actions = acting(results.manifest, list(chain.from_iterable(groups.values())))
            pictures.append(Picture(path, f"Learning curves on {env}: return of {actions}; {description}."))
    return pictures


def _others(manifest: Manifest) -> list[str]:
    return [name for name in manifest.variants if name != manifest.reference]


def _scores(table: pd.DataFrame, manifest: Manifest, folder: Path) -> list[Picture]:
    if not table["score"].notna().any():
        return []
    caption = (
        "Scores: one dot per seed, mean and 95% interval. Dashed: the reference's mean. Dotted: a random policy."
        + _noted(manifest)
    )
    return [Picture(write_figure(final_scores(table, manifest), folder / "final"), caption)]


def _profile(table: pd.DataFrame, manifest: Manifest, folder: Path) -> list[Picture]:
    scaled = on_one_scale(table, manifest) if len(manifest.envs) > 1 else {}
    if not scaled:
        for path in folder.glob("profile.*"):
            path.unlink()
        return []
    without = [env for env in manifest.envs if env not in scaled]
    caption = (
        f"Share of runs above a score, over {', '.join(scaled)}. Score 0 is a random policy's, 1 the mean of "
        f"{manifest.reference}. Bands: 95% stratified bootstrap."
        + (f" Without {', '.join(without)}, where this scale is not defined." if without else "")
        + _noted(manifest)
    )
    return [Picture(write_figure(profile(scaled, manifest), folder / "profile"), caption)]


def _sensitivity(table: pd.DataFrame, manifest: Manifest, folder: Path) -> list[Picture]:
    if not table["score"].notna().any():
        return []
    pictures = []
    for title in sweeps(manifest):
        path = write_figure(sensitivity(table, manifest, title), folder / f"sensitivity-{file_name(title)}")
        caption = f"Score against {title}: mean and 95% interval, one dot per seed.{_noted(manifest)}"
        pictures.append(Picture(path, caption))
    return pictures


def _diagnostics(results: Results, folder: Path) -> list[Picture]:
    pictures = []
    for env in results.manifest.envs:
        for title, variants in panels(results.manifest).items():
            if measured(results, env, variants):
                name = f"diagnostics-{name_of(env, results.manifest)}-{file_name(title)}"
                path = write_figure(diagnostics(results, env, variants), folder / name)
                caption = (
                    f"Training metrics on {env}, {title}: means over the updates between two evaluations. "
                    "Line: median over seeds. Band: lowest to highest seed."
                )
                pictures.append(Picture(path, caption))
    return pictures
