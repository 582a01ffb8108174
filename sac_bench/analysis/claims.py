"""Claims: whether the measurements support one. Each comparison gets an outcome, the claim a verdict.

claim_words.py presents them.

Two measures of one variant are compared run by run with the paired t test, two variants with Welch's t test. Holm's
correction is over the claim's own comparisons in all environments.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np

from sac_bench.analysis.choice import edge
from sac_bench.analysis.measures import mean_gain, measured, why_no_values
from sac_bench.analysis.statistics import Difference, Estimate, paired, seed_correlation, shares, unpaired
from sac_bench.analysis.verdicts import (
    ALPHA,
    MIN_SEEDS,
    difference_p,
    difference_power,
    equivalence_p,
    equivalence_power,
    holm,
    inferiority_p,
    least_seeds,
    noninferiority_p,
    outside_p,
    shift_power,
)
from sac_bench.results.load import Results
from sac_bench.spec.claim import Claim, Expectation, Relation, Side
from sac_bench.spec.measures import MEASURES, SHARE, Measure

Outcome = Literal["as claimed", "against the claim", "undecided", "no word"]

NO_GAIN = "the gain is not known"
NO_INTERVAL = Estimate(float("nan"), float("nan"), float("nan"))


class Mean(NamedTuple):
    """A side's mean over its seeds, and the lowest score of its runs (NaN unless the measure is in units of return)."""

    value: float
    seeds: int
    worst: float


@dataclass(frozen=True)
class Comparison:
    """The result of an expectation in an environment. Differences are a - b, in the measure's units."""

    env: str
    expected: str
    relation: Relation
    label: str
    a: Mean
    b: Mean
    difference: Difference
    paired: bool
    in_gains: bool
    """Whether the measure is in units of return or already in gains of the reference. For other units, `gain` is 1."""
    gain: float
    """The reference's mean score minus a random policy's; NaN if unknown or not positive."""
    margin: float | None
    correlation: float = float("nan")
    """Pearson's correlation over the seeds that both sides have."""
    by_pairs: Estimate = NO_INTERVAL
    """The difference with the paired interval, over the same seeds."""
    p: float = float("nan")
    """The p-value of the outcome after Holm's correction; if undecided, of the test for the claim."""
    outcome: Outcome = "no word"
    seeds_needed: int | None = None
    reason: str = ""
    """Why there is no outcome although runs have scores: no values, no margin, or a choice at its edge; else ""."""

    @property
    def is_testable(self) -> bool:
        """Whether there are enough seeds, no reason against, and a margin if the relation requires one."""
        known = not self.reason and min(self.difference.seeds) >= MIN_SEEDS and np.isfinite(self.difference.value)
        return bool(known and (self.relation == ">" or self.margin))

    @property
    def interval(self) -> Estimate:
        return self.difference.interval()

    @property
    def normalised(self) -> Estimate:
        """The difference and its interval in units of the gain."""
        return Estimate(*(float(x) / self.gain for x in self.interval))


def comparisons(claim: Claim, results: Results) -> list[Comparison]:
    """Return one comparison per expectation and environment, then that of the growth, if the claim has one."""
    untested = [
        _comparison(claim, one, results, env)
        for one in claim.expect
        for env in results.manifest.envs
        if one.env in (None, env)
    ]
    if claim.grows:
        untested.append(_growth(claim, results))
    tested = [one if one.is_testable else None for one in untested]
    speaking_for = holm([p_for(one) if one else np.nan for one in tested])
    against = holm([p_against(one) if one else np.nan for one in tested])
    strictest = ALPHA / max(1, sum(one is not None for one in tested))
    decided = []
    for one, p, q in zip(untested, map(float, speaking_for), map(float, against), strict=True):
        outcome = outcome_of(p, q)
        uncertain = outcome == "undecided" and one.difference.error > 0
        needed = least_seeds(one.difference, partial(_power, one, strictest)) if uncertain else None
        shown = q if outcome == "against the claim" else p
        decided.append(replace(one, p=shown, outcome=outcome, seeds_needed=needed))
    return decided


def p_for(one: Comparison) -> float:
    """Return the p-value of the test for the claim."""
    if one.relation == ">":
        return difference_p(one.difference) if one.difference.value > 0 else 1.0
    assert one.margin
    test = equivalence_p if one.relation == "~" else noninferiority_p
    return test(one.difference, one.margin)


def p_against(one: Comparison) -> float:
    """Return the p-value of the test against the claim."""
    if one.relation == ">":
        less = difference_p(one.difference) if one.difference.value < 0 else 1.0
        return min(less, equivalence_p(one.difference, one.margin)) if one.margin else less
    assert one.margin
    test = outside_p if one.relation == "~" else inferiority_p
    return test(one.difference, one.margin)


