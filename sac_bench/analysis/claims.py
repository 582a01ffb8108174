"""Claims: whether the measurements support one. Each comparison gets an outcome, the claim a verdict.

claim_words.py presents them.

Two measures of one variant are compared run by run, two variants seed by seed without pairs. Holm's correction is over
the claim's own comparisons in all environments, separately for the tests for and against the claim.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from sac_bench.analysis.choice import edge
from sac_bench.analysis.differences import TRAINING_NOT_OVER, Cell, design_of
from sac_bench.analysis.hypotheses import Evidence, Family, above, below, equivalent
from sac_bench.analysis.measures import mean_gain, measured, why_no_values
from sac_bench.analysis.permutation import Flipped, permuted
from sac_bench.analysis.scores import count_exploded, entered, scores
from sac_bench.analysis.sequential import Contest, Trial
from sac_bench.analysis.statistics import NO_ESTIMATE, Difference, Estimate, paired, seed_correlation, shares, unpaired
from sac_bench.analysis.verdicts import MIN_SEEDS, RUNS_MISSING, UNTESTED_VERDICT, Verdict, verdicts
from sac_bench.results.load import Results, ended, have_ended
from sac_bench.spec.claim import Claim, Expectation, Relation, Side
from sac_bench.spec.measures import MEASURES, SHARE, Measure

Outcome = Literal["as claimed", "against the claim", "undecided", "no word"]
AS_CLAIMED: Outcome = "as claimed"
AGAINST_CLAIM: Outcome = "against the claim"

NO_GAIN = "the gain is not known"


class Mean(NamedTuple):
    """A side's mean over its seeds."""

    value: float
    seeds: int
    worst: float
    """The lowest score of its runs; NaN unless the measure is in units of return."""
    exploded: int = 0
    """How many of its runs exploded."""


@dataclass(frozen=True)
class Comparison:
    """The result of an expectation in an environment. Differences are a - b, in the measure's units."""

    env: str
    expected: str
    relation: Relation
    label: str
    a: Mean
    b: Mean
    evidence: Evidence
    paired: bool
    in_gains: bool
    """Whether the measure is in units of return or already in gains of the reference. For other units, `gain` is 1."""
    gain: float
    """The reference's mean score minus a random policy's; NaN if unknown or not positive."""
    margin: float | None
    correlation: float = float("nan")
    """Pearson's correlation over the seeds that both sides have."""
    by_pairs: Estimate = NO_ESTIMATE
    """The difference with the paired interval, over the same seeds."""
    cells: tuple[Cell, ...] = ()
    """The runs that it compares."""
    scaled_by: tuple[Cell, ...] = ()
    """The reference's runs, if a margin or gains depend on their scores."""
    lacks_runs: bool = False
    """Whether some of its runs have not ended."""
    verdict: Verdict = UNTESTED_VERDICT
    reason: str = ""
    """Why there is no outcome although runs have scores: no values, no margin, or a choice at its edge; else ""."""
    is_excluded: bool = False
    """Whether no look can test it, because a side chose a value at the edge of its grid."""

    @property
    def difference(self) -> Difference:
        """The difference with its standard error."""
        return self.evidence.spread

    @property
    def exploded(self) -> int:
        """How many of its runs exploded."""
        return self.a.exploded + (0 if self.paired else self.b.exploded)

    @property
    def is_testable(self) -> bool:
        """Whether there are enough seeds, no reason against, and a margin if the relation requires one."""
        known = not self.reason and min(self.difference.seeds) >= MIN_SEEDS and np.isfinite(self.difference.value)
        return bool(known and (self.relation == ">" or self.margin))

    @property
    def outcome(self) -> Outcome:
        """Whether it is as claimed."""
        return self.verdict.word or "no word"  # type: ignore[return-value]  # the words of a claim's hypotheses are outcomes

    @property
    def p(self) -> float:
        """The p-value of the outcome after Holm's correction; if undecided, of the test for the claim."""
        if not self.verdict.p_values:
            return float("nan")
        against, speaking_for = self.verdict.p_values
        return against if self.outcome == AGAINST_CLAIM else speaking_for

    @property
    def seeds_needed(self) -> int | None:
        """If undecided: the seeds per variant that would decide, if that is known."""
        return self.verdict.seeds_needed

    @property
    def interval(self) -> Estimate:
        """The difference with its interval; Student's t interval if there is no verdict."""
        return self.verdict.interval if self.verdict.intervals else self.difference.interval()

    @property
    def normalised(self) -> Estimate:
        """The difference and its interval in units of the gain."""
        return self.in_gain(self.interval)

    def in_gain(self, interval: Estimate) -> Estimate:
        """Return an interval of the difference in units of the gain."""
        return Estimate(*(float(x) / self.gain for x in interval))


