"""Permutation tests of a difference of means, and intervals by inverting them. Pure functions of scores.

A test permutes which side each seed belongs to. It is exact, whatever the distribution, if both sides have the same
distribution up to the tested shift. The statistic is Welch's t, so that the test is also right for large numbers of
seeds if only the means are equal (Janssen 1997, Statistics & Probability Letters 36, p. 9; Chung and Romano 2013,
Annals of Statistics 41, p. 484). With few seeds and unequal distributions it is wrong too often, and so is Student's t,
but seldom both (results/record/sequential). So p-values are the larger of the two. With several environments, seeds are
permuted within each, and the statistic is the mean of the differences over its standard error.

Small samples have few permutations, and the p-value cannot be below one over their number. All are used if there are at
most `DRAWS`, else a fixed random sample of that size: then a p-value counts the observed labelling as one more draw
(Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9, article 39).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sac_bench.analysis.statistics import Array, Difference, Estimate

PValue = Callable[[float], float]

DRAWS = 40_000
SCREEN = 1_000
"""Draws of a first, cheap estimate. A p-value is refined with all DRAWS only if this estimate is below SCREENED."""
SCREENED = 0.1
COARSE = 10_000
"""Draws for an interval."""
WIDEST = 1e3
"""Standard errors. An interval's bound farther away is infinite."""
PRECISION = 0.02
"""Standard errors to which an interval's bound is computed."""
TOLERANCE = 1e-9
"""Relative. Labellings whose statistic differs from the observed by less count as equal to it."""


@dataclass(frozen=True, eq=False)
class Permuted:
    """mean(a) - mean(b), averaged over environments, and its p-values: the larger of the permutations' and Student's.

    a, b: one array of scores [S_e] and [S'_e] per environment e, each with at least two seeds.
    """

    a: tuple[Array, ...]
    b: tuple[Array, ...]
    draws: int = DRAWS

    @property
    def value(self) -> float:
        """The observed difference."""
        return float(np.mean([x.mean() - y.mean() for x, y in zip(self.a, self.b, strict=True)]))

    @property
    def spread(self) -> Difference:
        """The difference with its standard error and degrees of freedom by Welch and Satterthwaite."""
        sides = [x for pair in zip(self.a, self.b, strict=True) for x in pair]
        variances = tuple(float(x.var(ddof=1)) / len(self.a) ** 2 for x in sides)
        return Difference(self.value, variances, tuple(map(len, sides)))

    def least_p(self, seeds: Sequence[int]) -> float:
        """Return the lowest possible p-value with so many seeds: one over the number of labellings, or of draws."""
        sizes = zip(seeds[::2], seeds[1::2], strict=True)
        return 1 / min(math.prod(math.comb(n + m, n) for n, m in sizes), self.draws + 1)

    def above(self, shift: float = 0.0) -> float:
        """Return the p-value of a true difference of `shift` or less: small if a is shown to be better by more."""
        return max(self.by_permutation(shift, 1), self.spread.above(shift))

    def below(self, shift: float = 0.0) -> float:
        """Return the p-value of a true difference of `shift` or more: small if a is shown to be less than that."""
        return max(self.by_permutation(shift, -1), self.spread.below(shift))

    def interval(self, level: float = 0.95) -> Estimate:
        """Return the differences that the tests do not reject at this level, from COARSE draws."""
        coarse = replace(self, draws=min(self.draws, COARSE))
        return inverted(coarse.above, coarse.below, self.spread, 1 - level)

    def by_permutation(self, shift: float, sign: int) -> float:
        """Return the share of labellings with a difference at least as large (sign 1) or small (-1) as observed."""
        pooled = [np.concatenate([x - shift, y]) for x, y in zip(self.a, self.b, strict=True)]
        pooled = [x - x.mean() for x in pooled]
        sizes = tuple((len(x), len(y)) for x, y in zip(self.a, self.b, strict=True))
        observed = sign * float(t_statistics(pooled, [_first(n, m)[None] for n, m in sizes])[0])
        every = math.prod(math.comb(n + m, n) for n, m in sizes)
        if every > SCREEN:
            screened = _share(sign * t_statistics(pooled, labels(sizes, SCREEN)), observed, every)
            if screened > SCREENED:
                return screened
        return _share(sign * t_statistics(pooled, labels(sizes, self.draws)), observed, every)


@dataclass(frozen=True, eq=False)
class Flipped:
    """The mean of paired differences [S], and its p-values by flipping their signs.

    Exact if the differences are symmetric around the tested shift.
    """

    pairs: Array

    @property
    def value(self) -> float:
        """The observed mean difference."""
        return float(self.pairs.mean())

    @property
    def spread(self) -> Difference:
        """The mean difference with its standard error and degrees of freedom."""
        return Difference(self.value, (float(self.pairs.var(ddof=1)),), (len(self.pairs),))

    def least_p(self, seeds: Sequence[int]) -> float:
        """Return the lowest possible p-value with so many pairs: one over the number of signs, or of draws."""
        return 1 / min(2 ** seeds[0], DRAWS + 1)

    def above(self, shift: float = 0.0) -> float:
        """Return the p-value of a true mean of `shift` or less."""
        centred = self.pairs - shift
        sums = signs(len(centred)) @ centred
        return _share(sums, float(centred.sum()), 2 ** len(centred))

    def below(self, shift: float = 0.0) -> float:
        """Return the p-value of a true mean of `shift` or more."""
        return Flipped(-self.pairs).above(-shift)

    def interval(self, level: float = 0.95) -> Estimate:
        """Return the mean differences that the tests do not reject at this level."""
        return inverted(self.above, self.below, self.spread, 1 - level)


