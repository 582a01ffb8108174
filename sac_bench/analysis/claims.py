"""Whether what was measured bears a claim out: its comparisons, each with an outcome, and a verdict in a sentence.

A side against a side by Student's t: of one variant measured in two ways, run by run; of two, unpaired by Welch's.
A claim's Holm goes over its own comparisons, environments included.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from sac_bench.analysis.measures import measured
from sac_bench.analysis.statistics import Difference, Estimate, paired, seed_correlation, unpaired
from sac_bench.analysis.verdicts import (
    ALPHA,
    MIN_SEEDS,
    MOST_SEEDS,
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
from sac_bench.spec.measures import MEASURES

Outcome = Literal["as claimed", "against the claim", "undecided", "no word"]

RULES = (
    "`a > b` came out as claimed where a is shown to be more, against the claim where it is shown to be less, or "
    "else to be equivalent within the margin; `a >= b` as claimed where a is shown to be no less than by the "
    "margin, against it where less by more than that; `a ~ b` as claimed where equivalent within the margin, "
    "against it where the difference is shown to be beyond. Tests at 5%: Welch's t, of one variant measured in two "
    "ways the paired t; after Holm over all that speaks for the claim, and over all that speaks against it, "
    f"environments included; none below {MIN_SEEDS} seeds a side. Seeds in brackets: a side's that would decide at "
    "80% power, were the difference and the spread seen the true ones. Gain: the reference's mean score less a "
    "random policy's, taken as known. Worst: the lowest score of a side's runs. r: Pearson's correlation of the sides "
    "over equal seeds; by pairs: the interval that takes it into account, with fewer degrees of freedom."
)
NOTHING = Estimate(float("nan"), float("nan"), float("nan"))


class Mean(NamedTuple):
    """A side's mean over its seeds, and the score of the worst where the measure is in units of return."""

    value: float
    seeds: int
    worst: float

    def told(self, number: Callable[[float], str]) -> str:
        """As "1674 (5 seeds, worst 903)"."""
        if not self.seeds:
            return "no runs"
        worst = "" if np.isnan(self.worst) else f", worst {self.worst:.0f}"
        return f"{number(self.value)} ({self.seeds} seeds{worst})"


@dataclass(frozen=True)
class Comparison:
    """What came of an expectation on an environment; differences are a - b, in the measure's units."""

    env: str
    expected: str
    relation: Relation
    label: str
    a: Mean
    b: Mean
    difference: Difference
    paired: bool
    in_gains: bool
    """Whether the measure is in units of return, or of gains already; of other units, `gain` is 1."""
    gain: float
    """The reference's mean score less a random policy's; NaN where that is not known or not positive."""
    margin: float | None
    correlation: float = float("nan")
    """Pearson's, of seeds that both sides have."""
    by_pairs: Estimate = NOTHING
    """The difference with the paired interval, of those seeds."""
    p: float = float("nan")
    """Of what the outcome stands on, after Holm; of an undecided one, for the claim."""
    outcome: Outcome = "no word"
    seeds_needed: int | None = None

    @property
    def is_testable(self) -> bool:
        """Whether there are seeds enough, and the margin that the relation wants."""
        known = min(self.difference.seeds) >= MIN_SEEDS and np.isfinite(self.difference.value)
        return bool(known and (self.relation == ">" or self.margin))

    @property
    def interval(self) -> Estimate:
        return self.difference.interval()

    @property
    def normalised(self) -> Estimate:
        """Difference and interval in units of the gain."""
        return Estimate(*(float(x) / self.gain for x in self.interval))

    @property
    def told(self) -> str:
        """The outcome as a reader gets it, with the seeds that would decide."""
        if self.outcome == "no word" and min(self.difference.seeds) >= MIN_SEEDS:
            return "no word (the gain is not known)"
        if self.outcome == "as claimed" and self.relation == ">" and self.margin:
            return self.outcome + (
                ", within the margin" if equivalence_p(self.difference, self.margin) <= ALPHA else ""
            )
        if self.outcome != "undecided":
            return self.outcome
        if self.difference.error == 0:
            return "undecided (the same in every seed)"
        return f"undecided ({self.seeds_needed or f'more than {MOST_SEEDS}'} seeds a side would decide)"


