"""What can be shown about a difference a - b: that it is above, below or between bounds.

A hypothesis gives its p-value, its power with more seeds, and the probability that it is shown at a later look.
Sources: two one-sided tests, Schuirmann 1987 (Journal of Pharmacokinetics and Biopharmaceutics 15, p. 657); predictive
power, Spiegelhalter, Freedman and Blackburn 1986 (Controlled Clinical Trials 7, p. 8).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from scipy import stats

from sac_bench.analysis.statistics import Difference, Estimate


class Evidence(Protocol):
    """Scores of two sides, and one-sided tests of the difference of their means."""

    @property
    def value(self) -> float:
        """The observed difference a - b."""
        ...

    @property
    def spread(self) -> Difference:
        """The difference with its standard error, for power and for where to look for an interval's bounds."""
        ...

    def for_level(self, alpha: float) -> Evidence:
        """Return the same evidence, so exact that a two-sided test at level alpha can reject."""
        ...

    def least_p(self, seeds: Sequence[int]) -> float:
        """Return the lowest p-value that so many seeds (as `spread.seeds`) can give."""
        ...

    def above(self, shift: float = 0.0) -> float:
        """Return the p-value of a true difference of `shift` or less."""
        ...

    def below(self, shift: float = 0.0) -> float:
        """Return the p-value of a true difference of `shift` or more."""
        ...

    def interval(self, level: float = 0.95) -> Estimate:
        """Return the difference with the interval of those that its tests do not reject."""
        ...


@dataclass(frozen=True)
class Bound:
    """The difference is above, or below, a value."""

    side: Literal["above", "below"]
    shift: float = 0.0

    def p_value(self, evidence: Evidence) -> float:
        """Return the p-value of the opposite."""
        return evidence.above(self.shift) if self.side == "above" else evidence.below(self.shift)

    def distance(self, value: float) -> float:
        """Return how far a value is on the right side of the bound."""
        return value - self.shift if self.side == "above" else self.shift - value


@dataclass(frozen=True)
class Hypothesis:
    """All of some bounds hold; `word` names it. `sides`: 2 if the opposite direction is tested beside it, else 1."""

    word: str
    bounds: tuple[Bound, ...]
    sides: int = 1

    def p_value(self, evidence: Evidence) -> float:
        """Return the p-value of its negation: that of the least certain bound (intersection-union test)."""
        return min(1.0, self.sides * max(bound.p_value(evidence) for bound in self.bounds))

    def containing(self, interval: Estimate) -> Estimate:
        """Return an interval with its ends moved to the bounds that they are beyond, as far as its value allows."""
        value, low, high = interval
        for bound in self.bounds:
            if bound.side == "above":
                low = max(low, min(bound.shift, value))
            else:
                high = min(high, max(bound.shift, value))
        return Estimate(value, low, high)

    def missing(self, interval: Estimate) -> Estimate:
        """Return an interval that is within all bounds with an end moved to the nearest bound; others as they are."""
        value, low, high = interval
        gaps = [low - bound.shift if bound.side == "above" else bound.shift - high for bound in self.bounds]
        if not all(gap > 0 for gap in gaps):
            return interval
        bound = self.bounds[gaps.index(min(gaps))]
        return Estimate(value, bound.shift, high) if bound.side == "above" else Estimate(value, low, bound.shift)

    def is_possible(self, evidence: Evidence, planned: Difference, alpha: float) -> bool:
        """Return whether a p-value of alpha is possible with the planned seeds."""
        return self.sides * evidence.least_p(planned.seeds) <= alpha

    def power(self, planned: Difference, alpha: float) -> float:
        """Return the power of Student's t test at level alpha if the planned difference and variances are true.

        With two bounds it is a lower limit, close to the power where that is above a half.
        """
        if planned.error == 0:
            return float(all(bound.distance(planned.value) > 0 for bound in self.bounds))
        t = stats.t.isf(alpha / self.sides, planned.freedom)
        passed = (
            stats.nct.sf(t, planned.freedom, bound.distance(planned.value) / planned.error) for bound in self.bounds
        )
        return max(0.0, 1 - sum(1 - float(chance) for chance in passed))

    def chance_later(self, observed: Difference, growth: float, alpha: float) -> float:
        """Return the predictive probability to be shown at level alpha with `growth` > 1 times the seeds.

        The true difference is taken to be normally distributed around the observed one with its standard error, and the
        variances to be as observed.
        """
        error = observed.error / math.sqrt(growth)
        if not error > 0:
            return float(all(bound.distance(observed.value) > 0 for bound in self.bounds))
        t = stats.t.isf(alpha / self.sides, observed.freedom * growth)
        spread = observed.error * math.sqrt(1 - 1 / growth)
        passed = (stats.norm.cdf((bound.distance(observed.value) - t * error) / spread) for bound in self.bounds)
        return max(0.0, 1 - sum(1 - float(chance) for chance in passed))


Family = tuple[Hypothesis, ...]
"""Alternatives of which at most one is shown: Holm's correction treats them as one test."""


def different() -> Family:
    """Return that a difference exists: a is better, or worse."""
    return (Hypothesis("better", (Bound("above"),), 2), Hypothesis("worse", (Bound("below"),), 2))


def equivalent(margin: float, word: str = "equivalent") -> Hypothesis:
    """Return that the difference is within a margin > 0 in both directions."""
    return Hypothesis(word, (Bound("below", margin), Bound("above", -margin)))


def above(shift: float, word: str, sides: int = 1) -> Hypothesis:
    """Return that the difference is above a value."""
    return Hypothesis(word, (Bound("above", shift),), sides)


def below(shift: float, word: str, sides: int = 1) -> Hypothesis:
    """Return that the difference is below a value."""
    return Hypothesis(word, (Bound("below", shift),), sides)
