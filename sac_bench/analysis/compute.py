"""Curves and scores against what training took: steps, updates, FLOPs or hours."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd

from sac_bench.analysis.scores import Steps, count_exploded, curve_to, entered, policy_rows, scored_by, scores
from sac_bench.analysis.statistics import mean_interval
from sac_bench.results.cells import once, rows_of
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest


class Axis(NamedTuple):
    """What returns are drawn against."""

    label: str
    is_log: bool = False


AXES = {
    "steps": Axis("steps"),
    "updates": Axis("updates"),
    "flops": Axis("FLOPs of acting and updating", is_log=True),
    "hours": Axis("hours of a run's share of its cohort"),
}


def spent(results: Results, env: str, variant: str, axis: str) -> pd.Series:
    """Return what a variant's runs had spent at each evaluation, {step: median over seeds}; NaN where it is unknown.

    Computed once per result, so do not change it in place.
    """
    return once(results, ("spent", env, variant, axis), lambda: _spent(results, env, variant, axis))


def _spent(results: Results, env: str, variant: str, axis: str) -> pd.Series:
    if not len(results.evaluations):
        return pd.Series(dtype=float)
    rows = policy_rows(rows_of(results.evaluations, env, variant), scored_by(results.manifest, variant))
    if axis == "hours":
        widths = rows["seed"].map(rows_of(results.runs, env, variant).set_index("seed")["cohort_size"])
        values = rows["wall_seconds"] / widths / 3600
    else:
        values = rows["step"] if axis == "steps" else rows[axis]
    return values.astype(float).groupby(rows["step"]).median()


def whole(manifest: Manifest) -> Steps:
    """Return the end of every variant's training. What it took is compared, so steps need not be equal."""
    return {(env, name): variant.steps[env] for env in manifest.envs for name, variant in manifest.variants.items()}


def total(results: Results, env: str, variant: str, axis: str) -> float:
    """Return what a variant's run spends to the end of its training; NaN if it is unknown."""
    return float(spent(results, env, variant, axis).get(results.manifest.variants[variant].steps[env], np.nan))


def table(results: Results) -> pd.DataFrame:
    """Return a row per variant and environment, scored at the end of its own training.

    Columns: env, variant, steps, updates, flops, relative_flops (by the reference's), hours, seeds, score, ci_low,
    ci_high, per_compute, per_compute_ci_low, per_compute_ci_high. Unknown numbers are NaN.
    """
    manifest = results.manifest
    at, rows = whole(manifest), []
    scored = scores(results, at=at)
    for env in manifest.envs:
        base, between = total(results, env, manifest.reference, "flops"), common_flops(results, env)
        for variant in manifest.variants:
            values = entered(scored, env, variant)
            score, per_compute = mean_interval(values), mean_interval(score_per_compute(results, env, variant, between))
            spending = {axis: total(results, env, variant, axis) for axis in ("updates", "flops", "hours")}
            rows.append(
                {"env": env, "variant": variant, "steps": at[env, variant]}
                | spending
                | {"relative_flops": spending["flops"] / base, "seeds": len(values)}
                | {"exploded": count_exploded(scored, env, [variant])}
                | {"score": score.value, "ci_low": score.low, "ci_high": score.high}
                | {
                    "per_compute": per_compute.value,
                    "per_compute_ci_low": per_compute.low,
                    "per_compute_ci_high": per_compute.high,
                }
            )
    return pd.DataFrame(rows).astype({"updates": "Int64"})


def differs(table: pd.DataFrame) -> bool:
    """Return whether variants of an environment differ in their FLOPs by more than 2%, given `table`."""
    ends = table.groupby("env")["flops"].agg(["min", "max"])
    return bool((ends["max"] > 1.02 * ends["min"]).any())


def common_flops(results: Results, env: str) -> tuple[float, float]:
    """Return the least and most FLOPs at which all variants have been evaluated, after their first updates.

    Variants without a finished run do not count. NaN if the FLOPs of one are unknown, or there is none.
    """
    ends = []
    for name in results.manifest.variants:
        if not (rows_of(results.runs, env, name)["status"] == "finished").any():
            continue
        flops, updates = (spent(results, env, name, axis) for axis in ("flops", "updates"))
        learned = flops[~(updates == 0)]
        ends.append((learned.min(), learned.max()))
    lows, highs = zip(*ends, strict=True) if ends else ((np.nan,), (np.nan,))
    return float(np.max(lows)), float(np.min(highs))


def score_per_compute(
    results: Results, env: str, variant: str, between: tuple[float, float] | None = None
) -> pd.Series:
    """Return the mean return over the logarithm of FLOPs [seeds], indexed by seed.

    All variants of an environment are compared over the same FLOPs, by default `common_flops`. Curves are interpolated
    linearly in log10 FLOPs. A diverged run counts with a random policy's return. None if FLOPs are unknown, or if no
    two variants have FLOPs in common.
    """
    low, high = common_flops(results, env) if between is None else between
    if not low < high:
        return pd.Series(dtype=float)
    manifest, at = results.manifest, whole(results.manifest)
    runs = rows_of(scores(results, at=at), env, variant).dropna(subset=["score"])
    evaluations = policy_rows(rows_of(results.evaluations, env, variant), scored_by(manifest, variant))
    by_seed, flops = dict(list(evaluations.groupby("seed"))), spent(results, env, variant, "flops")
    values = {}
    for run in runs.to_dict("records"):
        if run["status"] == "diverged":
            values[run["seed"]] = manifest.random_return(env)
            continue
        steps, returns = curve_to(by_seed[run["seed"]], at[env, variant])
        order = np.argsort(steps)
        values[run["seed"]] = mean_over_log(flops[steps[order]].to_numpy(), returns[order], low, high)
    return pd.Series(values, dtype=float)


def mean_over_log(x: np.ndarray, y: np.ndarray, low: float, high: float) -> float:
    """Return the mean of a curve over log x between two ends.

    x, y: [T], x increasing; points with x = 0 are left out. The curve is linear in log x between its points.
    """
    x, y = np.log10(x[x > 0]), y[x > 0]
    ends = np.log10([low, high])
    at = np.union1d(x[(x > ends[0]) & (x < ends[1])], ends)
    return float(np.trapezoid(np.interp(at, x, y), at) / (ends[1] - ends[0]))


def frontier(cost: np.ndarray, score: np.ndarray) -> np.ndarray:
    """Return which points [K] are on the Pareto front: no other costs at most as much and scores more.

    cost, score: [K]. Of equal points, all are.
    """
    better = (cost[:, None] <= cost) & (score[:, None] >= score)
    strictly = (cost[:, None] < cost) | (score[:, None] > score)
    return np.logical_not((better & strictly).any(axis=0))
