"""Permutation tests of a difference of means, and intervals by inverting them. Pure functions of scores.

A test permutes which side each seed belongs to. It is exact, whatever the distribution, if both sides have the same
distribution up to the tested shift. The statistic is Welch's t, so that the test is also right for large numbers of
seeds if only the means are equal (Janssen 1997, Statistics & Probability Letters 36, p. 9; Chung and Romano 2013,
Annals of Statistics 41, p. 484). With few seeds and unequal distributions it errs too often, and so does Student's t,
but seldom both (results/record/sequential). So the larger p-value of the two counts. With several environments, seeds
are permuted within each, and the statistic is the mean of the differences over its standard error.

Small samples have few permutations, and the p-value cannot be below one over their number. All are used if there are at
most `draws`, else a fixed random sample of that size: then a p-value counts the observed labelling as one more draw
(Phipson and Smyth 2010, Statistical Applications in Genetics and Molecular Biology 9, article 39). A test at a low
level takes more draws (`for_level`). Labellings are kept as bits, within a fixed memory.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from sac_bench.analysis.statistics import Array, Difference, Estimate

PValue = Callable[[float], float]
Sizes = tuple[tuple[int, int], ...]
"""The numbers of seeds on both sides in each environment."""
Bits = NDArray[np.uint8]
"""Rows of N zeros and ones [B, ceil(N / 8)], eight in a byte."""

MIN_TEST_DRAWS = 40_000
"""The fewest draws of a test."""
DRAWS_FACTOR = 2
"""A test at a low level has this many times the draws without which it could not reject anything."""
MAX_LABELLING_BYTES = 2**28
"""The most bytes of a test's labellings, and of all that are kept."""
LABELS_AT_ONCE = 2**20
"""Labels that are unpacked at once."""
SCREENING_DRAWS = 1_000
"""Draws of a first, cheap estimate of a p-value. It is refined with all draws only if it is below MAX_REFINED_P."""
MAX_REFINED_P = 0.1
MIN_INTERVAL_DRAWS = 10_000
"""The fewest draws of an interval."""
MAX_BOUND_DISTANCE = 1e3
"""Standard errors. An interval's bound farther away is infinite."""
BOUND_PRECISION = 0.02
"""Standard errors to which an interval's bound is computed."""
TIE_TOLERANCE = 1e-9
"""Relative. Labellings whose statistic differs from the observed by less count as equal to it."""


@dataclass(frozen=True, eq=False)
class Permuted:
    """mean(a) - mean(b), averaged over environments, and its p-values: the larger of the permutations' and Student's.

    a, b: one array of scores [S_e] and [S'_e] per environment e, each with at least two seeds.
    """

    a: tuple[Array, ...]
    b: tuple[Array, ...]
    draws: int = MIN_TEST_DRAWS

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

    @property
    def sizes(self) -> Sizes:
        """The numbers of seeds."""
        return tuple((len(x), len(y)) for x, y in zip(self.a, self.b, strict=True))

    def for_level(self, alpha: float) -> Permuted:
        """Return the same with draws that suffice for a two-sided test at level alpha, if there is memory for them."""
        return replace(self, draws=max(self.draws, draws_for(alpha, self.sizes)))

    def least_p(self, seeds: Sequence[int]) -> float:
        """Return the lowest possible p-value with so many seeds: one over the number of labellings, or of draws.

        Other numbers of seeds than now may have as many draws as there is memory for.
        """
        sizes = tuple(zip(seeds[::2], seeds[1::2], strict=True))
        draws = self.draws if sizes == self.sizes else max(self.draws, most_draws(map(sum, sizes)))
        return 1 / min(_every(sizes), draws + 1)

    def above(self, shift: float = 0.0) -> float:
        """Return the p-value of a true difference of `shift` or less: small if a is shown to be better by more."""
        return max(self.by_permutation(shift, 1), self.spread.above(shift))

    def below(self, shift: float = 0.0) -> float:
        """Return the p-value of a true difference of `shift` or more: small if a is shown to be less than that."""
        return max(self.by_permutation(shift, -1), self.spread.below(shift))

    def interval(self, level: float = 0.95) -> Estimate:
        """Return the differences that the tests do not reject at this level, from at least MIN_INTERVAL_DRAWS draws."""
        draws = min(self.draws, max(MIN_INTERVAL_DRAWS, draws_for(1 - level, self.sizes)))
        labelled, spread = Labelled.of(self.a, self.b, draws), self.spread
        return inverted(
            lambda shift: max(labelled.p_value(shift, 1), spread.above(shift)),
            lambda shift: max(labelled.p_value(shift, -1), spread.below(shift)),
            spread,
            1 - level,
        )

    def by_permutation(self, shift: float, sign: int) -> float:
        """Return the share of labellings with a difference at least as large (sign 1) or small (-1) as observed."""
        if _every(self.sizes) > SCREENING_DRAWS:
            screened = Labelled.of(self.a, self.b, SCREENING_DRAWS).p_value(shift, sign)
            if screened > MAX_REFINED_P:
                return screened
        return Labelled.of(self.a, self.b, self.draws).p_value(shift, sign)


