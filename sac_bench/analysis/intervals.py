"""Intervals of a difference by inverting its tests."""

from __future__ import annotations

from collections.abc import Callable

from sac_bench.analysis.hypotheses import Evidence
from sac_bench.analysis.statistics import Difference, Estimate

WIDEST = 1e3
"""Standard errors. A bound farther away is infinite."""
PRECISION = 0.01
"""Standard errors."""


def interval(evidence: Evidence, alpha: float = 0.05) -> Estimate:
    """Return the differences that two-sided tests at level alpha do not reject.

    A bound is infinite if there are too few seeds to reject anything on its side, NaN without a standard error.
    """
    observed = evidence.spread
    if isinstance(evidence, Difference) or not observed.error > 0:
        return observed.interval(1 - alpha)
    low = observed.value - _distance(lambda d: evidence.above(observed.value - d) > alpha / 2, observed.error)
    high = observed.value + _distance(lambda d: evidence.below(observed.value + d) > alpha / 2, observed.error)
    return Estimate(observed.value, low, high)


def _distance(is_inside: Callable[[float], bool], error: float) -> float:
    """Return the distance from the observed value up to which shifts are not rejected, by bisection."""
    far = 4 * error
    while is_inside(far):
        far *= 4
        if far > WIDEST * error:
            return float("inf")
    near = 0.0
    while far - near > PRECISION * error:
        middle = (near + far) / 2
        near, far = (middle, far) if is_inside(middle) else (near, middle)
    return far
