"""Claims: whether the measurements support one. Each comparison gets an outcome, the claim a verdict.

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
import pandas as pd

from sac_bench.analysis.format import interval, number
from sac_bench.analysis.measures import measured
from sac_bench.analysis.statistics import Difference, Estimate, paired, seed_correlation, unpaired
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
    seeds_text,
    shift_power,
)
from sac_bench.results.load import Results
from sac_bench.spec.claim import Claim, Expectation, Relation, Side
from sac_bench.spec.measures import MEASURES

Outcome = Literal["as claimed", "against the claim", "undecided", "no word"]

RULES = (
    "`a > b` is as claimed if a is shown to be higher, and otherwise against the claim if a is shown to be lower or "
    "equivalent within the margin. `a >= b` is as claimed if a is shown to be at most the margin lower, and against "
    "the claim if a is shown to be lower by more. `a ~ b` is as claimed if the sides are shown to be equivalent within "
    "the margin, and against the claim if the difference is shown to be larger. All tests are at 5%: Welch's t test, "
    "or the paired t test for two measures of one variant. Holm's correction is over all comparisons, separately for "
    f"the tests for and against the claim. There is no verdict below {MIN_SEEDS} seeds per side. Undecided (n seeds): "
    "n seeds per side would decide at 80% power if the observed difference and spread were the true ones. Gain: the "
    "reference's mean score minus a random policy's, taken as known. Worst: the lowest score of a side's runs. r: "
    "Pearson's correlation of the sides over shared seeds. By pairs: the paired interval, which takes this correlation "
    "into account but has fewer degrees of freedom."
)
NO_INTERVAL = Estimate(float("nan"), float("nan"), float("nan"))


class Mean(NamedTuple):
    """A side's mean over its seeds, and the lowest score of its runs (NaN unless the measure is in units of return)."""

    value: float
    seeds: int
    worst: float

    def text(self, spec: str) -> str:
        """Return "1674 (5 seeds, worst 903)", with the mean in the format `spec`."""
        if not self.seeds:
            return "no runs"
        worst = "" if np.isnan(self.worst) else f", worst {self.worst:.0f}"
        return f"{self.value:{spec}} ({self.seeds} seeds{worst})"


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
    """Whether the measure is in units of return or already in gains. For other units, `gain` is 1."""
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

    @property
    def is_testable(self) -> bool:
        """Whether there are enough seeds, and a margin if the relation requires one."""
        known = min(self.difference.seeds) >= MIN_SEEDS and np.isfinite(self.difference.value)
        return bool(known and (self.relation == ">" or self.margin))

    @property
    def interval(self) -> Estimate:
        return self.difference.interval()

    @property
    def normalised(self) -> Estimate:
        """The difference and its interval in units of the gain."""
        return Estimate(*(float(x) / self.gain for x in self.interval))

    @property
    def outcome_text(self) -> str:
        """The outcome in a sentence, with the seeds that would decide."""
        return self._with_notes(" per side would decide")

    @property
    def short_outcome(self) -> str:
        """The outcome in a table or figure: "undecided (23 seeds)"."""
        return self._with_notes("")

    def _with_notes(self, after_seeds: str) -> str:
        name = outcome_name(self.outcome)
        if self.outcome == "no word":
            return f"{name} (the gain is not known)" if min(self.difference.seeds) >= MIN_SEEDS else name
        if self.outcome == "as claimed" and self.relation == ">" and self.margin:
            is_small = equivalence_p(self.difference, self.margin) <= ALPHA
            return f"{name}, within the margin" if is_small else name
        if self.outcome != "undecided":
            return name
        if self.difference.error == 0:
            return "undecided (the same in every seed)"
        return f"undecided ({seeds_text(self.seeds_needed)}{after_seeds})"


def outcome_name(outcome: Outcome) -> str:
    """Return an outcome as shown."""
    return "no verdict" if outcome == "no word" else outcome


def comparisons(claim: Claim, results: Results) -> list[Comparison]:
    """Return one comparison per expectation and environment, then that of the growth, if the claim has one."""
    untested = [_comparison(claim, one, results, env) for one in claim.expect for env in results.manifest.envs]
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
        return f"no verdict: fewer than {MIN_SEEDS} seeds, or no scale"
    if count["as claimed"] == len(decided):
        return "supported"
    if count["as claimed"] and count["against the claim"]:
        return "mixed"
    if count["against the claim"]:
        return "contradicted"
    return "supported in part" if count["as claimed"] else "undecided"


def sentences(decided: Sequence[Comparison]) -> list[str]:
    """Return the verdict and the outcomes that it is based on, in sentences."""
    outcomes: tuple[Outcome, ...] = ("as claimed", "against the claim", "undecided", "no word")
    lists = []
    for outcome in outcomes:
        names = [_named(one) for one in decided if one.outcome == outcome]
        if names:
            lists.append(f"{outcome_name(outcome)}: {', '.join(names)}")
    words = verdict(decided)
    count = f"{len(decided)} comparison{'s' * (len(decided) > 1)}"
    return [f"{words[0].upper()}{words[1:]}. {count}; {'; '.join(lists)}."]


def grid(decided: Sequence[Comparison]) -> pd.DataFrame:
    """Return the comparisons as a table for a reader."""
    rows = []
    for one in decided:
        spec = _format(one.interval)
        rows.append(
            {
                "environment": one.env,
                "expected": one.expected,
                "outcome": one.short_outcome,
                "measure": one.label,
                "a": one.a.text(spec),
                "b": one.b.text(spec),
                "a - b [95% CI]": interval(*one.interval, spec=spec),
                "in gains": interval(*one.normalised, spec="+.2f") if one.in_gains else "",
                "margin": number(one.margin, spec),
                "p": number(one.p, ".2g"),
                "r": number(one.correlation, "+.2f"),
                "by pairs [95% CI]": "" if one.paired else interval(*one.by_pairs, spec=spec),
            }
        )
    shown = pd.DataFrame(rows)
    constant = [name for name in ("environment", "measure") if shown[name].nunique() == 1 and len(shown) > 1]
    return shown.drop(columns=constant)


def table(decided: Sequence[Comparison]) -> pd.DataFrame:
    """Return the comparisons as a table for a program."""
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
            for one in decided
        ]
    ).astype({"seeds_needed": "Int64"})


def _comparison(claim: Claim, expected: Expectation, results: Results, env: str) -> Comparison:
    """Return what an expectation compares in an environment, without an outcome."""
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
    """Return the reference's mean score minus a random policy's; NaN unless it is known and positive."""
    reference = measured(results, Side(results.manifest.reference), env)
    random = results.manifest.random_return(env)
    gain = float(reference.mean() - random) if len(reference) else float("nan")
    return gain if gain > 0 else float("nan")


def _named(one: Comparison) -> str:
    return f"`{one.expected}` on {one.env}{one.outcome_text.removeprefix(outcome_name(one.outcome))}"


def _format(estimate: Estimate) -> str:
    """Return the format of a comparison's numbers."""
    ends = [abs(x) for x in estimate if np.isfinite(x)]
    return ".0f" if max(ends, default=0) >= 100 else ".2f"