def permuted(a: ArrayLike, b: ArrayLike) -> Permuted:
    """Return the permutation test of scores [S] and [S'] in one environment."""
    return Permuted((np.asarray(a, dtype=float),), (np.asarray(b, dtype=float),))


def inverted(above: PValue, below: PValue, observed: Difference, alpha: float) -> Estimate:
    """Return the differences that two one-sided tests at level alpha / 2 do not reject.

    A bound is infinite if so few seeds cannot reject anything on its side. Without a standard error it is the value.
    """
    if not observed.error > 0:
        return observed.interval(1 - alpha)
    start = float(stats.t.isf(alpha / 2, observed.freedom)) * observed.error
    low = _distance(lambda d: above(observed.value - d) > alpha / 2, start, observed.error)
    high = _distance(lambda d: below(observed.value + d) > alpha / 2, start, observed.error)
    return Estimate(observed.value, observed.value - low, observed.value + high)


def _distance(is_inside: Callable[[float], bool], start: float, error: float) -> float:
    """Return the distance from the observed value up to which shifts are inside, by bisection from a first guess."""
    near, far = 0.0, start
    while is_inside(far):
        near, far = far, 1.5 * far
        if far > WIDEST * error:
            return float("inf")
    while far - near > PRECISION * error:
        middle = (near + far) / 2
        near, far = (middle, far) if is_inside(middle) else (near, middle)
    return far


def _share(statistics: Array, observed: float, every: int) -> float:
    """Return the share of labellings whose statistic is at least the observed.

    `every`: how many labellings there are. If `statistics` are a sample of them, the observed one counts as a draw.
    """
    tolerance = TOLERANCE * max(1.0, abs(observed)) if math.isfinite(observed) else 0.0
    at_least = int(np.count_nonzero(statistics >= observed - tolerance))
    if len(statistics) == every:
        return at_least / every
    return (at_least + 1) / (len(statistics) + 1)


def t_statistics(pooled: Sequence[Array], first: Sequence[Array]) -> Array:
    """Return Welch's t [B] of labellings: the mean over environments of the differences, over its standard error.

    pooled: scores [N_e] of both sides per environment, with mean 0.
    first: per environment [B, N_e], 1 where a score is on the first side and else 0; rows of equal sums.
    Without spread, it is infinite with the difference's sign, or 0 if there is no difference.
    """
    difference = square = np.zeros(1)
    for scores, of_first in zip(pooled, first, strict=True):
        n = of_first[0].sum()
        m = len(scores) - n
        sums, squares = (of_first @ np.stack([scores, scores**2], axis=1)).T
        rest, rest_squares = scores.sum() - sums, (scores**2).sum() - squares
        difference = difference + sums / n - rest / m
        square = square + _squared_error(sums, squares, n) + _squared_error(rest, rest_squares, m)
    scale = max((float(np.abs(scores).max(initial=0.0)) for scores in pooled), default=0.0)
    error = np.sqrt(np.where(square <= (1e-12 * scale) ** 2, 0.0, square))
    difference = np.where(np.abs(difference) <= 1e-12 * scale, 0.0, difference)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(np.nan_to_num(difference / error, nan=0.0, posinf=np.inf, neginf=-np.inf), dtype=float)


def _squared_error(sums: Array, squares: Array, n: float) -> Array:
    """Return the squared standard errors of means of n values, given their sums and sums of squares."""
    return np.asarray(np.maximum(squares - sums**2 / n, 0.0) / (n - 1) / n, dtype=float)


def _first(n: int, m: int) -> Array:
    """Return the observed labelling [n + m]: ones for the first side, then zeros."""
    return np.repeat([1.0, 0.0], [n, m])


@functools.lru_cache(maxsize=8)
def labels(sizes: tuple[tuple[int, int], ...], draws: int) -> tuple[Array, ...]:
    """Return labellings [B, n + m] per environment with sides of (n, m): all if at most `draws`, else a sample.

    A labelling is 1 for scores on the first side and else 0. The sample is the same in every process.
    """
    if len(sizes) == 1 and math.comb(sum(sizes[0]), sizes[0][0]) <= draws:
        n, total = sizes[0][0], sum(sizes[0])
        chosen = np.array(list(combinations(range(total), n)))
        first = np.zeros((len(chosen), total))
        np.put_along_axis(first, chosen, 1.0, axis=1)
        return (first,)
    random = np.random.default_rng(0)
    return tuple(random.permuted(np.tile(_first(n, m), (draws, 1)), axis=1) for n, m in sizes)


@functools.lru_cache(maxsize=16)
def signs(n: int) -> Array:
    """Return signs [B, n], -1 or 1: all 2^n if that is at most DRAWS, else a sample of DRAWS."""
    if 2**n <= DRAWS:
        ones = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
    else:
        ones = np.random.default_rng(0).integers(2, size=(DRAWS, n))
    return np.asarray(1 - 2 * ones, dtype=float)
