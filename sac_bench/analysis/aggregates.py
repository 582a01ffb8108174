"""Over all environments together: each variant's aggregate scores on one scale, with stratified bootstrap intervals."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

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
    "On one scale: 0 is a random policy's score, 1 the reference's mean. IQM: mean of the middle half of all runs; "
    "median and mean: over environments, of means over seeds; optimality gap: how far runs stay below 1 on average "
    "(less is better); P(better): the chance that a run scores above one of the reference's. Intervals: 95% stratified "
    "bootstrap (arXiv 2108.13264), for display: with few seeds they are too narrow, and no verdict stands on them."
)


def aggregates(scaled: dict[str, dict[str, np.ndarray]], manifest: Manifest) -> pd.DataFrame:
    """A row a variant that has runs in every environment of {environment: {variant: scores on one scale}}.

    Columns: variant, environments, runs; each of AGGREGATES, and improvement (over the reference), as an Estimate.
    """
    rows = []
    reference = [of_env.get(manifest.reference, np.empty(0)) for of_env in scaled.values()]
    for variant in manifest.variants:
        runs = [of_env[variant] for of_env in scaled.values() if variant in of_env]
        if not runs or len(runs) < len(scaled):
            continue
        row: dict[str, Any] = {"variant": variant, "environments": len(runs), "runs": sum(map(len, runs))}
        for name, aggregate in AGGREGATES.items():
            row[name] = Estimate(*map(float, bootstrap(runs, aggregate)))
        if variant != manifest.reference:
            row["improvement"] = probability_of_improvement(runs, reference)
        rows.append(row)
    return pd.DataFrame(rows, columns=["variant", "environments", "runs", *AGGREGATES, "improvement"])


def on_one_scale(scores: pd.DataFrame, manifest: Manifest) -> dict[str, dict[str, np.ndarray]]:
    """Return {environment: {variant: its runs' scores}}, where a random policy has 0 and the reference's mean is 1.

    An environment without such a scale is left out: no random policy was measured, or the reference is not above it.
    """
    scaled = {}
    for env in manifest.envs:
        rows = scores[scores["env"] == env].dropna(subset="score")
        random = manifest.random_return(env)
        reference = float(rows.loc[rows["variant"] == manifest.reference, "score"].mean())
        if random < reference:
            scaled[env] = {
                str(name): normalised(own["score"], random, reference) for name, own in rows.groupby("variant")
            }
    return scaled


def table(found: pd.DataFrame) -> pd.DataFrame:
    """For a program: an estimate's value, _low and _high a column each."""
    flat = found[["variant", "environments", "runs"]].copy()
    for name in (*AGGREGATES, "improvement"):
        column = name.lower().replace(" ", "_")
        for i, end in enumerate(("", "_low", "_high")):
            flat[column + end] = [one[i] if isinstance(one, tuple) else np.nan for one in found[name]]
    return flat


def presented(found: pd.DataFrame) -> pd.DataFrame:
    """For a reader: rounded, intervals in brackets."""
    shown = found[["variant", "runs"]].astype(str)
    for name in (*AGGREGATES, "improvement"):
        shown[{"improvement": "P(better)"}.get(name, name)] = [_span(one) for one in found[name]]
    return shown


def _span(one: Any) -> str:
    if not isinstance(one, tuple):
        return ""
    return f"{one[0]:.2f}" + ("" if np.isnan(one[1]) else f" [{one[1]:.2f}, {one[2]:.2f}]")