@dataclass(frozen=True, eq=False)
class Labelled:
    """The labellings of two sides' scores, as sums from which Welch's t follows at any shift."""

    centred: tuple[tuple[Array, Array], ...]
    """Per environment: both sides' scores [S_e] and [S'_e] around their own means."""
    gaps: tuple[float, ...]
    """Per environment: the observed difference of the means."""
    sums: tuple[Array, ...]
    """Per environment [B, 4], over the seeds that a labelling has on the first side: the sums of the centred scores, of
    their squares, and of those that were observed on the first side, and the number of the latter."""

    @staticmethod
    def of(a: Sequence[Array], b: Sequence[Array], draws: int) -> Labelled:
        """Return the labellings of scores [S_e] and [S'_e] per environment: all, or a sample."""
        centred = tuple((_centred(x), _centred(y)) for x, y in zip(a, b, strict=True))
        gaps = tuple(float(x.mean() - y.mean()) for x, y in zip(a, b, strict=True))
        tables = labels(tuple((len(x), len(y)) for x, y in centred), draws)
        return Labelled(centred, gaps, tuple(_sums(bits, *pair) for bits, pair in zip(tables, centred, strict=True)))

    def p_value(self, shift: float, sign: int) -> float:
        """Return the share of labellings with a difference at least as large (sign 1) or small (-1) as observed.

        The first side's scores count as lower by `shift`: that is the difference to be rejected.
        """
        observed = [np.array([[0.0, (x**2).sum(), 0.0, len(x)]]) for x, _ in self.centred]
        gap = float(np.mean(self.gaps)) - shift
        statistics, own = (
            sign * terms.statistics(gap, self._scale(gap)) for terms in (self._terms, self._of(observed))
        )
        return _share(statistics, float(own[0]), _every(tuple((len(x), len(y)) for x, y in self.centred)))

    @cached_property
    def _terms(self) -> _Terms:
        return self._of(self.sums)

    def _of(self, all_sums: Sequence[Array]) -> _Terms:
        """Return the terms of labellings with these sums: Welch's means and squared errors, over environments."""
        mean, terms = float(np.mean(self.gaps)), [np.zeros(1)] * 5
        for (x, y), gap, sums in zip(self.centred, self.gaps, all_sums, strict=True):
            n, m, beyond = len(x), len(y), gap - mean
            one, squares, kept, count = sums.T
            more, weight = count - n * n / (n + m), 1 / n + 1 / m
            first = _squared_error(one, squares, kept, count, n)
            second = _squared_error(-one, (x**2).sum() + (y**2).sum() - squares, -kept, n - count, m)
            still, linear, squared = (of_first + of_second for of_first, of_second in zip(first, second, strict=True))
            of_env = (
                (one + beyond * more) * weight,
                more * weight,
                still + beyond * (linear + beyond * squared),
                linear + 2 * beyond * squared,
                squared,
            )
            terms = [before + own for before, own in zip(terms, of_env, strict=True)]
        return _Terms(*terms)

    def _scale(self, gap: float) -> float:
        """Return the largest score around the mean of its environment, at a mean difference of `gap`."""
        mean, scale = float(np.mean(self.gaps)), 0.0
        for (x, y), observed in zip(self.centred, self.gaps, strict=True):
            n, m, own = len(x), len(y), observed - mean + gap
            of_x, of_y = (own * m / (n + m), -own * n / (n + m))
            scale = max(scale, *map(abs, (x.min() + of_x, x.max() + of_x, y.min() + of_y, y.max() + of_y)))
        return float(scale)