def comparisons(claim: Claim, results: Results) -> list[Comparison]:
    """Return one comparison per expectation and environment, then that of the growth, if the claim has one.

    In a range of seeds, each is of the look that decided it, or of the last one if none did. While training is not
    over, none is tested.
    """
    places = [(one, env) for one in claim.expect for env in results.manifest.envs if one.env in (None, env)]
    at = {look: results.first_seeds(look) for look in design_of(results.manifest).looks}

    def all_at(look: int | None) -> list[Comparison]:
        made = [_comparison(claim, one, at[look], env) for one, env in places]
        every = [*made, _growth(claim, at[look])] if claim.grows else made
        count, done = len(results.manifest.seeds) if look is None else look, ended(at[look].runs)
        seeds = results.manifest.seeds
        return [replace(one, lacks_runs=not have_ended(done, seeds, _counts(one, count))) for one in every]

    by_look = {look: all_at(look) for look in at}
    last = by_look[max(at, key=lambda look: look or 0)]
    if results.manifest.reached:
        return [replace(one, reason=TRAINING_NOT_OVER) for one in last]
    tested = [i for i, one in enumerate(last) if not one.is_excluded]
    contests = [_contest(i, by_look, at) for i in tested]
    decided = dict(zip(tested, verdicts(contests, design_of(results.manifest)), strict=True))
    return [
        replace(
            by_look[decided[i].look][i] if i in decided and decided[i].intervals else one,
            verdict=decided.get(i, UNTESTED_VERDICT),
            lacks_runs=one.lacks_runs if None in at else i in decided and decided[i].state == "waiting",
        )
        for i, one in enumerate(last)
    ]


def _contest(i: int, by_look: dict[int | None, list[Comparison]], at: dict[int | None, Results]) -> Contest:
    """Return what the comparison with index `i` tests at every look."""

    def trial(look: int | None) -> Trial | None:
        one = by_look[look][i]
        return Trial(families(one.relation, one.margin), one.evidence) if one.is_testable else None

    def is_complete(look: int | None) -> bool:
        return look is None or not by_look[look][i].lacks_runs

    def is_hopeless(look: int | None) -> bool:
        """Whether a side, or the scale that the test requires, has runs but none with a score: they failed."""
        one = by_look[look][i]
        required = one.cells if one.is_testable else (*one.cells, *one.scaled_by)
        return any(not scored(at[look], cell) for cell in required)

    return Contest(is_complete, trial, is_hopeless)


def _counts(one: Comparison, seeds: int) -> dict[Cell, int]:
    """Return {cell: so many seeds} of the runs that a comparison depends on."""
    return dict.fromkeys((*one.cells, *one.scaled_by), seeds)


def scored(results: Results, cell: Cell) -> bool:
    """Return whether any run of an (environment, variant) has a score."""
    return bool(len(entered(scores(results), *cell)))


def families(relation: Relation, margin: float | None) -> tuple[Family, Family]:
    """Return what is against a claim and what is for it. If both are shown, it is as claimed.

    A difference may be shown both to exist and to be within the margin.
    """
    if relation == ">":
        # Without a margin nothing is equivalent: no difference is within 0.
        against = (below(0.0, AGAINST_CLAIM, sides=2), equivalent(margin or 0.0, AGAINST_CLAIM))
        return against, (above(0.0, AS_CLAIMED, sides=2),)
    assert margin
    if relation == ">=":
        return (below(-margin, AGAINST_CLAIM),), (above(-margin, AS_CLAIMED),)
    outside = (above(margin, AGAINST_CLAIM, sides=2), below(-margin, AGAINST_CLAIM, sides=2))
    return outside, (equivalent(margin, AS_CLAIMED),)


