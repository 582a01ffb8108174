"""Statistics of runs: pure functions of arrays. Seeds are always the first axis.

For one environment, scores are an array [S] and curves [S, T]. For several, they are a sequence of such arrays, one per
environment. The number of seeds may differ; every environment has the same weight. Aggregates over environments require
scaled scores: see `normalised`.

Bootstrap intervals are for display: with few seeds they are too narrow. Verdicts are based on permutations and
Student's t (sac_bench/analysis/verdicts.py).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sac_bench.spec.measures import LAST_SHARE

RESAMPLES = 2000
NUMBERS_PER_BLOCK = 2**15
"""Numbers in a block of resampled statistics, which must fit a core's cache."""

Array = NDArray[np.float64]
Runs = Sequence[ArrayLike]
"""One finite array [S_e, ...] per environment e, with a score or curve per seed. Only the first axes may differ."""
Weights = Sequence[Array]
"""One array [S_e, B] per environment: each seed's share in B resamples. Each column sums to 1."""
Aggregate = Callable[[Runs, Weights | None], Array]
"""A statistic of all runs [...] or, with weights, of B resamples of them [..., B]."""


class Estimate(NamedTuple):
    """A value and its 95% interval; the bounds are NaN if there are too few seeds."""

    value: float
    low: float
    high: float


NO_ESTIMATE = Estimate(math.nan, math.nan, math.nan)


class Band(NamedTuple):
    """Values and their 95% intervals: three arrays of one shape, [] for one number; NaN as in an Estimate."""

    value: Array
    low: Array
    high: Array


# One run, one scale


def run_score(steps: ArrayLike, returns: ArrayLike, total: int, last: float = LAST_SHARE) -> float:
    """Return the mean of `returns` [T] at `steps` [T] > (1 - last) total, or the last one if there are none."""
    at, values = np.asarray(steps), np.asarray(returns, dtype=float)
    if len(values) == 0:
        return float("nan")
    late = is_late(at, total, last)
    return float(values[late].mean() if late.any() else values[np.argmax(at)])


def is_late(steps: NDArray[Any], total: int, last: float = LAST_SHARE) -> NDArray[np.bool_]:
    """Return which of `steps` [T] are in the last share of `total`."""
    return steps > round(total - last * total, 6)


def area_score(steps: ArrayLike, returns: ArrayLike) -> float:
    """Return the area under `returns` [T] at `steps` [T] by the trapezoidal rule, divided by its width: a mean return.

    Steps may be in any order but must not be duplicated. A single return is its own area; without returns it is NaN.
    """
    at, values = np.asarray(steps, dtype=float), np.asarray(returns, dtype=float)
    if len(values) < 2:
        return float(values[0]) if len(values) else float("nan")
    order = np.argsort(at)
    return float(np.trapezoid(values[order], at[order]) / (at.max() - at.min()))


def largest_fall(returns: ArrayLike) -> float:
    """Return the largest fall of `returns` [T] from one to a later one: 0 if they never fall, NaN if there are none."""
    values = np.asarray(returns, dtype=float)
    return float((np.maximum.accumulate(values) - values).max()) if len(values) else float("nan")


def normalised(scores: ArrayLike, random: float, reference: float) -> Array:
    """Scale one environment's scores: a random policy's becomes 0, the reference's 1.

    Aggregates over environments depend on the reference, so a table must name it. Raises ValueError unless random <
    reference.
    """
    if not random < reference:
        raise ValueError(f"the reference's score, {reference}, must be above a random policy's, {random}")
    return np.asarray((np.asarray(scores, dtype=float) - random) / (reference - random))


# Means and their differences, by Student's t


def iqm(values: ArrayLike) -> Array:
    """Return the interquartile mean over the first axis, [S, ...] -> [...]; with fewer than four seeds, the mean."""
    return np.asarray(stats.trim_mean(np.asarray(values, dtype=float), 0.25, axis=0))


def mean_interval(values: ArrayLike, level: float = 0.95) -> Estimate:
    """Return the mean of `values` [S] with Student's t interval."""
    x = np.asarray(values, dtype=float)
    if len(x) < 2:
        return Estimate(float(x.mean()) if len(x) else float("nan"), float("nan"), float("nan"))
    half = stats.t.ppf(0.5 + level / 2, len(x) - 1) * x.std(ddof=1) / np.sqrt(len(x))
    return Estimate(float(x.mean()), float(x.mean() - half), float(x.mean() + half))


