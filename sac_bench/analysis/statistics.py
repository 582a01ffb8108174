"""Statistics of runs: pure functions of arrays. Seeds are the first axis everywhere."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LAST_SHARE = 0.1
"""A run's score is the mean of its evaluations in the last tenth of its steps."""


class Estimate(NamedTuple):
    """A value and its 95% interval; NaN bounds where there are too few seeds for one."""

    value: float
    low: float
    high: float


def run_score(steps: ArrayLike, returns: ArrayLike, total: int) -> float:
    """Mean of `returns` [T] evaluated at `steps` [T] > 0.9 total; the last one if there are none there."""
    at, values = np.asarray(steps), np.asarray(returns, dtype=float)
    if len(values) == 0:
        return float("nan")
    late = at > (1 - LAST_SHARE) * total
    return float(values[late].mean() if late.any() else values[np.argmax(at)])


def iqm(values: ArrayLike) -> NDArray[np.float64]:
    """Interquartile mean over the first axis: [S, ...] -> [...]. With fewer than four seeds, the mean."""
    return np.asarray(stats.trim_mean(np.asarray(values, dtype=float), 0.25, axis=0))


def mean_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of `values` [S] with Student's t interval."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Estimate(float(x.mean()) if len(x) else float("nan"), float("nan"), float("nan"))
    half = stats.t.ppf(0.5 + level / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Estimate(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


def difference_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """mean(a) - mean(b), seeds [S] and [S'] unpaired, with Welch's t interval."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    difference = float(x.mean() - y.mean()) if len(x) and len(y) else float("nan")
    if len(x) < 2 or len(y) < 2:
        return Estimate(difference, float("nan"), float("nan"))
    vx, vy = x.var(ddof=1) / len(x), y.var(ddof=1) / len(y)
    if vx + vy == 0:
        return Estimate(difference, difference, difference)
    freedom = (vx + vy) ** 2 / (vx**2 / (len(x) - 1) + vy**2 / (len(y) - 1))
    half = float(stats.t.ppf(0.5 + level / 2, freedom) * np.sqrt(vx + vy))
    return Estimate(difference, difference - half, difference + half)


def bootstrap_iqm(
    curves: ArrayLike, resamples: int = 2000, level: float = 0.95, seed: int = 0
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """IQM over seeds of curves [S, T] and its percentile bootstrap interval: three arrays [T]."""
    x = np.asarray(curves, dtype=float)
    drawn = np.random.default_rng(seed).integers(len(x), size=(resamples, len(x)))
    resampled = iqm(np.moveaxis(x[drawn], 1, 0))
    low, high = np.quantile(resampled, [0.5 - level / 2, 0.5 + level / 2], axis=0)
    return iqm(x), low, high
