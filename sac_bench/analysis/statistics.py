"""Statistics of runs: pure functions of arrays. Seeds are the first axis everywhere.

Of one environment, scores are an array [S] and curves [S, T]. Of several, a sequence of such arrays, one an
environment, which may differ in their seeds; every environment then weighs the same, however many seeds it has.
Aggregates over environments want scores on one scale: see `normalised`.

Bootstrap intervals are for display: with few seeds they are too narrow. Verdicts stand on Student's t
(sac_bench/analysis/verdicts.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

LAST_SHARE = 0.1
"""A run's score is the mean of its evaluations in the last tenth of its steps."""
RESAMPLES = 2000
BLOCK = 2**15
"""Numbers in a block of resampled statistics: small enough for a core's cache."""

Array = NDArray[np.float64]
Runs = Sequence[ArrayLike]
"""One array [S_e, ...] an environment e: a score or a curve a seed; finite; the axes after the first are the same."""
Weights = Sequence[Array]
"""One array [S_e, B] an environment: each seed's share of it in B resamples; a column adds up to 1."""
Aggregate = Callable[[Runs, Weights | None], Array]
"""A statistic of all runs: [...], or, with weights, of B resamples of them [..., B]."""


class Estimate(NamedTuple):
    """A value and its 95% interval; NaN bounds where there are too few seeds for one."""

    value: float
    low: float
    high: float


class Band(NamedTuple):
    """Values and their 95% intervals: three arrays of one shape, [] for a single number; NaN as in an Estimate."""

    value: Array
    low: Array
    high: Array


# One run, one scale


def run_score(steps: ArrayLike, returns: ArrayLike, total: int) -> float:
    """Mean of `returns` [T] evaluated at `steps` [T] > 0.9 total; the last one if there are none there."""
    at, values = np.asarray(steps), np.asarray(returns, dtype=float)
    if len(values) == 0:
        return float("nan")
    late = at > (1 - LAST_SHARE) * total
    return float(values[late].mean() if late.any() else values[np.argmax(at)])


def area_score(steps: ArrayLike, returns: ArrayLike) -> float:
    """Area under the curve `returns` [T] at `steps` [T] by the trapezoidal rule, over its width: a mean return.

    Steps in any order, each once; the only return of a curve of one, NaN of none.
    """
    at, values = np.asarray(steps, dtype=float), np.asarray(returns, dtype=float)
    if len(values) < 2:
        return float(values[0]) if len(values) else float("nan")
    order = np.argsort(at)
    return float(np.trapezoid(values[order], at[order]) / (at.max() - at.min()))


def normalised(scores: ArrayLike, random: float, reference: float) -> Array:
    """Scores of one environment where a random policy's is 0 and a reference's 1. ValueError unless random < reference.

    Aggregates over environments stand and fall with the reference: a table must name it.
    """
    if not random < reference:
        raise ValueError(f"the reference's score, {reference}, must be above a random policy's, {random}")
    return np.asarray((np.asarray(scores, dtype=float) - random) / (reference - random))


# Means and their differences, by Student's t


def iqm(values: ArrayLike) -> Array:
    """Interquartile mean over the first axis: [S, ...] -> [...]. With fewer than four seeds, the mean."""
    return np.asarray(stats.trim_mean(np.asarray(values, dtype=float), 0.25, axis=0))


