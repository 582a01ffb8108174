"""Verdicts at several looks: which comparisons of a table are decided, and which go on. Pure functions.

A look is a number of seeds per variant. Each look in `LOOKS` has a fixed share of the error. The shares add up to
1. The sequential p-value of a comparison is the least over its looks of the p-value divided by the look's share. It is
valid whenever training stops (weighted Bonferroni), so a range may be extended after its results are known. Holm's
correction is applied to sequential p-values as to any others: the chance of a false statement in a table, over all
looks, is at most alpha for each family of hypotheses.

A decided comparison is reported as of one look: the look whose p-value is its sequential p-value. This may be an
earlier look, if Holm's correction accepted the p-value only after other comparisons were decided.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sac_bench.analysis.hypotheses import Evidence, Family, Hypothesis
from sac_bench.analysis.statistics import Array, Estimate
from sac_bench.spec.seeds import LOOKS

ALPHA = 0.05
EQUAL_LOOKS = 5
"""The first looks, 5 to 30 seeds, share 3/4 of the error equally. Each later look has half of what is left."""
MIN_CHANCE = 0.05
"""A comparison stops if its chance to be decided at any look that remains is less."""


def share(look: int) -> float:
    """Return a look's share of the error. Raises ValueError for a number of seeds that is not in LOOKS."""
    at = LOOKS.index(look)
    return 0.75 / EQUAL_LOOKS if at < EQUAL_LOOKS else 0.25 * 0.5 ** (at - EQUAL_LOOKS + 1)


State = Literal["decided", "futile", "open", "waiting", "untested"]


@dataclass(frozen=True)
class Design:
    """The looks of a table, in ascending order. (None,) stands for fixed seeds: one look at all of them."""

    looks: tuple[int | None, ...] = (None,)

    def share(self, look: int | None) -> float:
        """Return a look's share of the error: all of it if the seeds are fixed."""
        return 1.0 if look is None else share(look)

    def after(self, look: int | None) -> list[int]:
        """Return the looks after one of them."""
        return [n for n in self.looks if n is not None and look is not None and n > look]


@dataclass(frozen=True)
class Trial:
    """What a comparison tests at a look. The families have as many hypotheses at every look."""

    families: tuple[Family, ...]
    evidence: Evidence


@dataclass(frozen=True)
class Contest:
    """A comparison in a table.

    is_complete: whether all its runs of a look have ended.
    trial: what is tested at a look; None if that is not possible, because too few runs have values.
    """

    is_complete: Callable[[int | None], bool]
    trial: Callable[[int | None], Trial | None]
    is_hopeless: Callable[[int | None], bool] = lambda _: False
    """Whether the runs of a complete look show that more of them will not help: all runs of a side have failed."""


