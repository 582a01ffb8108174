"""Verdicts on differences: better, worse, equivalent, undecided.

Differences between variants are unpaired. This was decided before any result was seen, not by the observed correlation.
Variants trained with the same seeds share initial weights and environments but may diverge, because training amplifies
small differences. If seeds are positively correlated, unpaired intervals are too wide: verdicts need more seeds but are
not wrong. If they are negatively correlated, intervals are too narrow. Reports show `seed_correlation`.

The number of seeds that would decide is computed from the power of t tests (Phillips 1990, Journal of Pharmacokinetics
and Biopharmaceutics 18, p. 137).
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from numpy.typing import ArrayLike

from sac_bench.analysis.hypotheses import Family, different, equivalent
from sac_bench.analysis.permutation import permuted
from sac_bench.analysis.sequential import ALPHA, Contest, Design, Standing, State, Trial, standings
from sac_bench.analysis.statistics import NO_ESTIMATE, Difference, Estimate
from sac_bench.spec.seeds import LOOKS

MIN_SEEDS = 5
"""There is no verdict with fewer seeds on a side."""
RUNS_MISSING = "runs are missing"
"""Why there is no verdict if runs have not ended."""
MAX_SUGGESTED_SEEDS = 1000
"""The most seeds per variant that are ever suggested. In a range, it is the last of LOOKS."""
POWER = 0.8


@dataclass(frozen=True)
class Verdict:
    """The verdict on one difference of a table."""

    word: str
    """The hypothesis that was shown ("better", "worse", "equivalent"), "undecided", or "" if nothing was tested."""
    p_values: tuple[float, ...] = ()
    """Of each family (that there is a difference; that there is none beyond the margin), after Holm's correction."""
    intervals: tuple[tuple[int | None, Estimate], ...] = ()
    """(look, difference with its interval) of every look up to the one that decided: 95% for all together."""
    corrected: Estimate = NO_ESTIMATE
    """The difference at `look` with the interval of its own test at its level in Holm's correction
    (`Standing.corrected`): that there is a difference, if the first family is; of others, the family that was shown,
    else the last one."""
    state: State = "untested"
    awaits: int | None = None
    """The look whose runs have not ended."""
    seeds_needed: int | None = None
    """If undecided: the seeds per variant that would decide it at 80% power; None if more than are ever suggested."""

    @property
    def look(self) -> int | None:
        """The seeds per variant at the look that decided, else at the last; None if seeds are fixed or untested."""
        return self.intervals[-1][0] if self.intervals else None

    @property
    def interval(self) -> Estimate:
        """The difference with its interval at `look`."""
        return self.intervals[-1][1] if self.intervals else NO_ESTIMATE

    @property
    def is_constant(self) -> bool:
        """Whether no side has any spread: its runs have the same value in every seed."""
        return self.interval.low == self.interval.high

    def in_words(self, short: bool = False) -> str:
        """Return "better", "undecided (9 seeds per variant would decide)", short "undecided (needs 9 seeds)"."""
        return in_words(self.word, self.state, self.look, self.seeds_needed, short, self.is_constant)


UNTESTED_VERDICT = Verdict("")


NO_SPREAD = "the same in every seed"
"""Why no number of seeds would decide a comparison whose runs have no spread."""


def in_words(
    word: str, state: str, look: int | None, seeds_needed: int | None, short: bool = False, is_constant: bool = False
) -> str:
    """Return a verdict as shown; with several looks, it says at which one it was reached: "better at 12 seeds".

    is_constant: whether its runs have no spread (`Verdict.is_constant`).
    """
    at = "" if look is None or not word else f" at {look} seeds"
    if word != "undecided":
        return word + at
    needed = seeds_text(seeds_needed, look)
    if is_constant and seeds_needed is None:
        needed = NO_SPREAD
    elif not short:
        needed = f"{needed} per variant would decide"
    else:
        needed = f"needs {needed.removesuffix(' seeds') if at else needed}"
    return f"undecided{', stopped' if state == 'futile' else ''}{at} ({needed})"