def mean_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Mean of `values` [S] with Student's t interval."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Estimate(float(x.mean()) if len(x) else float("nan"), float("nan"), float("nan"))
    half = stats.t.ppf(0.5 + level / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Estimate(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


@dataclass(frozen=True)
class Difference:
    """A difference of two means, as Student's t sees it; made by `unpaired` or `paired`."""

    value: float
    variances: tuple[float, ...]
    """Over the seeds of each side; paired, one: of the pairs' differences. NaN of fewer than two seeds."""
    seeds: tuple[int, ...]
    """Of each side; paired, one: the pairs."""

    @property
    def error(self) -> float:
        """The standard error; NaN where a side has fewer than two seeds."""
        return float(np.sqrt(sum(self._squares)))

    @property
    def freedom(self) -> float:
        """Degrees of freedom by Welch and Satterthwaite; NaN where the error is NaN or 0."""
        if not self.error > 0:
            return float("nan")
        shares = [square / sum(self._squares) for square in self._squares]
        return 1 / sum(share**2 / (n - 1) for share, n in zip(shares, self.seeds, strict=True))

    @property
    def _squares(self) -> list[float]:
        return [v / n if n > 1 else float("nan") for v, n in zip(self.variances, self.seeds, strict=True)]

    def tail(self, distance: float) -> float:
        """The chance that the difference is at least this far above the true one. Without spread, 0, 1/2 or 1."""
        if self.error == 0:
            return float(np.heaviside(-distance, 0.5))
        return float(stats.t.sf(distance / self.error, self.freedom))

    def interval(self, level: float = 0.95) -> Estimate:
        """With Student's t interval."""
        half = 0.0 if self.error == 0 else float(stats.t.ppf(0.5 + level / 2, self.freedom) * self.error)
        return Estimate(self.value, self.value - half, self.value + half)

    def with_seeds(self, n: int) -> Difference:
        """As this, had each side n seeds."""
        return replace(self, seeds=(n,) * len(self.seeds))


def unpaired(a: ArrayLike, b: ArrayLike) -> Difference:
    """mean(a) - mean(b) of seeds [S] and [S'] that have nothing to do with each other (Welch 1947)."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    value = float(x.mean() - y.mean()) if len(x) and len(y) else float("nan")
    return Difference(value, (_variance(x), _variance(y)), (len(x), len(y)))


def paired(a: ArrayLike, b: ArrayLike) -> Difference:
    """mean(a) - mean(b), seeds [S] and [S] in the same order, by the differences of the pairs. ValueError otherwise."""
    between = np.subtract(*_pairs(a, b))
    return Difference(float(between.mean()) if len(between) else float("nan"), (_variance(between),), (len(between),))


def _variance(values: Array) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else float("nan")


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"pairs need two arrays [S] of one length, not {x.shape} and {y.shape}")
    return x, y


def difference_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """mean(a) - mean(b), seeds [S] and [S'] unpaired, with Welch's t interval."""
    return unpaired(a, b).interval(level)


def seed_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Pearson's correlation of paired seeds [S] and [S] in [-1, 1]; NaN of fewer than three or without spread."""
    x, y = _pairs(a, b)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


# Aggregates over environments and seeds (Agarwal et al. 2021, arXiv 2108.13264, section 4.3), on one scale


def aggregate_mean(runs: Runs, weights: Weights | None = None) -> Array:
    """Mean over environments of the means over seeds."""
    return np.asarray(np.mean(_means(runs, weights), axis=0))


def aggregate_median(runs: Runs, weights: Weights | None = None) -> Array:
    """Median over environments of the means over seeds."""
    return np.asarray(np.median(_means(runs, weights), axis=0))


def aggregate_optimality_gap(runs: Runs, weights: Weights | None = None, target: float = 1.0) -> Array:
    """How far runs stay below the target on average; one above it counts as at it."""
    return target - aggregate_mean([np.minimum(x, target) for x in runs], weights)


def aggregate_iqm(runs: Runs, weights: Weights | None = None) -> Array:
    """Mean of the middle half of all N runs: floor(N / 4) / N of their weight is cut at each end.

    With the same number of seeds everywhere, the 25% trimmed mean of all runs together. Resamples are not sorted one by
    one: the mean of what is left is the lowest score, plus every gap between neighbours in the sorted scores times the
    share of what is left that lies above it.
    """
    x = np.concatenate(_checked(runs))
    weight = np.concatenate(_weights(runs, weights)) / len(runs)
    cut = len(x) // 4 / len(x)
    columns = x.reshape(len(x), -1)
    order = columns.argsort(axis=0)
    ranked = np.take_along_axis(columns, order, axis=0)
    above = np.full((columns.shape[1], weight.shape[1]), 1 - cut)
    result = np.repeat(ranked[:1].T, weight.shape[1], axis=1)
    for run, gap in zip(order[:-1], np.diff(ranked, axis=0), strict=True):
        above -= weight[run]
        result += gap[:, None] / (1 - 2 * cut) * np.clip(above, 0, 1 - 2 * cut)
    shaped = result.reshape(*x.shape[1:], -1)
    return shaped if weights else shaped[..., 0]


def aggregate_improvement(runs: Runs, weights: Weights | None = None) -> Array:
    """Of scores [S_e] of a in E environments and then of b in the same: see `probability_of_improvement`."""
    half = len(runs) // 2
    x, shares = _checked(runs), _weights(runs, weights)
    chances = []
    for a, b, of_a, of_b in zip(x[:half], x[half:], shares[:half], shares[half:], strict=True):
        wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
        chances.append(((wins.T @ of_a) * of_b).sum(axis=0))
    mean = np.mean(chances, axis=0)
    return np.asarray(mean if weights else mean[0])


def _means(runs: Runs, weights: Weights | None) -> Array:
    """Means over seeds [E, ...], or [E, ..., B] of resamples."""
    means = np.array(
        [np.tensordot(x, share, axes=(0, 0)) for x, share in zip(_checked(runs), _weights(runs, weights), strict=True)]
    )
    return means if weights else means[..., 0]


def _checked(runs: Runs) -> list[Array]:
    arrays = [np.asarray(x, dtype=float) for x in runs]
    if not arrays or not all(map(len, arrays)):
        raise ValueError("an aggregate needs environments, and at least one seed in each")
    return arrays


def _weights(runs: Runs, weights: Weights | None) -> Weights:
    """Where none are given, each seed's share of its environment, as one resample."""
    return weights or [np.full((len(x), 1), 1 / len(x)) for x in _checked(runs)]


# The stratified bootstrap (the same paper, section 4.2)


def bootstrap(runs: Runs, aggregate: Aggregate, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0) -> Band:
    """A statistic of runs with its percentile interval [...]: seeds are drawn anew within each environment.

    Whole curves are drawn. NaN bounds where an environment has fewer than two seeds. ValueError where one has none.
    """
    value = aggregate(runs, None)
    if min(map(len, _checked(runs))) < 2:
        return Band(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    blocks = [aggregate(runs, drawn) for drawn in _resampled(_checked(runs), resamples, max(value.size, 1), seed)]
    low, high = np.quantile(np.concatenate(blocks, axis=-1), [0.5 - level / 2, 0.5 + level / 2], axis=-1)
    return Band(value, low, high)


def _resampled(runs: list[Array], resamples: int, size: int, seed: int) -> Iterator[Weights]:
    """Weights of the resamples, in blocks for statistics of `size` numbers."""
    random = np.random.default_rng(seed)
    most = max(1, min(BLOCK // size, 100 * BLOCK // sum(map(len, runs))))
    for first in range(0, resamples, most):
        b = min(most, resamples - first)
        weights = []
        for n in map(len, runs):
            drawn = random.integers(n, size=(b, n)) + n * np.arange(b)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n)
            weights.append(np.ascontiguousarray(counts.T / n))
        yield weights


def bootstrap_iqm(curves: ArrayLike, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0) -> Band:
    """IQM over seeds of one environment's curves [S, T] and its bootstrap interval: three arrays [T]."""
    return bootstrap([curves], aggregate_iqm, resamples, level, seed)


def performance_profile(runs: Runs, thresholds: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Band:
    """Share of runs with scores [S_e] above each of `thresholds` [T], with its bootstrap interval [T] (section 4.3)."""
    above = [x[:, None] > np.asarray(thresholds) for x in _checked(runs)]
    return bootstrap(above, aggregate_mean, resamples, seed=seed)


def probability_of_improvement(a: Runs, b: Runs, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """P(a > b) + P(a = b) / 2 of a run of each, the mean over environments, with its bootstrap interval.

    Scores [S_e] and [S'_e] in the same environments in the same order; Mann and Whitney's U over S_e S'_e. Seeds of
    the two sides are drawn apart. ValueError where they differ in the number of environments.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} environments against {len(b)}")
    return Estimate(*map(float, bootstrap([*a, *b], aggregate_improvement, resamples, seed=seed)))