@dataclass(frozen=True)
class Standing:
    """Where a comparison stands.

    decided: a hypothesis was shown. futile: the looks that remain can hardly decide. open: undecided at the last look.
    waiting: runs of the look `awaits` have not ended. untested: no look could be tested.
    """

    state: State
    word: str = ""
    """The hypothesis that was shown, else ""."""
    path: tuple[tuple[int | None, Trial], ...] = field(default=())
    """What was tested at every look, up to the one that decided."""
    awaits: int | None = None
    p_values: tuple[float, ...] = ()
    """The sequential p-value of each family over `path` after Holm's correction, by the hypothesis that is nearest to
    be shown."""
    level: float = ALPHA
    """The level at which Holm's correction tests a comparison that is not decided."""
    levels: tuple[float, ...] = (ALPHA,)
    """The level at which Holm's correction tested each family, decided or not (`holm_levels`)."""
    nearest: tuple[Hypothesis, ...] = ()
    """Of each family: the hypothesis that `p_values` are of."""
    family: int = 0
    """The family that was shown, else the last one."""

    @property
    def look(self) -> int | None:
        """The last look that was tested: if decided, the one whose p-value decided."""
        return self.path[-1][0] if self.path else None

    def corrected(self, design: Design, family: int, alpha: float = ALPHA) -> Estimate:
        """Return the difference at `look` with the interval of a family's test at its level.

        It is that of the hypothesis nearest to be shown: the one-sided tests of a hypothesis that has no opposite
        beside it, at level a, belong to the interval with confidence 1 - 2a. The interval is within the bounds of a
        hypothesis that was shown, and not within those of one that was not: sampling, bisection and, for two bounds,
        the intersection over looks may place its ends elsewhere, and these are moved to the bounds.
        """
        hypothesis = self.nearest[family]
        last = self.intervals(design, 2 * self.levels[family] / hypothesis.sides)[-1]
        return hypothesis.containing(last) if self.p_values[family] <= alpha else hypothesis.missing(last)

    def undecided(self, design: Design) -> Estimate:
        """Return the difference at `look` with the smallest interval that shows no hypothesis at its family's level."""
        trial = self.path[-1][1]
        intervals = [
            hypothesis.missing(self.intervals(design, 2 * level / hypothesis.sides)[-1])
            for family, level in zip(trial.families, self.levels, strict=True)
            for hypothesis in family
        ]
        return Estimate(intervals[0].value, min(one.low for one in intervals), max(one.high for one in intervals))

    def intervals(self, design: Design, alpha: float = ALPHA) -> list[Estimate]:
        """Return the difference and its interval at every look: all looks hold the true value with 1 - alpha.

        Each is within the one before, and reaches to its own difference if that is not. Source: repeated intervals,
        Jennison and Turnbull 1989 (Journal of the Royal Statistical Society B 51, p. 305), and their intersection.
        """
        low, high, result = -np.inf, np.inf, []
        for look, trial in self.path:
            own = trial.evidence.interval(1 - alpha * design.share(look))
            low, high = np.fmax(low, own.low), np.fmin(high, own.high)
            result.append(Estimate(own.value, min(float(low), own.value), max(float(high), own.value)))
        return result