def outcome_of(p: float, q: float) -> Outcome:
    """Return the outcome, given the p-values for (p) and against (q) the claim; NaN if not tested.

    A difference that is shown both to exist and to be within the margin is as claimed.
    """
    if np.isnan(p):
        return "no word"
    if p <= ALPHA:
        return "as claimed"
    return "against the claim" if q <= ALPHA else "undecided"


def _power(one: Comparison, alpha: float, planned: Difference) -> float:
    """Return the probability that a comparison is decided, either way, if the planned difference is the true one."""
    if one.relation == ">":
        shown = difference_power(planned, alpha)
        return max(shown, equivalence_power(planned, one.margin, alpha)) if one.margin else shown
    assert one.margin
    if one.relation == "~":
        outside = shift_power(planned, abs(planned.value) - one.margin, alpha / 2)
        return max(equivalence_power(planned, one.margin, alpha), outside)
    return max(shift_power(planned, sign * (one.margin + planned.value), alpha) for sign in (1, -1))


def verdict(decided: Sequence[Comparison]) -> str:
    """Return a claim's verdict in a few words."""
    count = Counter(one.outcome for one in decided)
    if count["no word"] == len(decided):
        reasons = {one.reason or f"fewer than {MIN_SEEDS} seeds" for one in decided}
        return f"no verdict: {reasons.pop()}" if len(reasons) == 1 else "no verdict"
    if count["as claimed"] == len(decided):
        return "supported"
    if count["as claimed"] and count["against the claim"]:
        return "mixed"
    if count["against the claim"]:
        return "contradicted"
    return "supported in part" if count["as claimed"] else "undecided"


def _comparison(claim: Claim, expected: Expectation, results: Results, env: str) -> Comparison:
    """Return what an expectation compares in an environment, without an outcome."""
    sides = (expected.a, expected.b)
    a, b = (measured(results, side, env) for side in sides)
    pairs = expected.a.variant == expected.b.variant
    both = a.index.intersection(b.index)
    if pairs:
        a, b = a[both], b[both]
    kind = MEASURES[expected.a.measure]
    gain = mean_gain(results, results.manifest.reference, env) if kind.in_returns else 1.0
    margin = _margin(claim, kind, gain)
    compare = paired if pairs else shares if kind.unit == SHARE else unpaired
    worst = [measured(results, Side(side.variant), env).min() if kind.in_returns else np.nan for side in sides]
    unscaled = NO_GAIN if expected.relation != ">" and not margin else ""
    chosen_at_edge = edge(results.manifest, env, *dict.fromkeys(side.variant for side in sides))
    return Comparison(
        env=env,
        expected=str(replace(expected, env=None)),
        relation=expected.relation,
        label=" against ".join(dict.fromkeys(MEASURES[side.measure].label for side in sides)),
        a=Mean(a.mean(), len(a), worst[0]),
        b=Mean(b.mean(), len(b), worst[1]),
        difference=compare(a, b),
        paired=pairs,
        in_gains=kind.in_returns,
        gain=gain,
        margin=margin,
        correlation=seed_correlation(a[both], b[both]),
        by_pairs=paired(a[both], b[both]).interval(),
        reason="; ".join(
            filter(None, (*(why_no_values(results, side, env) for side in sides), unscaled, chosen_at_edge))
        ),
    )


def _margin(claim: Claim, kind: Measure, gain: float) -> float | None:
    """Return the smallest difference of a measure that matters, in its units; None if there is none."""
    if kind.margin or not kind.in_returns:
        return kind.margin
    return claim.margin * gain if claim.margin and gain > 0 else None


def _growth(claim: Claim, results: Results) -> Comparison:
    """Compare the first expectation's difference in gains: in the harder environment minus in the easier."""
    assert claim.grows
    easy, hard = (_comparison(claim, claim.expect[0], results, env) for env in claim.grows)
    difference = Difference(
        hard.normalised.value - easy.normalised.value,
        tuple(v / one.gain**2 for one in (hard, easy) for v in one.difference.variances),
        tuple(n for one in (hard, easy) for n in one.difference.seeds),
    )
    a, b = (Mean(one.normalised.value, min(one.difference.seeds), np.nan) for one in (hard, easy))
    return Comparison(
        env=f"{claim.grows[1]} less {claim.grows[0]}",
        expected=f"{claim.expect[0]}, more so",
        relation=">",
        label="differences in gains",
        a=a,
        b=b,
        difference=difference,
        paired=False,
        in_gains=True,
        gain=1.0,
        margin=claim.margin,
        reason=NO_GAIN if np.isnan(easy.gain + hard.gain) else "; ".join(filter(None, (easy.reason, hard.reason))),
    )