def verdict(decided: Sequence[Comparison]) -> str:
    """Return a claim's verdict in a few words."""
    count = Counter(one.outcome for one in decided)
    if count["no word"] == len(decided):
        reasons = {
            one.reason or (RUNS_MISSING if one.lacks_runs else f"fewer than {MIN_SEEDS} seeds") for one in decided
        }
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
    exploded = [count_exploded(scores(results), env, [side.variant]) for side in sides]
    worst = [measured(results, Side(side.variant), env).min() if kind.in_returns else np.nan for side in sides]
    unscaled = NO_GAIN if expected.relation != ">" and not margin else ""
    chosen_at_edge = edge(results.manifest, env, *dict.fromkeys(side.variant for side in sides))
    return Comparison(
        env=env,
        expected=str(replace(expected, env=None)),
        relation=expected.relation,
        label=" against ".join(dict.fromkeys(MEASURES[side.measure].label for side in sides)),
        a=Mean(a.mean(), len(a), worst[0], exploded[0]),
        b=Mean(b.mean(), len(b), worst[1], exploded[1]),
        evidence=_evidence(a, b, pairs, kind),
        paired=pairs,
        in_gains=kind.in_returns,
        gain=gain,
        margin=margin,
        correlation=seed_correlation(a[both], b[both]),
        cells=tuple(dict.fromkeys((env, side.variant) for side in sides)),
        scaled_by=((env, results.manifest.reference),) if kind.in_returns and claim.margin else (),
        by_pairs=paired(a[both], b[both]).interval(),
        is_excluded=bool(chosen_at_edge),
        reason="; ".join(
            filter(None, (*(why_no_values(results, side, env) for side in sides), unscaled, chosen_at_edge))
        ),
    )


def _evidence(a: pd.Series, b: pd.Series, pairs: bool, kind: Measure) -> Evidence:
    """Return the tests of a - b: by permutation, for shares of seeds by Student's t (`shares`)."""
    if kind.unit == SHARE:
        return shares(a, b)
    if min(len(a), len(b)) < 2:
        return paired(a, b) if pairs else unpaired(a, b)
    return Flipped(np.subtract(a.to_numpy(dtype=float), b.to_numpy(dtype=float))) if pairs else permuted(a, b)


def _margin(claim: Claim, kind: Measure, gain: float) -> float | None:
    """Return the smallest difference of a measure that matters, in its units; None if there is none."""
    if kind.margin or not kind.in_returns:
        return kind.margin
    return claim.margin * gain if claim.margin and gain > 0 else None


def _growth(claim: Claim, results: Results) -> Comparison:
    """Compare the first expectation's difference in gains: in the harder environment minus in the easier.

    By Student's t: no permutation keeps the differences and exchanges their environments.
    """
    assert claim.grows
    easy, hard = (_comparison(claim, claim.expect[0], results, env) for env in claim.grows)
    difference = Difference(
        hard.normalised.value - easy.normalised.value,
        tuple(v / one.gain**2 for one in (hard, easy) for v in one.difference.variances),
        tuple(n for one in (hard, easy) for n in one.difference.seeds),
    )
    a, b = (Mean(one.normalised.value, min(one.difference.seeds), np.nan, one.exploded) for one in (hard, easy))
    return Comparison(
        env=f"{claim.grows[1]} less {claim.grows[0]}",
        expected=f"{claim.expect[0]}, more so",
        relation=">",
        label="differences in gains",
        a=a,
        b=b,
        evidence=difference,
        paired=False,
        cells=tuple(dict.fromkeys((*easy.cells, *hard.cells))),
        scaled_by=tuple((env, results.manifest.reference) for env in claim.grows),
        in_gains=True,
        gain=1.0,
        margin=claim.margin,
        is_excluded=easy.is_excluded or hard.is_excluded,
        reason=NO_GAIN if np.isnan(easy.gain + hard.gain) else "; ".join(filter(None, (easy.reason, hard.reason))),
    )