def comparisons(claim: Claim, results: Results) -> list[Comparison]:
    """Every expectation on every environment, and last, where the claim says so, its growth; judged together."""
    asked = [_asked(claim, one, results, env) for one in claim.expect for env in results.manifest.envs]
    if claim.grows:
        asked.append(_growth(claim, results))
    tested = [one if one.is_testable else None for one in asked]
    speaking_for = holm([p_for(one) if one else np.nan for one in tested])
    against = holm([p_against(one) if one else np.nan for one in tested])
    strictest = ALPHA / max(1, sum(one is not None for one in tested))
    judged = []
    for one, p, q in zip(asked, map(float, speaking_for), map(float, against), strict=True):
        outcome = outcome_of(p, q)
        uncertain = outcome == "undecided" and one.difference.error > 0
        needed = least_seeds(one.difference, partial(_power, one, strictest)) if uncertain else None
        shown = q if outcome == "against the claim" else p
        judged.append(replace(one, p=shown, outcome=outcome, seeds_needed=needed))
    return judged


def p_for(one: Comparison) -> float:
    """The p-value that a comparison comes out as claimed by."""
    if one.relation == ">":
        return difference_p(one.difference) if one.difference.value > 0 else 1.0
    assert one.margin
    test = equivalence_p if one.relation == "~" else noninferiority_p
    return test(one.difference, one.margin)


def p_against(one: Comparison) -> float:
    """The p-value that it comes out against the claim by."""
    if one.relation == ">":
        less = difference_p(one.difference) if one.difference.value < 0 else 1.0
        return min(less, equivalence_p(one.difference, one.margin)) if one.margin else less
    assert one.margin
    test = outside_p if one.relation == "~" else inferiority_p
    return test(one.difference, one.margin)


def outcome_of(p: float, q: float) -> Outcome:
    """Of the p-values for the claim and against it; NaN: not tested. A difference that is shown to be there, and to be
    within the margin, is as claimed."""
    if np.isnan(p):
        return "no word"
    if p <= ALPHA:
        return "as claimed"
    return "against the claim" if q <= ALPHA else "undecided"


def _power(one: Comparison, alpha: float, planned: Difference) -> float:
    """The chance to decide a comparison, either way, with a planned difference."""
    if one.relation == ">":
        shown = difference_power(planned, alpha)
        return max(shown, equivalence_power(planned, one.margin, alpha)) if one.margin else shown
    assert one.margin
    if one.relation == "~":
        outside = shift_power(planned, abs(planned.value) - one.margin, alpha / 2)
        return max(equivalence_power(planned, one.margin, alpha), outside)
    return max(shift_power(planned, sign * (one.margin + planned.value), alpha) for sign in (1, -1))


def verdict(found: Sequence[Comparison]) -> str:
    """A claim's verdict: one or a few words."""
    count = Counter(one.outcome for one in found)
    if count["no word"] == len(found):
        return f"no verdict: fewer than {MIN_SEEDS} seeds, or no scale"
    if count["as claimed"] == len(found):
        return "supported"
    if count["as claimed"] and count["against the claim"]:
        return "mixed"
    if count["against the claim"]:
        return "contradicted"
    return "supported in part" if count["as claimed"] else "undecided"


def sentences(found: Sequence[Comparison]) -> list[str]:
    """The verdict, and what it stands on."""
    told = []
    for outcome in ("as claimed", "against the claim", "undecided", "no word"):
        names = [_named(one) for one in found if one.outcome == outcome]
        if names:
            told.append(f"{outcome}: {', '.join(names)}")
    said = verdict(found)
    return [f"{said[0].upper()}{said[1:]}. {len(found)} comparison{'s' * (len(found) > 1)}; {'; '.join(told)}."]


def grid(found: Sequence[Comparison]) -> pd.DataFrame:
    """The comparisons for a reader."""
    rows = []
    for one in found:
        number = _format(one.interval)
        rows.append(
            {
                "environment": one.env,
                "expected": one.expected,
                "outcome": one.told.replace(" a side would decide", ""),
                "of": one.label,
                "a": one.a.told(number),
                "b": one.b.told(number),
                "a - b [95% CI]": _span(one.interval, number),
                "in gains": "" if not one.in_gains else _span(one.normalised, "{:+.2f}".format),
                "margin": "" if one.margin is None else number(one.margin),
                "p": "" if np.isnan(one.p) else f"{one.p:.2g}",
                "r": "" if np.isnan(one.correlation) else f"{one.correlation:+.2f}",
                "by pairs [95% CI]": "" if one.paired else _span(one.by_pairs, number),
            }
        )
    shown = pd.DataFrame(rows)
    said_once = [name for name in ("environment", "of") if shown[name].nunique() == 1 and len(shown) > 1]
    return shown.drop(columns=said_once)