def seeds_text(seeds: int | None, look: int | None = None) -> str:
    """Return "23 seeds"; for None, more than the most that are ever suggested: in a range, those of the last look."""
    return f"{seeds or f'more than {MAX_SUGGESTED_SEEDS if look is None else LOOKS[-1]}'} seeds"


def contest(a: ArrayLike, b: ArrayLike, margin: float | None = None) -> Contest:
    """Return the comparison of scores [S] of a variant with scores [S'] of another, all at one look.

    margin: the difference from which on it matters, > 0, or None if every difference does. There is no verdict below
    five seeds on a side.
    """
    families: tuple[Family, ...] = (different(),) if margin is None else (different(), (equivalent(margin),))
    evidence = permuted(a, b)
    enough = min(map(len, (*evidence.a, *evidence.b))) >= MIN_SEEDS
    return Contest(lambda look: True, lambda look: Trial(families, evidence) if enough else None)


def verdicts(contests: Sequence[Contest], design: Design | None = None, alpha: float = ALPHA) -> list[Verdict]:
    """Return the verdicts on a table's comparisons. By default, seeds are fixed: there is one look.

    Holm's correction is over all differences, and separately over all equivalences. The chance that a table has any
    false difference is at most alpha, over all looks, and so is the chance that it has any false equivalence. A
    difference that is shown to be within the margin is equivalent even if it is shown not to be zero, because the
    margin defines which differences matter.
    """
    chosen = design or Design()
    return [verdict(one, chosen, alpha) for one in standings(contests, chosen, alpha)]


def verdict(standing: Standing, design: Design, alpha: float = ALPHA) -> Verdict:
    """Return the verdict on a comparison, given where it stands."""
    if not standing.path:
        return Verdict("", state=standing.state, awaits=standing.awaits)
    looks = [look for look, _ in standing.path]
    is_about_zero = standing.path[-1][1].families[0] == different()
    intervals = standing.intervals(design, alpha)
    if is_about_zero and standing.p_values[0] <= alpha:
        intervals[-1] = standing.nearest[0].containing(intervals[-1])
    return Verdict(
        standing.word or "undecided",
        standing.p_values,
        tuple(zip(looks, intervals, strict=True)),
        standing.corrected(design, 0 if is_about_zero else standing.family, alpha)
        if standing.word or is_about_zero
        else standing.undecided(design),
        standing.state,
        standing.awaits,
        None if standing.word else seeds_to_decide(standing, design),
    )


def seeds_to_decide(standing: Standing, design: Design, power: float = POWER) -> int | None:
    """Return the seeds per variant at which a comparison would be decided with this power; None if too many.

    Assumes that the observed difference and variances are the true ones: with few seeds, a rough guide. In a range it
    is a look, and the reference has its multiple of it.
    """
    look, trial = standing.path[-1]
    observed = trial.evidence.spread

    def best(planned: Difference, level: float) -> float:
        return max(
            one.power(planned, level) * one.is_possible(trial.evidence, planned, level)
            for one in chain.from_iterable(trial.families)
        )

    if look is None:
        more = max(MIN_SEEDS, min(observed.seeds) + 1)
        return least_seeds(observed, lambda planned: best(planned, standing.level), power, least=more)
    later = (n for n in LOOKS if n > look)
    return next((n for n in later if best(observed.grown(n / look), standing.level * design.share(n)) >= power), None)


def least_seeds(
    difference: Difference,
    power_of: Callable[[Difference], float],
    power: float = POWER,
    most: int = MAX_SUGGESTED_SEEDS,
    least: int = MIN_SEEDS,
) -> int | None:
    """Return the fewest seeds per variant, at least `least`, at which a test has this power; None above `most`.

    The side with more seeds, such as a reference, keeps its multiple.

    `power_of` gives the power for a difference and must grow with the seeds.
    """

    def decides(n: int) -> bool:
        return power_of(difference.grown(n / min(difference.seeds))) >= power

    candidates = range(least, most + 1)
    place = bisect_left(candidates, True, key=decides)
    return candidates[place] if place < len(candidates) else None
