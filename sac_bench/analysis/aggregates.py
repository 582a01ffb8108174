"""Aggregate scores of each variant over all environments, with stratified bootstrap intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from sac_bench.analysis.format import interval
from sac_bench.analysis.scores import mean_over_backends
from sac_bench.analysis.statistics import (
    Estimate,
    aggregate_iqm,
    aggregate_mean,
    aggregate_median,
    aggregate_optimality_gap,
    bootstrap,
    normalised,
    probability_of_improvement,
)
from sac_bench.results.manifest import Manifest

AGGREGATES = {
    "IQM": aggregate_iqm,
    "median": aggregate_median,
    "mean": aggregate_mean,
    "optimality gap": aggregate_optimality_gap,
}
RULES = (
    "Scores are scaled so that a random policy's is 0 and the reference's mean is 1. IQM: mean of the middle half of "
    "all runs. Median and mean: over environments, of means over seeds. Optimality gap: how far runs are below 1 on "
    "average (lower is better). P(better): probability that a run scores above a run of the reference. Intervals: 95% "
    "stratified bootstrap (arXiv 2108.13264). With few seeds they are too narrow, and no verdict is based on them."
)

RULES_OF_BACKENDS = " A run here is the mean of a seed's runs on all backends of a task, and tasks count once."


def aggregates(
    scaled: dict[str, dict[str, np.ndarray]], manifest: Manifest, exploded: Mapping[str, int] | None = None
) -> pd.DataFrame:
    """Return a row per variant that has runs in every environment of {environment: {variant: scaled scores}}.

    exploded: {variant: how many of its runs exploded}. Columns: variant, environments, runs and exploded; each of
    AGGREGATES and improvement (over the reference) as an Estimate.
    """
    rows = []
    reference = [of_env.get(manifest.reference, np.empty(0)) for of_env in scaled.values()]
    for variant in manifest.variants:
        runs = [of_env[variant] for of_env in scaled.values() if variant in of_env]
        if not runs or len(runs) < len(scaled):
            continue
        row: dict[str, Any] = {"variant": variant, "environments": len(runs), "runs": sum(map(len, runs))}
        row["exploded"] = (exploded or {}).get(variant, 0)
        for name, aggregate in AGGREGATES.items():
            row[name] = Estimate(*map(float, bootstrap(runs, aggregate)))
        if variant != manifest.reference:
            row["improvement"] = probability_of_improvement(runs, reference)
        rows.append(row)
    return pd.DataFrame(rows, columns=["variant", "environments", "runs", "exploded", *AGGREGATES, "improvement"])


def on_one_scale(scores: pd.DataFrame, manifest: Manifest) -> dict[str, dict[str, np.ndarray]]:
    """Return {task: {variant: its runs' scores}}, scaled: a random policy's is 0, the reference's mean is 1.

    On several backends, a task has the means over them of each seed. Tasks without such a scale are omitted: no random
    policy was measured, or the reference is not above it.
    """
    scaled = {}
    for task, envs in manifest.tasks.items():
        by_env = [_scaled(scores, env, manifest) for env in envs]
        names = [name for name in by_env[0] if all(name in of_env for of_env in by_env)]
        if names:
            scaled[task] = {name: mean_over_backends([of_env[name] for of_env in by_env]) for name in names}
    return scaled


def _scaled(scores: pd.DataFrame, env: str, manifest: Manifest) -> dict[str, pd.Series]:
    """Return {variant: the scaled scores in an environment, indexed by seed}; {} without a scale."""
    rows = scores[scores["env"] == env].dropna(subset="score")
    random = manifest.random_return(env)
    reference = float(rows.loc[rows["variant"] == manifest.reference, "score"].mean())
    if not random < reference:
        return {}
    return {
        str(name): pd.Series(normalised(own["score"], random, reference), index=own["seed"])
        for name, own in rows.groupby("variant")
    }


def table(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the aggregates for a program: one column each for an estimate's value, _low and _high."""
    flat = estimates[["variant", "environments", "runs", "exploded"]].copy()
    for name in (*AGGREGATES, "improvement"):
        column = name.lower().replace(" ", "_")
        for i, end in enumerate(("", "_low", "_high")):
            flat[column + end] = [one[i] if isinstance(one, tuple) else np.nan for one in estimates[name]]
    return flat


def presented(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return the aggregates for a reader: rounded, intervals in brackets."""
    counts = ["runs", "exploded"] if estimates["exploded"].any() else ["runs"]
    shown = estimates[["variant", *counts]].astype(str)
    for name in (*AGGREGATES, "improvement"):
        shown[{"improvement": "P(better)"}.get(name, name)] = [
            interval(*one, spec=".2f") if isinstance(one, tuple) else "" for one in estimates[name]
        ]
    return shown