class _Terms(NamedTuple):
    """Differences and squared standard errors of labellings [B], as polynomials of the mean gap between the sides.

    They are still + gap moving, and spread + gap linear + gap^2 squared. So a shift takes few passes over labellings.
    """

    still: Array
    moving: Array
    spread: Array
    linear: Array
    squared: Array

    def statistics(self, gap: float, scale: float) -> Array:
        """Return Welch's t [B] at a mean gap: the mean over environments of the differences, over its standard error.

        Without spread, it is infinite with the difference's sign, or 0 if there is no difference. What is below 1e-12
        of `scale`, the largest score, counts as 0.
        """
        difference = self.still + gap * self.moving
        square = self.spread + gap * (self.linear + gap * self.squared)
        square[square <= (1e-12 * scale) ** 2] = 0.0
        difference[np.abs(difference) <= 1e-12 * scale] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            found = difference / np.sqrt(square)
        found[np.isnan(found)] = 0.0
        return found


def _centred(scores: Array) -> Array:
    """Return scores around their mean. The mean of the differences removes what rounding of large scores left."""
    around = scores - scores.mean()
    return np.asarray(around - around.mean(), dtype=float)


def _sums(labellings: Bits, x: Array, y: Array) -> Array:
    """Return `Labelled.sums` [B, 4] for centred scores of one environment."""
    scores, first = np.concatenate([x, y]), _first(len(x), len(y))
    columns = np.stack([scores, scores**2, scores * first, first], axis=1)
    return np.concatenate([rows @ columns for rows in unpacked(labellings, len(scores))])


def _squared_error(one: Array, squares: Array, kept: Array, count: Array, n: int) -> tuple[Array, Array, Array]:
    """Return the squared standard errors [B] of means of n scores, `count` of which are higher by a gap.

    They are the coefficients of 1, the gap and its square. one, squares: the sums and sums of squares of the scores
    without the gap. kept: the sums of the higher ones.
    """
    divisor = n * (n - 1)
    return (
        np.maximum(squares - one**2 / n, 0.0) / divisor,
        2 * (kept - one * count / n) / divisor,
        count * (n - count) / n / divisor,
    )


@dataclass(frozen=True, eq=False)
class Flipped:
    """The mean of paired differences [S], and its p-values by flipping their signs.

    Exact if the differences are symmetric around the tested shift.
    """

    pairs: Array
    draws: int = MIN_TEST_DRAWS

    @property
    def value(self) -> float:
        """The observed mean difference."""
        return float(self.pairs.mean())

    @property
    def spread(self) -> Difference:
        """The mean difference with its standard error and degrees of freedom."""
        return Difference(self.value, (float(self.pairs.var(ddof=1)),), (len(self.pairs),))

    def for_level(self, alpha: float) -> Flipped:
        """Return the same with draws that suffice for a two-sided test at level alpha, if there is memory for them."""
        return replace(self, draws=max(self.draws, draws_for(alpha, ((len(self.pairs), 0),))))

    def least_p(self, seeds: Sequence[int]) -> float:
        """Return the lowest possible p-value with so many pairs: one over the number of signs, or of draws.

        Other numbers of pairs than now may have as many draws as there is memory for.
        """
        draws = self.draws if seeds[0] == len(self.pairs) else max(self.draws, most_draws(seeds))
        return float(1 / min(2 ** seeds[0], draws + 1))

    def above(self, shift: float = 0.0) -> float:
        """Return the p-value of a true mean of `shift` or less."""
        centred = self.pairs - shift
        sums = [(1 - 2 * rows) @ centred for rows in unpacked(signs(len(centred), self.draws), len(centred))]
        return _share(np.concatenate(sums), float(centred.sum()), 2 ** len(centred))

    def below(self, shift: float = 0.0) -> float:
        """Return the p-value of a true mean of `shift` or more."""
        return replace(self, pairs=-self.pairs).above(-shift)

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
        if far > MAX_BOUND_DISTANCE * error:
            return float("inf")
    while far - near > BOUND_PRECISION * error:
        middle = (near + far) / 2
        near, far = (middle, far) if is_inside(middle) else (near, middle)
    return far


