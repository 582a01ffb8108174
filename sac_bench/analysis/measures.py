"""Measures of runs, one number per run: the sides of a claim's comparisons (spec/claim.py)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from sac_bench.algorithms import gradients
from sac_bench.algorithms.metric import names
from sac_bench.analysis.scores import equal_steps, policy_rows, scored_by, scores
from sac_bench.analysis.statistics import run_score
from sac_bench.results.load import Results
from sac_bench.spec.claim import Side


def measured(results: Results, side: Side, env: str) -> pd.Series:
    """Return a side's values [seeds] in an environment, indexed by seed, without runs that do not count.

    A diverged run counts in a score or an area, with a random policy's return. It counts in no other measure: the same
    return for all such runs would hide their spread.
    """
    if side.measure in ("score", "sampled", "area"):
        return _scores(results, side, env)
    if side.measure == "spread":
        table = _of(scores(results), side, env)
        values = table[table["status"] == "finished"].set_index("seed")["score"].dropna()
        return (values - values.median()).abs()
    if side.measure == "adaptation":
        return _adaptation(results, side, env)
    if side.measure in names(gradients.VARIANCES):
        return np.log10(_late_metric(results, side, env))
    rows = _of(results.robustness, side, env)
    return rows[rows["measure"] == side.measure].set_index("seed")["value"].dropna() if len(rows) else _nothing()


def without_value(results: Results) -> list[str]:
    """Return a text for each robustness measure of a run that has no value, with the reason."""
    rows = results.robustness
    missing = rows[rows["value"].isna()].to_dict("records") if len(rows) else []
    return [f"`{of['variant']}:{of['measure']}` on {of['env']}, seed {of['seed']}: {of['reason']}" for of in missing]


def _scores(results: Results, side: Side, env: str) -> pd.Series:
    policy = "sample" if side.measure == "sampled" else None
    column = "area" if side.measure == "area" else "score"
    return _of(scores(results, policy), side, env).set_index("seed")[column].dropna()


def _adaptation(results: Results, side: Side, env: str) -> pd.Series:
    """Return finished runs' areas minus the returns of their first evaluations, if these are from before training."""
    table = _of(scores(results), side, env)
    areas = table[table["status"] == "finished"].set_index("seed")["area"]
    policy = scored_by(results.manifest, side.variant)
    evaluations = policy_rows(_of(results.evaluations, side, env), policy)
    if not len(evaluations):
        return _nothing()
    return (areas - evaluations[evaluations["step"] == 0].set_index("seed")["return_mean"]).dropna()


def _late_metric(results: Results, side: Side, env: str) -> pd.Series:
    """Return the means of a column of the training table over the last tenth of the steps of finished runs' scores."""
    rows = _of(results.training, side, env)
    if side.measure not in rows:
        return _nothing()
    steps = equal_steps(results.manifest)[env, side.variant]
    runs = _of(scores(results), side, env)
    finished = set(runs.loc[runs["status"] == "finished", "seed"])
    rows = rows[rows["step"] <= steps].dropna(subset=[side.measure])
    late = {
        seed: run_score(of["step"], of[side.measure], steps) for seed, of in rows.groupby("seed") if seed in finished
    }
    return pd.Series(late, dtype=float)


def _of(table: pd.DataFrame, side: Side, env: str) -> pd.DataFrame:
    if not len(table):
        return table
    return table[(table["variant"] == side.variant) & (table["env"] == env)]


def _nothing() -> pd.Series:
    return pd.Series(dtype=float)
