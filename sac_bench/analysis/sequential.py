"""Verdicts at several looks: which comparisons of a table are decided, and which go on. Pure functions.

A look is a number of seeds per variant. Each look in `LOOKS` has a fixed share of the error; the shares add up to 1. The
sequential p-value of a comparison is the least over its looks of the p-value divided by the look's share. It is
valid whenever training stops (weighted Bonferroni), so a range may be extended after its results are known. Holm's
correction is applied to sequential p-values as to any others: the chance of a false statement in a table, over all
looks, is at most alpha for each family of hypotheses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from sac_bench.analysis.hypotheses import Evidence, Family, Hypothesis
from sac_bench.analysis.statistics import Array, Estimate
from sac_bench.spec.seeds import LOOKS

ALPHA = 0.05
EQUAL_LOOKS = 5
"""The first looks, 5 to 30 seeds, share 3/4 of the error equally. Each later look has half of what is left."""
FUTILE = 0.05
"""A comparison stops if its chance to be decided at any look that remains is less."""

State = Literal["decided", "futile", "open", "waiting", "untested"]


def share(look: int) -> float:
    """Return a look's share of the error. Raises ValueError for a number of seeds that is not in LOOKS."""
    at = LOOKS.index(look)
    return 0.75 / EQUAL_LOOKS if at < EQUAL_LOOKS else 0.25 * 0.5 ** (at - EQUAL_LOOKS + 1)


@dataclass(frozen=True)
class Contest:
    """A comparison in a table: its families of hypotheses, and its evidence at a look (None while runs are missing)."""

    families: tuple[Family, ...]
    evidence: Callable[[int], Evidence | None]


@dataclass(frozen=True)
class Standing:
    """Where a comparison stands after its last look.

    decided: a hypothesis was shown. futile: the remaining looks can hardly decide. open: undecided at the last look.
    waiting: runs of the next look are missing. untested: it has no evidence yet.
    """

    state: State
    word: str = ""
    """The hypothesis that was shown, else ""."""
    look: int | None = None
    """The last look that was computed: if decided, the one that decided."""
    p_values: tuple[float, ...] = ()
    """The sequential p-value of each family after Holm's correction; NaN if not tested."""
    shown: tuple[str, ...] = ()
    """The hypothesis with the least p-value of each family."""
    path: tuple[tuple[int, Evidence], ...] = field(default=())
    """The evidence at every look that was computed."""

    def intervals(self, alpha: float = ALPHA, shares: Callable[[int], float] = share) -> list[tuple[int, Estimate]]:
        """Return the difference and its interval at every look: together they hold the true value with 1 - alpha.

        Each is within the one before (repeated intervals, Jennison and Turnbull 1989, Journal of the Royal Statistical
        Society B 51, p. 305, with their intersection).
        """
        low, high, result = -np.inf, np.inf, []
        for look, evidence in self.path:
            own = evidence.interval(1 - alpha * shares(look))
            low, high = max(low, own.low), min(high, own.high)
            result.append((look, Estimate(own.value, low, high)))
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


def standings(
    contests: Sequence[Contest],
    looks: Sequence[int],
    shares: Callable[[int], float] = share,
    alpha: float = ALPHA,
    futile: float = FUTILE,
) -> list[Standing]:
    """Return where each comparison of a table stands, look by look until it is decided or futile.

    Evidence of later looks is not used. A comparison whose runs of a look are missing waits, and the others go on.
    A comparison that stopped is still decided if the correction over the table becomes weaker.
    """
    raw = [[[1.0 if contest.families else np.nan] * len(family) for family in contest.families] for contest in contests]
    result = [Standing("open") for _ in contests]
    for look in looks:
        for i, contest in enumerate(contests):
            if result[i].state != "open":
                continue
            evidence = contest.evidence(look)
            if evidence is None:
                result[i] = replace(result[i], state="waiting" if result[i].path else "untested")
                continue
            for family, p in zip(contest.families, raw[i], strict=True):
                p[:] = [
                    min(before, one.p_value(evidence) / shares(look)) for before, one in zip(p, family, strict=True)
                ]
            result[i] = replace(result[i], look=look, path=(*result[i].path, (look, evidence)))
        result = _decide(contests, raw, result, alpha)
        undecided = sum(one.state != "decided" and bool(one.path) for one in result)
        remaining = [later for later in looks if later > look]
        for i, contest in enumerate(contests):
            if result[i].state != "open" or not remaining:
                continue
            if chance(contest.families, result[i].path[-1][1], look, remaining, shares, alpha / undecided) < futile:
                result[i] = replace(result[i], state="futile")
    return result


def chance(
    families: Sequence[Family],
    evidence: Evidence,
    look: int,
    later: Sequence[int],
    shares: Callable[[int], float],
    alpha: float,
) -> float:
    """Return the predictive probability that the best of the hypotheses is shown at the best of the later looks."""
    return max(
        one.chance_later(evidence.spread, n / look, alpha * shares(n))
        for family in families
        for one in family
        for n in later
    )


def _decide(
    contests: Sequence[Contest], raw: Sequence[Sequence[Sequence[float]]], before: Sequence[Standing], alpha: float
) -> list[Standing]:
    """Return the standings after Holm's correction over the table. Where two families are shown, the last counts."""
    families = max((len(contest.families) for contest in contests), default=0)
    adjusted = np.full((len(contests), families), np.nan)
    for f in range(families):
        tested = [min(p[f]) if len(p) > f and one.path else np.nan for p, one in zip(raw, before, strict=True)]
        adjusted[:, f] = holm(tested)
    result = []
    for i, one in enumerate(before):
        shown = tuple(_least(family, p).word for family, p in zip(contests[i].families, raw[i], strict=True))
        own = tuple(map(float, adjusted[i, : len(shown)]))
        words = [word for word, p in zip(shown, own, strict=True) if p <= alpha]
        if one.state != "decided":
            one = replace(one, p_values=own, shown=shown)
            if words:
                one = replace(one, state="decided", word=words[-1])
        result.append(one)
    return result


def _least(family: Family, p_values: Sequence[float]) -> Hypothesis:
    return family[int(np.argmin(p_values))]
