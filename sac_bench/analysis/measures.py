"""Measures of runs, one number per run: the sides of a claim's comparisons (spec/claim.py)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from sac_bench.analysis.compute import score_per_compute
from sac_bench.analysis.scores import curve_to, equal_steps, policy_rows, return_after, scored_by, scores
from sac_bench.analysis.statistics import area_score, largest_fall, mean_interval, run_score
from sac_bench.results.cells import rows_of
from sac_bench.results.load import Results
from sac_bench.spec.claim import Side
from sac_bench.spec.measures import MEASURES


def measured(results: Results, side: Side, env: str) -> pd.Series:
    """Return a side's values [seeds] in an environment, indexed by seed, without runs that do not count.

    A diverged run counts in all measures of scores and curves, with a random policy's return. It counts in no measure
    of gradients or of the trained policy.
    """
    if side.measure in ("score", "sampled", "area"):
        return _scores(results, side, env)
    if side.measure in RELATIVE:
        return _nothing() if why_no_values(results, side, env) else RELATIVE[side.measure](results, side, env)
    if side.measure == "score_per_compute":
        return score_per_compute(results, env, side.variant)
    if side.measure == "early":
        return _early(results, side, env)
    if side.measure == "adaptation":
        return _adaptation(results, side, env)
    if MEASURES[side.measure].is_log_of_metric:
        late = _late_metric(results, side, env)
        return pd.Series(np.log10(late.to_numpy()), index=late.index)
    rows = _of(results.robustness, side, env)
    return rows[rows["measure"] == side.measure].set_index("seed")["value"].dropna() if len(rows) else _nothing()


def mean_gain(results: Results, variant: str, env: str) -> float:
    """Return a variant's mean score minus a random policy's; NaN unless it is known and positive."""
    gain = float(_scores(results, Side(variant), env).mean() - results.manifest.random_return(env))
    return gain if gain > 0 else float("nan")


def own_gains(results: Results, variant: str, env: str) -> pd.Series:
    """Return a variant's scores minus what it got without learning [seeds]; NaN if a random policy's is not known.

    Without learning it got a random policy's return, or its own mean return before the first step if that is better:
    on HalfCheetah an untrained policy stands still, which is better than random actions.
    """
    return _scores(results, Side(variant), env) - max(_without_learning(results, variant, env))


def _without_learning(results: Results, variant: str, env: str) -> tuple[float, ...]:
    """Return a random policy's return and, if it was evaluated, the variant's mean return before the first step."""
    random = results.manifest.random_return(env)
    first = _first_returns(results, Side(variant), env)
    counting = first[first.index.isin(_scores(results, Side(variant), env).index)]
    return (random, float(counting.mean())) if len(counting) else (random,)


def why_no_values(results: Results, side: Side, env: str) -> str:
    """Return why a relative measure of runs with scores has no values: no gain is shown. Else ""."""
    if side.measure not in RELATIVE:
        return ""
    of = own_gains(results, side.variant, env)
    if not len(of):
        return ""
    if of.isna().all():
        return "a random policy's return is not known"
    random, *own = _without_learning(results, side.variant, env)
    than = "its own policy before training" if own and own[0] > random else "a random policy"
    if side.measure == "weak_seed" and not of.median() > 0:
        return f"the median seed of {side.variant} gains nothing over {than}"
    if not of.mean() > 0:
        return f"{side.variant} gains nothing over {than}"
    return "" if has_gain(of) else f"no gain of {side.variant} over {than} is shown"


def has_gain(gains: pd.Series) -> bool:
    """Return whether gains [seeds] are shown to be positive: the 95% interval of their mean is above 0.

    Half of the variants that learn nothing have a positive mean by chance. In units of it, any spread would be large.
    """
    return mean_interval(gains).low > 0


def _relative_spread(results: Results, side: Side, env: str) -> pd.Series:
    of = own_gains(results, side.variant, env)
    return (of - of.median()).abs() / of.mean()


def _weak_seed(results: Results, side: Side, env: str) -> pd.Series:
    of = own_gains(results, side.variant, env)
    return (of < of.median() / 2).astype(float)


def _relative_fall(results: Results, side: Side, env: str) -> pd.Series:
    """Return the largest falls. A diverged run's curve ends with a random policy's return."""
    steps = equal_steps(results.manifest)[env, side.variant]
    evaluations = policy_rows(_of(results.evaluations, side, env), scored_by(results.manifest, side.variant))
    by_seed = dict(list(evaluations.groupby("seed"))) if len(evaluations) else {}
    falls = {}
    for run in _of(scores(results), side, env).dropna(subset=["score"]).to_dict("records"):
        at, returns = curve_to(by_seed.get(run["seed"], evaluations[:0]), steps)
        order = np.argsort(at)
        end = return_after(run["status"], results.manifest, env)
        falls[run["seed"]] = largest_fall([*returns[order], *end])
    return pd.Series(falls, dtype=float) / own_gains(results, side.variant, env).mean()


RELATIVE: dict[str, Callable[[Results, Side, str], pd.Series]] = {
    "relative_spread": _relative_spread,
    "largest_fall": _relative_fall,
    "weak_seed": _weak_seed,
}
"""Measures on the scale of the variant's own gain, which must be shown to be positive."""