def holm(p_values: ArrayLike) -> Array:
    """Return p-values [M] adjusted by Holm's method: comparing each with alpha keeps the familywise error within alpha.

    NaN stays NaN and does not count. Source: Holm 1979 (Scandinavian Journal of Statistics 6, p. 65).
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)  # NaN last
    steps = np.count_nonzero(~np.isnan(p)) - np.arange(len(p))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * steps), 1)
    return adjusted


def holm_levels(p_values: ArrayLike, alpha: float = ALPHA) -> Array:
    """Return the levels [M] at which Holm's method tests p-values [M], of which NaN do not count and have NaN.

    The p-value with rank i of m is tested at alpha / (m - i + 1). If k are rejected, all others have the level of the
    first that is not, alpha / (m - k): no p-value above it could have been rejected there. So `p <= level` if and only
    if `holm(p) <= alpha`.
    """
    p = np.asarray(p_values, dtype=float)
    rejected, count = holm(p) <= alpha, np.count_nonzero(~np.isnan(p))
    ranks = np.minimum(np.argsort(np.argsort(p)), np.count_nonzero(rejected))
    return np.where(np.isnan(p), np.nan, alpha / np.maximum(count - ranks, 1))


def standings(
    contests: Sequence[Contest], design: Design, alpha: float = ALPHA, futile: float = MIN_CHANCE
) -> list[Standing]:
    """Return where each comparison of a table stands, look by look until it is decided or futile.

    Results of later looks are not used. A comparison with runs that have not ended waits, and the others go on. One
    that stopped is still decided once enough others are, because Holm's correction then becomes weaker. In a range,
    comparisons count in this correction before they are tested.
    """
    comparisons = [_Progress(contest) for contest in contests]
    for look in design.looks:
        for one in comparisons:
            if one.state == "open":
                one.see(look, design.share(look), alpha / len(comparisons))
        _decide(comparisons, alpha, untested=float("nan") if look is None else 1.0)
        for one in comparisons:
            later = design.after(look)
            if one.state == "open" and one.path and later and one.chance(look, later, design) < futile:
                one.state = "futile"
    for one in comparisons:
        if one.state == "open" and not one.path:
            one.state = "untested"
    return [
        Standing(
            one.state,
            one.word,
            tuple(one.path),
            one.awaits,
            one.p_values,
            one.level,
            one.levels,
            tuple(map(one.nearest, range(one.families))),
            one.families - 1 if one.shown is None else one.shown,
        )
        for one in comparisons
    ]


class _Progress:
    """A comparison while `standings` looks at it."""

    def __init__(self, contest: Contest) -> None:
        self.contest = contest
        self.state: State = "open"
        self.word = ""
        self.path: list[tuple[int | None, Trial]] = []
        self.awaits: int | None = None
        self.tested: list[list[list[float]]] = []  # per look, family and hypothesis: the p-value by the look's share
        self.p_values: tuple[float, ...] = ()
        self.level = ALPHA
        self.levels: tuple[float, ...] = (ALPHA,)
        self.shown: int | None = None  # the family that was shown

    def see(self, look: int | None, share: float, alpha: float) -> None:
        """Test at a look, or wait for its runs. `alpha`: the lowest level of Holm's correction, over all looks."""
        if not self.contest.is_complete(look):
            self.state, self.awaits = "waiting", look
        elif self.contest.is_hopeless(look):
            self.state = "untested"
        elif trial := self.contest.trial(look):
            trial = replace(trial, evidence=trial.evidence.for_level(alpha * share))
            self.path.append((look, trial))
            self.tested.append(
                [[min(1.0, one.p_value(trial.evidence) / share) for one in family] for family in trial.families]
            )

    @property
    def families(self) -> int:
        """The number of families; 0 before the first test."""
        return len(self.tested[0]) if self.tested else 0

    def family(self, i: int, untested: float) -> float:
        """Return the sequential p-value of a family, or `untested`."""
        if not self.tested:
            return untested
        return min(min(of_look[i]) for of_look in self.tested) if i < self.families else float("nan")

    def nearest(self, i: int) -> Hypothesis:
        """Return the hypothesis that a family's sequential p-value is of, as the last look tested it."""
        least = np.min([of_look[i] for of_look in self.tested], axis=0)
        return self.path[-1][1].families[i][int(np.argmin(least))]

    def decide(self, i: int) -> None:
        """Decide by a family: at the look of its sequential p-value, the first if several have it."""
        at = int(np.argmin([min(of_look[i]) for of_look in self.tested]))
        self.path, self.tested = self.path[: at + 1], self.tested[: at + 1]
        self.state, self.awaits, self.shown, self.word = "decided", None, i, self.nearest(i).word

    def chance(self, look: int | None, later: Sequence[int], design: Design) -> float:
        """Return the predictive probability that the best hypothesis is shown at the best of the later looks."""
        trial = self.path[-1][1]
        return max(
            one.chance_later(trial.evidence.spread, n / (look or n), self.level * design.share(n))
            * one.is_possible(
                trial.evidence, trial.evidence.spread.grown(n / (look or n)), self.level * design.share(n)
            )
            for one in chain.from_iterable(trial.families)
            for n in later
        )


def _decide(comparisons: Sequence[_Progress], alpha: float, untested: float) -> None:
    """Decide comparisons by Holm's correction over the table. If two families are shown, the last one counts.

    `untested`: the p-value of comparisons that no look has tested; NaN if they do not count.
    """
    count = max((one.families for one in comparisons), default=0)
    p_values = [[one.family(i, untested) for one in comparisons] for i in range(count)]
    adjusted = [holm(of_family) for of_family in p_values]
    for at, one in enumerate(comparisons):
        if one.state == "decided":
            continue
        shown = [i for i in range(one.families) if adjusted[i][at] <= alpha]
        if shown:
            one.decide(shown[-1])
        own = [_with(p_values[i], at, one.family(i, untested)) for i in range(one.families)]
        one.p_values = tuple(float(holm(of_family)[at]) for of_family in own)
        one.levels = tuple(float(holm_levels(of_family, alpha)[at]) for of_family in own)
    undecided = [one for one in comparisons if one.path and one.state != "decided"]
    for one in undecided:
        one.level = alpha / len(undecided)


def _with(values: Sequence[float], at: int, value: float) -> list[float]:
    """Return values of which one is replaced."""
    return [*values[:at], value, *values[at + 1 :]]