@dataclass(frozen=True)
class Difference:
    """A difference of two means with what Student's t requires; made by `unpaired` or `paired`."""

    value: float
    variances: tuple[float, ...]
    """Variance over the seeds of each side; if paired, one: of the pairs' differences. NaN below two seeds."""
    seeds: tuple[int, ...]
    """The number of seeds of each side; if paired, one: the number of pairs."""

    @property
    def error(self) -> float:
        """The standard error; NaN if a side has fewer than two seeds."""
        return float(np.sqrt(sum(self._squares)))

    @property
    def freedom(self) -> float:
        """The degrees of freedom by Welch and Satterthwaite; NaN if the error is NaN or 0."""
        if not self.error > 0:
            return float("nan")
        shares = [square / sum(self._squares) for square in self._squares]
        return 1 / sum(share**2 / (n - 1) for share, n in zip(shares, self.seeds, strict=True))

    @property
    def _squares(self) -> list[float]:
        return [v / n if n > 1 else float("nan") for v, n in zip(self.variances, self.seeds, strict=True)]

    def tail(self, distance: float) -> float:
        """Return the probability that the difference is at least this far above the true one.

        Without error, it is 0, 1/2 or 1.
        """
        if self.error == 0:
            return float(np.heaviside(-distance, 0.5))
        return float(stats.t.sf(distance / self.error, self.freedom))

    def above(self, shift: float = 0.0) -> float:
        """Return the p-value of a true difference of `shift` or less: small if a is shown to be better by more."""
        return self.tail(self.value - shift)

    def below(self, shift: float = 0.0) -> float:
        """Return the p-value of a true difference of `shift` or more: small if a is shown to be less than that."""
        return self.tail(shift - self.value)

    @property
    def spread(self) -> Difference:
        """The difference itself (see `hypotheses.Evidence`)."""
        return self

    def for_level(self, alpha: float) -> Difference:
        """Return the difference itself: it is exact at every level."""
        return self

    def least_p(self, seeds: Sequence[int]) -> float:
        """Return the lowest possible p-value with so many seeds: there is no limit."""
        return 0.0

    def interval(self, level: float = 0.95) -> Estimate:
        """Return the difference with Student's t interval."""
        half = 0.0 if self.error == 0 else float(stats.t.ppf(0.5 + level / 2, self.freedom) * self.error)
        return Estimate(self.value, self.value - half, self.value + half)

    def minus(self, other: Difference) -> Difference:
        """Return this difference minus another one, of independent seeds, with the seeds and variances of all sides."""
        return Difference(self.value - other.value, self.variances + other.variances, self.seeds + other.seeds)

    def grown(self, factor: float) -> Difference:
        """Return the same difference with this many times the seeds on each side."""
        return replace(self, seeds=tuple(round(n * factor) for n in self.seeds))


def unpaired(a: ArrayLike, b: ArrayLike) -> Difference:
    """Return mean(a) - mean(b) of independent seeds [S] and [S'] (Welch 1947)."""
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    value = float(x.mean() - y.mean()) if len(x) and len(y) else float("nan")
    return Difference(value, (_variance(x), _variance(y)), (len(x), len(y)))


def paired(a: ArrayLike, b: ArrayLike) -> Difference:
    """Return mean(a) - mean(b) from the differences of pairs: seeds [S] and [S] in one order. ValueError otherwise."""
    between = np.subtract(*_pairs(a, b))
    return Difference(float(between.mean()) if len(between) else float("nan"), (_variance(between),), (len(between),))


def shares(a: ArrayLike, b: ArrayLike) -> Difference:
    """Return mean(a) - mean(b) of independent seeds [S] and [S'] with values 0 or 1.

    The variance of a side is that with a 0 and a 1 added, so it is not 0 if all seeds have the same value: ten seeds
    without a failure do not show that failures are impossible. Source: Agresti and Caffo 2000 (The American
    Statistician 54, p. 280), who also shift the difference.
    """
    difference = unpaired(a, b)
    added = [(np.sum(x) + 1) / (np.size(x) + 2) for x in (a, b)]
    return replace(difference, variances=tuple(float(p * (1 - p)) for p in added))


def _variance(values: Array) -> float:
    return float(values.var(ddof=1)) if len(values) > 1 else float("nan")


def _pairs(a: ArrayLike, b: ArrayLike) -> tuple[Array, Array]:
    x, y = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"pairs need two arrays [S] of one length, not {x.shape} and {y.shape}")
    return x, y


def difference_interval(a: ArrayLike, b: ArrayLike, level: float = 0.95) -> Estimate:
    """Return mean(a) - mean(b) of unpaired seeds [S] and [S'] with Welch's t interval."""
    return unpaired(a, b).interval(level)


def seed_correlation(a: ArrayLike, b: ArrayLike) -> float:
    """Return Pearson's correlation of paired seeds [S] and [S]; NaN below three seeds or without spread."""
    x, y = _pairs(a, b)
    if len(x) < 3 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return float("nan")
    return float(np.corrcoef(x, y)[0, 1])


# Aggregates over environments and seeds (Agarwal et al. 2021, arXiv 2108.13264, section 4.3), on one scale


def aggregate_mean(runs: Runs, weights: Weights | None = None) -> Array:
    """Return the mean over environments of the means over seeds."""
    return np.asarray(np.mean(_means(runs, weights), axis=0))


def aggregate_median(runs: Runs, weights: Weights | None = None) -> Array:
    """Return the median over environments of the means over seeds."""
    return np.asarray(np.median(_means(runs, weights), axis=0))


