"""Words for differences: better, worse, equivalent, undecided. Pure functions of t statistics.

A difference is `unpaired` by default: decided before any result is seen, never by the correlation found. Variants
trained with the same seeds share initial weights and environments, but need not stay alike: training amplifies small
differences. Pairing halves the degrees of freedom, so that with five seeds a side it pays only above a correlation of
about 0.3. Where pairs are positively correlated, Welch's intervals are too wide: words come later, not wrongly. Where
negatively, they are too narrow. `seed_correlation` is reported so that a reader sees which it is.

Sources: Holm 1979 (Scandinavian Journal of Statistics 6, p. 65); two one-sided tests, Schuirmann 1987 (Journal of
Pharmacokinetics and Biopharmaceutics 15, p. 657), and their power, Phillips 1990 (the same, 18, p. 137).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

from sac_bench.analysis.statistics import Array, Difference

Word = Literal["better", "worse", "equivalent", "undecided"]
MIN_SEEDS = 5
"""Fewer seeds on a side get no word."""
MOST_SEEDS = 1000
"""Nobody is told to train more than this."""
ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Verdict:
    """What a table says about one of its differences; p-values are after Holm over the table."""

    word: Word | None
    """None below five seeds a side."""
    p_difference: float
    """Of no difference; NaN where there is no word."""
    p_equivalence: float
    """Of a difference of the margin or more; NaN where there is no word or no margin."""
    seeds_needed: int | None = None
    """Where undecided: a side's seeds that would decide it at 80% power; None above MOST_SEEDS."""

    def in_words(self) -> str:
        """As "better", "undecided (23 seeds a side would decide)"; empty where there is no word."""
        if self.word != "undecided":
            return self.word or ""
        return f"undecided ({self.seeds_needed or f'more than {MOST_SEEDS}'} seeds a side would decide)"


def verdicts(differences: Sequence[Difference], margins: Sequence[float | None], alpha: float = ALPHA) -> list[Verdict]:
    """A table's verdicts: differences from the reference, and each claim's margin, > 0, in units of the score.

    Holm goes over all differences of the table with enough seeds, and apart over all equivalences, so that in a whole
    table at most 5% name a difference where there is none, and at most 5% call equivalent what is not.
    """
    enough = [min(d.seeds) >= MIN_SEEDS for d in differences]
    tested = list(zip(differences, margins, enough, strict=True))
    different = holm([difference_p(d) if go else np.nan for d, _, go in tested])
    equal = holm([equivalence_p(d, m) if go and m is not None else np.nan for d, m, go in tested])
    # The strictest of Holm's steps: seeds that are enough there are enough wherever the p-value falls in the table.
    strictest = [alpha / max(1, int(np.isfinite(family).sum())) for family in (different, equal)]
    result = []
    for (d, margin, _), p, q in zip(tested, different, equal, strict=True):
        said = word(d, float(p), float(q), alpha)
        needed = seeds_to_decide(d, margin, strictest[0], strictest[1]) if said == "undecided" else None
        result.append(Verdict(said, float(p), float(q), needed))
    return result


def word(difference: Difference, p_difference: float, p_equivalence: float, alpha: float = ALPHA) -> Word | None:
    """The word for a - b from its two p-values (NaN: no margin): is a better? None below five seeds a side.

    A difference shown to lie within the margin is equivalent, also where it is shown not to be zero: the margin says
    from where on a difference matters.
    """
    if min(difference.seeds) < MIN_SEEDS:
        return None
    if p_equivalence <= alpha:
        return "equivalent"
    if p_difference <= alpha:
        return "better" if difference.value > 0 else "worse"
    return "undecided"


def holm(p_values: ArrayLike) -> Array:
    """p-values [M] adjusted so that comparing each with alpha errs anywhere in the table with at most alpha.

    NaN stays NaN and does not count.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)  # NaN last
    steps = np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1)
    return adjusted


def difference_p(difference: Difference) -> float:
    """Two-sided p-value of no difference, by Student's t; NaN where there is no error."""
    return 2 * difference.tail(abs(difference.value))


def equivalence_p(difference: Difference, margin: float) -> float:
    """p-value of a difference of `margin` > 0 or more in either direction: the larger of two one-sided ones.

    At most alpha exactly where the interval at level 1 - 2 alpha lies within the margin. ValueError unless margin > 0.
    """
    if not margin > 0:
        raise ValueError(f"a margin of equivalence must be above 0, not {margin}")
    return difference.tail(margin - abs(difference.value))


def noninferiority_p(difference: Difference, margin: float) -> float:
    """p-value of a difference of -margin or less, one-sided: small where a - b is shown to be no worse than by that.

    ValueError unless margin > 0.
    """
    if not margin > 0:
        raise ValueError(f"a margin must be above 0, not {margin}")
    return difference.tail(margin + difference.value)


def inferiority_p(difference: Difference, margin: float) -> float:
    """p-value of a difference of -margin or more, one-sided: small where a is shown to be worse by more than that."""
    return difference.tail(-(margin + difference.value))


def outside_p(difference: Difference, margin: float) -> float:
    """p-value of a difference within the margin: small where it is shown to be larger, in either direction."""
    return min(1.0, 2 * difference.tail(abs(difference.value) - margin))


def shift_power(difference: Difference, beyond: float, alpha: float = ALPHA) -> float:
    """The chance that a one-sided test shows a distance above 0, were `beyond` and the variances the true ones."""
    t = stats.t.isf(alpha, difference.freedom)
    return float(stats.nct.sf(t, difference.freedom, beyond / difference.error))


def difference_power(difference: Difference, alpha: float = ALPHA) -> float:
    """The chance to show this difference in its own direction, were it and its variances the true ones."""
    return shift_power(difference, abs(difference.value), alpha / 2)


def equivalence_power(difference: Difference, margin: float, alpha: float = ALPHA) -> float:
    """The chance to show it equivalent, were it and its variances the true ones; a lower bound, close above a half."""
    t = stats.t.isf(alpha, difference.freedom)
    above, below = ((sign * margin - difference.value) / difference.error for sign in (1, -1))
    passes = stats.nct.cdf(-t, difference.freedom, -above) - stats.nct.cdf(t, difference.freedom, -below)
    return max(0.0, float(passes))


def seeds_to_decide(
    difference: Difference,
    margin: float | None = None,
    alpha_difference: float = ALPHA,
    alpha_equivalence: float = ALPHA,
    power: float = POWER,
    most: int = MOST_SEEDS,
) -> int | None:
    """The least number of seeds a side, of five or more, at which either test decides with this power; None above most.

    As if the difference and the variances observed were the true ones: of few seeds a rough guide. 0 variances: five.
    """

    def best(planned: Difference) -> float:
        shown = difference_power(planned, alpha_difference)
        return shown if margin is None else max(shown, equivalence_power(planned, margin, alpha_equivalence))

    return least_seeds(difference, best, power, most)


def least_seeds(
    difference: Difference, power_of: Callable[[Difference], float], power: float = POWER, most: int = MOST_SEEDS
) -> int | None:
    """The least number of seeds a side, of five or more, at which a test has this power; None above `most`.

    `power_of` a difference with an error above 0, which it grows with the seeds; without error, five are enough.
    """

    def decides(n: int) -> bool:
        planned = difference.with_seeds(n)
        return planned.error == 0 or power_of(planned) >= power

    tried = range(MIN_SEEDS, most + 1)
    found = bisect_left(tried, True, key=decides)
    return tried[found] if found < len(tried) else None
