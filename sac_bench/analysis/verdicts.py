"""Verdicts on differences: better, worse, equivalent, undecided. Pure functions of t statistics.

Differences between variants are `unpaired`. This was decided before any result was seen, not by the observed
correlation. Variants trained with the same seeds share initial weights and environments but may diverge, because
training amplifies small differences. Pairing halves the degrees of freedom, so with five seeds per side it pays only
above a correlation of about 0.3. If pairs are positively correlated, Welch's intervals are too wide: verdicts need more
seeds but are not wrong. If negatively, they are too narrow. `seed_correlation` is reported to show which is the case.

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
"""There is no verdict with fewer seeds on a side."""
MOST_SEEDS = 1000
"""The most seeds per side that are ever suggested."""
ALPHA = 0.05
POWER = 0.8


@dataclass(frozen=True)
class Verdict:
    """The verdict on one difference of a table. p-values are after Holm's correction over the table."""

    word: Word | None
    """None below five seeds per side."""
    p_difference: float
    """p-value of no difference; NaN without a verdict."""
    p_equivalence: float
    """p-value of a difference of the margin or more; NaN without a verdict or a margin."""
    seeds_needed: int | None = None
    """If undecided: the seeds per side that would decide it at 80% power; None above MOST_SEEDS."""

    def in_words(self, short: bool = False) -> str:
        """Return "better" or "undecided (23 seeds per side would decide)", short "undecided (23 seeds)"; "" if none."""
        if self.word != "undecided":
            return self.word or ""
        return f"undecided ({seeds_text(self.seeds_needed)}{'' if short else ' per side would decide'})"


def seeds_text(seeds: int | None) -> str:
    """Return "23 seeds"; for None, "more than 1000 seeds"."""
    return f"{seeds or f'more than {MOST_SEEDS}'} seeds"


def verdicts(
    differences: Sequence[Difference],
    margins: Sequence[float | None],
    alpha: float = ALPHA,
    excluded: Sequence[bool] = (),
) -> list[Verdict]:
    """Return the verdicts on a table's differences, with each one's margin (> 0, in units of the score) or None.

    Holm's correction is over all differences with enough seeds, and separately over all equivalences. The chance that a
    table has any false difference is at most alpha, and so is the chance that it has any false equivalence. Differences
    that are `excluded` for another reason get no verdict and are not tested.
    """
    left_out = excluded or [False] * len(differences)
    enough = [min(d.seeds) >= MIN_SEEDS and not out for d, out in zip(differences, left_out, strict=True)]
    cases = list(zip(differences, margins, enough, strict=True))
    different = holm([difference_p(d) if testable else np.nan for d, _, testable in cases])
    equal = holm([equivalence_p(d, m) if testable and m is not None else np.nan for d, m, testable in cases])
    # At Holm's strictest step: seeds that suffice there suffice wherever the p-value ranks in the table.
    strictest = [alpha / max(1, int(np.isfinite(family).sum())) for family in (different, equal)]
    result = []
    for (d, margin, testable), p, q in zip(cases, different, equal, strict=True):
        outcome = word(d, float(p), float(q), alpha) if testable else None
        needed = seeds_to_decide(d, margin, strictest[0], strictest[1]) if outcome == "undecided" else None
        result.append(Verdict(outcome, float(p), float(q), needed))
    return result


def word(difference: Difference, p_difference: float, p_equivalence: float, alpha: float = ALPHA) -> Word | None:
    """Return whether a is better, from the p-values of a - b (NaN without a margin); None below five seeds per side.

    A difference that is shown to be within the margin is equivalent even if it is shown not to be zero, because the
    margin defines which differences matter.
    """
    if min(difference.seeds) < MIN_SEEDS:
        return None
    if p_equivalence <= alpha:
        return "equivalent"
    if p_difference <= alpha:
        return "better" if difference.value > 0 else "worse"
    return "undecided"


def holm(p_values: ArrayLike) -> Array:
    """Return p-values [M] adjusted by Holm's method: comparing each with alpha keeps the familywise error within alpha.

    NaN stays NaN and does not count.
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)  # NaN last
    steps = np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1)
    return adjusted


def difference_p(difference: Difference) -> float:
    """Return the two-sided p-value of no difference, by Student's t; NaN if the standard error is NaN."""
    return 2 * difference.tail(abs(difference.value))


def equivalence_p(difference: Difference, margin: float) -> float:
    """Return the p-value of a difference of `margin` > 0 or more in either direction: the larger of two one-sided ones.

    It is at most alpha exactly if the interval at level 1 - 2 alpha is within the margin. Raises ValueError unless
    margin > 0.
    """
    if not margin > 0:
        raise ValueError(f"an equivalence margin must be above 0, not {margin}")
    return difference.tail(margin - abs(difference.value))


def noninferiority_p(difference: Difference, margin: float) -> float:
    """Return the one-sided p-value of a difference of -margin or less: small if a is shown to be at most that worse.

    Raises ValueError unless margin > 0.
    """
    if not margin > 0:
        raise ValueError(f"a margin must be above 0, not {margin}")
    return difference.tail(margin + difference.value)


def inferiority_p(difference: Difference, margin: float) -> float:
    """Return the one-sided p-value of a difference of -margin or more: small if a is shown to be worse by more."""
    return difference.tail(-(margin + difference.value))


def outside_p(difference: Difference, margin: float) -> float:
    """Return the p-value of a difference within the margin: small if it is shown to be larger in either direction."""
    return min(1.0, 2 * difference.tail(abs(difference.value) - margin))


def shift_power(difference: Difference, beyond: float, alpha: float = ALPHA) -> float:
    """Return the power of a one-sided test to show a distance above 0, if `beyond` and the variances are true."""
    t = stats.t.isf(alpha, difference.freedom)
    return float(stats.nct.sf(t, difference.freedom, beyond / difference.error))


def difference_power(difference: Difference, alpha: float = ALPHA) -> float:
    """Return the power to show this difference in its own direction, if it and its variances are true."""
    return shift_power(difference, abs(difference.value), alpha / 2)


def equivalence_power(difference: Difference, margin: float, alpha: float = ALPHA) -> float:
    """Return the power to show equivalence, if the difference and its variances are true.

    It is a lower bound, close to the power where that is above a half.
    """
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
    """Return the fewest seeds per side, at least five, at which either test decides with this power; None above `most`.

    Assumes that the observed difference and variances are the true ones: with few seeds, a rough guide. Five if the
    variances are 0.
    """

    def best(planned: Difference) -> float:
        shown = difference_power(planned, alpha_difference)
        return shown if margin is None else max(shown, equivalence_power(planned, margin, alpha_equivalence))

    return least_seeds(difference, best, power, most)


def least_seeds(
    difference: Difference, power_of: Callable[[Difference], float], power: float = POWER, most: int = MOST_SEEDS
) -> int | None:
    """Return the fewest seeds per side, at least five, at which a test has this power; None above `most`.

    `power_of` gives the power for a difference with an error above 0 and must grow with the seeds. Five if there is no
    error.
    """

    def decides(n: int) -> bool:
        planned = difference.with_seeds(n)
        return planned.error == 0 or power_of(planned) >= power

    candidates = range(MIN_SEEDS, most + 1)
    place = bisect_left(candidates, True, key=decides)
    return candidates[place] if place < len(candidates) else None
