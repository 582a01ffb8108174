"""Computes the value of a trial from the evaluations of its runs. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import ArrayLike

from sac_bench.analysis.statistics import area_score, iqm, run_score


@dataclass(frozen=True)
class RunScore:
    """One run's value by the study's objective.

    For a diverged run: its lowest finite evaluation, or NaN if there is none.
    """

    value: float
    diverged: bool = False
    exploded: bool = False
    """It keeps its value (training/explosion.py)."""


Scores = Mapping[str, Sequence[RunScore]]
"""{env: scores of a trial's runs, in the order of seeds}, all at the same steps."""


def run_value(steps: ArrayLike, returns: ArrayLike, total: int, objective: str) -> float:
    """Return one number for returns [T] of evaluations at `steps` [T] <= total.

    objective: "final" for the mean over the last tenth of `total` steps, "area" for the area under the curve over its
    width.
    """
    return run_score(steps, returns, total) if objective == "final" else area_score(steps, returns)


def scored(steps: ArrayLike, returns: ArrayLike, total: int, objective: str, diverged: bool) -> RunScore:
    """Return a run's score. A run with a return that is not finite counts as diverged."""
    values = np.asarray(returns, dtype=float)
    if diverged or not len(values) or not np.isfinite(values).all():
        finite = values[np.isfinite(values)]
        return RunScore(float(finite.min()) if len(finite) else math.nan, diverged=True)
    return RunScore(run_value(steps, values, total, objective))


def worst_seen(trials: Iterable[Scores], floor: Mapping[str, float]) -> dict[str, float]:
    """Return {env: value of a diverged run}: the lowest score of a run that did not diverge, or the floor if lower.

    floor: {env: a random policy's return}. If all runs diverged and there is no floor: their lowest evaluation, or 0.
    """
    finite: dict[str, list[float]] = {}
    of_diverged: dict[str, list[float]] = {}
    for scores in trials:
        for env, runs in scores.items():
            finite.setdefault(env, [floor[env]] if env in floor else []).extend(r.value for r in runs if not r.diverged)
            of_diverged.setdefault(env, []).extend(r.value for r in runs if r.diverged and math.isfinite(r.value))
    return {env: min(finite[env] or of_diverged[env] or [0.0]) for env in finite}


def normalised(value: float, env: str, scale: Mapping[str, tuple[float, float]]) -> float:
    """Return `value` on the study's scale, if it has one for `env`."""
    low, high = scale.get(env, (0.0, 1.0))
    return (value - low) / (high - low)


def values_of(
    scores: Scores, worst: Mapping[str, float], scale: Mapping[str, tuple[float, float]]
) -> dict[str, list[float]]:
    """Return {env: runs' values on the study's scale}; diverged runs count as `worst`."""
    return {
        env: [normalised(worst[env] if run.diverged else run.value, env, scale) for run in runs]
        for env, runs in scores.items()
    }


def objective_value(
    scores: Scores,
    worst: Mapping[str, float],
    scale: Mapping[str, tuple[float, float]],
    aggregate: str,
    quantile: float,
) -> float:
    """Return a trial's value over the runs of all seeds and environments together.

    aggregate: "iqm" for the interquartile mean (the mean of fewer than four runs), or else the quantile. Diverged runs
    count as `worst`.
    """
    values = [*chain.from_iterable(values_of(scores, worst, scale).values())]
    return float(iqm(values)) if aggregate == "iqm" else float(np.quantile(values, quantile))
