"""What a trial is worth: from the evaluations of its runs to one number. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sac_bench.analysis.statistics import area_score, iqm, run_score


@dataclass(frozen=True)
class RunScore:
    """One run's value by the study's objective; of one that diverged, its lowest evaluation while it was finite.

    NaN where a diverged run was never evaluated.
    """

    value: float
    diverged: bool = False


Scores = Mapping[str, Sequence[RunScore]]
"""{env: the runs of a trial there, in the order of seeds}, all at the same steps."""


def run_value(steps: ArrayLike, returns: ArrayLike, total: int, objective: str) -> float:
    """Returns [T] of what scores the algorithm, evaluated at `steps` [T] <= total -> one number.

    "final": the mean over the last tenth of `total` steps; "area": the area under the curve over its width.
    """
    return run_score(steps, returns, total) if objective == "final" else area_score(steps, returns)


def scored(steps: ArrayLike, returns: ArrayLike, total: int, objective: str, diverged: bool) -> RunScore:
    """A run's score; a return that is not finite is divergence too."""
    values = np.asarray(returns, dtype=float)
    if diverged or not len(values) or not np.isfinite(values).all():
        finite = values[np.isfinite(values)]
        return RunScore(float(finite.min()) if len(finite) else math.nan, diverged=True)
    return RunScore(run_value(steps, values, total, objective))


def worst_seen(trials: Iterable[Scores], floor: Mapping[str, float]) -> dict[str, float]:
    """{env: what a diverged run enters with}: the lowest score of any run there that did not diverge, or `floor`
    {env: a random policy's return}, whichever is lower.

    Where all diverged and no floor is known: the lowest evaluation of any of them, or 0.
    """
    known: dict[str, list[float]] = {}
    last_words: dict[str, list[float]] = {}
    for scores in trials:
        for env, runs in scores.items():
            known.setdefault(env, [floor[env]] if env in floor else []).extend(r.value for r in runs if not r.diverged)
            last_words.setdefault(env, []).extend(r.value for r in runs if r.diverged and math.isfinite(r.value))
    return {env: min(known[env] or last_words[env] or [0.0]) for env in known}


def normalised(value: float, env: str, scale: Mapping[str, tuple[float, float]]) -> float:
    """A return on the study's scale, where it has one."""
    low, high = scale.get(env, (0.0, 1.0))
    return (value - low) / (high - low)


def objective_value(
    scores: Scores,
    worst: Mapping[str, float],
    scale: Mapping[str, tuple[float, float]],
    aggregate: str,
    quantile: float,
) -> float:
    """A trial's value: the interquartile mean (of fewer than four runs, the mean) or a quantile over seeds and
    environments together. Diverged runs enter with the worst seen."""
    values = [
        normalised(worst[env] if run.diverged else run.value, env, scale)
        for env, runs in scores.items()
        for run in runs
    ]
    return float(iqm(values)) if aggregate == "iqm" else float(np.quantile(values, quantile))