def table(found: Sequence[Comparison]) -> pd.DataFrame:
    """The comparisons for a program."""
    return pd.DataFrame(
        [
            {
                "env": one.env,
                "expected": one.expected,
                "measure": one.label,
                "seeds_a": one.a.seeds,
                "mean_a": one.a.value,
                "seeds_b": one.b.seeds,
                "mean_b": one.b.value,
                "difference": one.interval.value,
                "ci_low": one.interval.low,
                "ci_high": one.interval.high,
                "gain": one.gain,
                "margin": one.margin,
                "paired": one.paired,
                "correlation": one.correlation,
                "paired_difference": one.by_pairs.value,
                "paired_ci_low": one.by_pairs.low,
                "paired_ci_high": one.by_pairs.high,
                "p": one.p,
                "outcome": one.outcome,
                "seeds_needed": one.seeds_needed,
            }
            for one in found
        ]
    ).astype({"seeds_needed": "Int64"})


def _asked(claim: Claim, expected: Expectation, results: Results, env: str) -> Comparison:
    sides = (expected.a, expected.b)
    a, b = (measured(results, side, env) for side in sides)
    pairs = expected.a.variant == expected.b.variant
    both = a.index.intersection(b.index)
    if pairs:
        a, b = a[both], b[both]
    kind = MEASURES[expected.a.measure]
    gain = _gain(results, env) if kind.in_returns else 1.0
    worst = [measured(results, Side(side.variant), env).min() if kind.in_returns else np.nan for side in sides]
    return Comparison(
        env=env,
        expected=str(expected),
        relation=expected.relation,
        label=" against ".join(dict.fromkeys(MEASURES[side.measure].label for side in sides)),
        a=Mean(a.mean(), len(a), worst[0]),
        b=Mean(b.mean(), len(b), worst[1]),
        difference=paired(a, b) if pairs else unpaired(a, b),
        paired=pairs,
        in_gains=kind.in_returns,
        gain=gain,
        margin=claim.margin * gain if claim.margin and kind.has_margin and gain > 0 else None,
        correlation=seed_correlation(a[both], b[both]),
        by_pairs=paired(a[both], b[both]).interval(),
    )


def _growth(claim: Claim, results: Results) -> Comparison:
    """The first expectation's difference in gains, of the harder environment less that of the easier."""
    assert claim.grows
    easy, hard = (_asked(claim, claim.expect[0], results, env) for env in claim.grows)
    difference = Difference(
        hard.normalised.value - easy.normalised.value,
        tuple(v / one.gain**2 for one in (hard, easy) for v in one.difference.variances),
        tuple(n for one in (hard, easy) for n in one.difference.seeds),
    )
    a, b = (Mean(one.normalised.value, min(one.difference.seeds), np.nan) for one in (hard, easy))
    return Comparison(
        f"{claim.grows[1]} less {claim.grows[0]}",
        f"{claim.expect[0]}, more so",
        ">",
        "differences in gains",
        a,
        b,
        difference,
        False,
        True,
        1.0,
        claim.margin,
    )


def _gain(results: Results, env: str) -> float:
    """The reference's mean score less a random policy's; NaN unless that is known and positive."""
    reference = measured(results, Side(results.manifest.reference), env)
    random = results.manifest.random_return(env)
    gain = float(reference.mean() - random) if len(reference) else float("nan")
    return gain if gain > 0 else float("nan")


def _named(one: Comparison) -> str:
    return f"`{one.expected}` on {one.env}{one.told.removeprefix(one.outcome)}"


def _format(interval: Estimate) -> Callable[[float], str]:
    ends = [abs(x) for x in interval if np.isfinite(x)]
    return "{:.0f}".format if max(ends, default=0) >= 100 else "{:.2f}".format


def _span(interval: Estimate, number: Callable[[float], str]) -> str:
    if not np.isfinite(interval.value):
        return ""
    ends = f" [{number(interval.low)}, {number(interval.high)}]" if np.isfinite(interval.low) else ""
    return number(interval.value) + ends