def without_value(results: Results) -> list[str]:
    """Return a text for each robustness measure of a run that has no value, with the reason."""
    rows = results.robustness
    missing = rows[rows["value"].isna()].to_dict("records") if len(rows) else []
    return [f"`{of['variant']}:{of['measure']}` on {of['env']}, seed {of['seed']}: {of['reason']}" for of in missing]


def _scores(results: Results, side: Side, env: str) -> pd.Series:
    policy = "sample" if side.measure == "sampled" else None
    column = "area" if side.measure == "area" else "score"
    return _of(scores(results, policy), side, env).set_index("seed")[column].dropna()


def _early(results: Results, side: Side, env: str) -> pd.Series:
    """Return the mean returns over the first quarter of the steps of runs with scores."""
    steps = equal_steps(results.manifest)[env, side.variant] // 4
    evaluations = policy_rows(_of(results.evaluations, side, env), scored_by(results.manifest, side.variant))
    by_seed = dict(list(evaluations.groupby("seed"))) if len(evaluations) else {}
    seeds = _scores(results, side, env).index
    curves = {seed: curve_to(by_seed.get(seed, evaluations[:0]), steps) for seed in seeds}
    return pd.Series({seed: area_score(*curve) for seed, curve in curves.items() if len(curve[0])}, dtype=float)


def _adaptation(results: Results, side: Side, env: str) -> pd.Series:
    """Return finished runs' areas minus the returns of their first evaluations, if these are from before training."""
    table = _of(scores(results), side, env)
    areas = table[table["status"] == "finished"].set_index("seed")["area"]
    return (areas - _first_returns(results, side, env)).dropna()


def _first_returns(results: Results, side: Side, env: str) -> pd.Series:
    """Return the mean returns [seeds] of the evaluations before the first step, by the policy that scores the runs."""
    evaluations = policy_rows(_of(results.evaluations, side, env), scored_by(results.manifest, side.variant))
    if not len(evaluations):
        return _nothing()
    return evaluations[evaluations["step"] == 0].set_index("seed")["return_mean"]


def _late_metric(results: Results, side: Side, env: str) -> pd.Series:
    """Return the means of a column of the training table over the same last share of the steps as the score's."""
    rows = _of(results.training, side, env)
    if side.measure not in rows:
        return _nothing()
    steps = equal_steps(results.manifest)[env, side.variant]
    runs = _of(scores(results), side, env)
    finished = set(runs.loc[runs["status"] == "finished", "seed"])
    rows = rows[rows["step"] <= steps].dropna(subset=[side.measure])
    last = results.manifest.score_last
    late = {
        seed: run_score(of["step"], of[side.measure], steps, last)
        for seed, of in rows.groupby("seed")
        if seed in finished
    }
    return pd.Series(late, dtype=float)


def _of(table: pd.DataFrame, side: Side, env: str) -> pd.DataFrame:
    return rows_of(table, env, side.variant)


def _nothing() -> pd.Series:
    return pd.Series(dtype=float)