def _share(statistics: Array, observed: float, every: int) -> float:
    """Return the share of labellings whose statistic is at least the observed.

    `every`: how many labellings there are. If `statistics` are a sample of them, the observed one counts as a draw.
    """
    tolerance = TIE_TOLERANCE * max(1.0, abs(observed)) if math.isfinite(observed) else 0.0
    at_least = int(np.count_nonzero(statistics >= observed - tolerance))
    if len(statistics) == every:
        return at_least / every
    return (at_least + 1) / (len(statistics) + 1)


def _first(n: int, m: int) -> Array:
    """Return the observed labelling [n + m]: ones for the first side, then zeros."""
    return np.repeat([1.0, 0.0], [n, m])


def _every(sizes: Sizes) -> int:
    """Return how many labellings there are."""
    return math.prod(math.comb(n + m, n) for n, m in sizes)


def draws_for(alpha: float, sizes: Sizes) -> int:
    """Return the draws of a two-sided test at level alpha: DRAWS_FACTOR times the fewest, if memory allows."""
    most = most_draws(map(sum, sizes))
    return min(most, math.ceil(2 * DRAWS_FACTOR / alpha)) if alpha > 0 else most


def most_draws(seeds: Iterable[int]) -> int:
    """Return how many labellings of so many seeds per environment fit into MAX_LABELLING_BYTES."""
    return MAX_LABELLING_BYTES // sum(-(-n // 8) for n in seeds)


_kept: OrderedDict[tuple[Sizes, int], tuple[Bits, ...]] = OrderedDict()


def labels(sizes: Sizes, draws: int) -> tuple[Bits, ...]:
    """Return labellings per environment with sides of (n, m): all if at most `draws`, else a sample.

    A labelling is 1 for scores on the first side and else 0. The sample is the same in every process.
    """
    return _cached((sizes, draws), lambda: _labels(sizes, draws))


def signs(n: int, draws: int) -> Bits:
    """Return which of n signs change: all 2^n choices if these are at most `draws`, else a sample."""
    return _cached((((n, 0),), draws), lambda: (_signs(n, draws),))[0]


def _cached(key: tuple[Sizes, int], make: Callable[[], tuple[Bits, ...]]) -> tuple[Bits, ...]:
    """Return tables that were made before, or make them. Beyond MAX_LABELLING_BYTES, drop the least recently used."""
    _kept[key] = tables = _kept.pop(key, None) or make()
    while len(_kept) > 1 and sum(one.nbytes for kept in _kept.values() for one in kept) > MAX_LABELLING_BYTES:
        _kept.popitem(last=False)
    return tables


def _labels(sizes: Sizes, draws: int) -> tuple[Bits, ...]:
    if len(sizes) == 1 and _every(sizes) <= draws:
        n, total = sizes[0][0], sum(sizes[0])
        chosen = np.array(list(combinations(range(total), n)))
        first = np.zeros((len(chosen), total), dtype=np.uint8)
        np.put_along_axis(first, chosen, 1, axis=1)
        return (np.packbits(first, axis=1),)
    random = np.random.default_rng(0)

    def shuffled(n: int, m: int, rows: int) -> NDArray[Any]:
        return random.permuted(np.tile(_first(n, m), (rows, 1)), axis=1)

    return tuple(_packed(draws, n + m, partial(shuffled, n, m)) for n, m in sizes)


def _signs(n: int, draws: int) -> Bits:
    if 2**n <= draws:
        return np.packbits((np.arange(2**n)[:, None] >> np.arange(n)) & 1, axis=1)
    random = np.random.default_rng(0)
    return _packed(draws, n, lambda rows: random.integers(2, size=(rows, n)))


def _packed(draws: int, n: int, drawn: Callable[[int], NDArray[Any]]) -> Bits:
    """Return rows [draws, n] of zeros and ones as bits. `drawn` returns so many next rows of a sample."""
    counts = (min(step, draws - at) for step in [_rows(n)] for at in range(0, draws, step))
    return np.concatenate([np.packbits(drawn(rows).astype(np.uint8), axis=1) for rows in counts])


def unpacked(bits: Bits, n: int) -> Iterator[Array]:
    """Yield rows [., n] of zeros and ones, few at once."""
    for at in range(0, len(bits), _rows(n)):
        yield np.unpackbits(bits[at : at + _rows(n)], axis=1, count=n).astype(float)


def _rows(n: int) -> int:
    """Return how many rows of n labels are unpacked at once."""
    return max(1, LABELS_AT_ONCE // n)