def aggregate_optimality_gap(runs: Runs, weights: Weights | None = None, target: float = 1.0) -> Array:
    """Return how far runs are below the target on average; runs above it count as at it."""
    return target - aggregate_mean([np.minimum(x, target) for x in runs], weights)


def aggregate_iqm(runs: Runs, weights: Weights | None = None) -> Array:
    """Return the mean of the middle half of all N runs: floor(N / 4) / N of their weight is cut at each end.

    If all environments have the same number of seeds, this is the 25% trimmed mean of all runs. Resamples are not
    sorted one by one: the mean of the remaining weight is the lowest score plus, for every gap between neighbours in
    the sorted scores, the gap times the share of the remaining weight above it.
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
    """Return `probability_of_improvement` of a over b, given scores [S_e] of a in E environments, then of b."""
    half = len(runs) // 2
    x, shares = _checked(runs), _weights(runs, weights)
    chances = []
    for a, b, of_a, of_b in zip(x[:half], x[half:], shares[:half], shares[half:], strict=True):
        wins = (a[:, None] > b) + 0.5 * (a[:, None] == b)
        chances.append(((wins.T @ of_a) * of_b).sum(axis=0))
    mean = np.mean(chances, axis=0)
    return np.asarray(mean if weights else mean[0])


def _means(runs: Runs, weights: Weights | None) -> Array:
    """Return means over seeds [E, ...], or of resamples [E, ..., B]."""
    means = np.array(
        [np.tensordot(x, share, axes=(0, 0)) for x, share in zip(_checked(runs), _weights(runs, weights), strict=True)]
    )
    return means if weights else means[..., 0]


def _checked(runs: Runs) -> list[Array]:
    arrays = [np.asarray(x, dtype=float) for x in runs]
    if not arrays or not all(map(len, arrays)):
        raise ValueError("an aggregate requires environments with at least one seed each")
    return arrays


def _weights(runs: Runs, weights: Weights | None) -> Weights:
    """Return the weights; if there are none, equal weights as one resample."""
    return weights or [np.full((len(x), 1), 1 / len(x)) for x in _checked(runs)]


# The stratified bootstrap (the same paper, section 4.2)


def bootstrap(runs: Runs, aggregate: Aggregate, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0) -> Band:
    """Return a statistic of runs with its percentile interval [...]: seeds are resampled within each environment.

    Whole curves are resampled. The bounds are NaN if an environment has fewer than two seeds. Raises ValueError if one
    has none.
    """
    value = aggregate(runs, None)
    if min(map(len, _checked(runs))) < 2:
        return Band(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    blocks = [aggregate(runs, drawn) for drawn in _resampled(_checked(runs), resamples, max(value.size, 1), seed)]
    low, high = np.quantile(np.concatenate(blocks, axis=-1), [0.5 - level / 2, 0.5 + level / 2], axis=-1)
    return Band(value, low, high)


def _resampled(runs: list[Array], resamples: int, size: int, seed: int) -> Iterator[Weights]:
    """Yield the weights of the resamples, in blocks for statistics of `size` numbers."""
    random = np.random.default_rng(seed)
    most = max(1, min(NUMBERS_PER_BLOCK // size, 100 * NUMBERS_PER_BLOCK // sum(map(len, runs))))
    for first in range(0, resamples, most):
        b = min(most, resamples - first)
        weights = []
        for n in map(len, runs):
            drawn = random.integers(n, size=(b, n)) + n * np.arange(b)[:, None]
            counts = np.bincount(drawn.ravel(), minlength=b * n).reshape(b, n)
            weights.append(np.ascontiguousarray(counts.T / n))
        yield weights


def bootstrap_iqm(curves: ArrayLike, resamples: int = RESAMPLES, level: float = 0.95, seed: int = 0) -> Band:
    """Return the IQM over seeds of one environment's curves [S, T] with its bootstrap interval: three arrays [T]."""
    return bootstrap([curves], aggregate_iqm, resamples, level, seed)


def performance_profile(runs: Runs, thresholds: ArrayLike, resamples: int = RESAMPLES, seed: int = 0) -> Band:
    """Return the share of runs [S_e] that score above each threshold [T], with its bootstrap interval (section 4.3)."""
    above = [x[:, None] > np.asarray(thresholds) for x in _checked(runs)]
    return bootstrap(above, aggregate_mean, resamples, seed=seed)


def probability_of_improvement(a: Runs, b: Runs, resamples: int = RESAMPLES, seed: int = 0) -> Estimate:
    """Return P(a > b) + P(a = b) / 2 for a run of each, averaged over environments, with its bootstrap interval.

    In each environment it is Mann and Whitney's U over S_e S'_e, for scores [S_e] and [S'_e]. Both have the same
    environments in the same order, and their seeds are resampled independently. Raises ValueError if the numbers of
    environments differ.
    """
    if len(a) != len(b):
        raise ValueError(f"{len(a)} environments against {len(b)}")
    return Estimate(*map(float, bootstrap([*a, *b], aggregate_improvement, resamples, seed=seed)))
