"""Whether verdicts survive a change of backend: the same comparisons on the two backends of a task.

A verdict survives if it is decided and equal on both. It differs if it is decided on both and not equal. That does not
show that the effects differ, and two undecided verdicts do not show that they are equal: the interval of the effect's
change says how much they may differ. Effects are differences between variants, in the units of the comparison.

The seeds of all four sides are treated as independent, as in `verdicts`. Runs with the same seed share initial weights
on both backends, so if effects are positively correlated over seeds, the interval is too wide.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd
from numpy.typing import ArrayLike

from sac_bench.analysis import claims
from sac_bench.analysis.claims import Comparison
from sac_bench.analysis.differences import ALL_ENVIRONMENTS, Scores, TableDifference, design_of
from sac_bench.analysis.scores import count_exploded
from sac_bench.analysis.sequential import ALPHA, Design
from sac_bench.analysis.statistics import Difference, Estimate, unpaired
from sac_bench.analysis.verdicts import Verdict
from sac_bench.envs.known import backend_of
from sac_bench.results.manifest import Manifest
from sac_bench.results.schema import frame

Outcome = Literal["survives", "differs", "not decided on both"]
SURVIVES: Outcome = "survives"
DIFFERS: Outcome = "differs"
NOT_DECIDED: Outcome = "not decided on both"
OPEN = ("", "undecided", "no word")
"""Words of verdicts that are not decided."""
DECIDED_CLAIMS = ("supported", "contradicted", "mixed")
"""Verdicts on claims that are decided. One that is supported in part is undecided in other parts."""


@dataclass(frozen=True)
class Across:
    """A comparison on the two backends of a task."""

    task: str
    name: str
    """The variant that is compared with the reference, or the claim's expectation."""
    envs: tuple[str, str]
    words: tuple[str, str]
    """The verdicts on both; "undecided", or "no verdict"."""
    effects: tuple[Estimate, Estimate]
    """The differences on both, at the looks of their verdicts."""
    outcome: Outcome
    change: Estimate
    """The second effect minus the first."""
    exploded: tuple[int, int]
    """How many of the compared runs exploded on each backend."""
    level: float
    """The confidence of the interval of `change`; in a range of seeds higher than 95%, so that it is 95% over looks."""

    @property
    def backends(self) -> tuple[str, str]:
        """The backends of both."""
        return backend_of(self.envs[0]), backend_of(self.envs[1])

    def row(self) -> dict[str, Any]:
        """Return the row of the table `backends` (results/schema.py)."""
        sides: dict[str, Any] = {}
        for side, env, word, effect, exploded in zip(
            "ab", self.envs, self.words, self.effects, self.exploded, strict=True
        ):
            values = {"backend": backend_of(env), "env": env, "verdict": word, "difference": effect.value}
            values |= {"exploded": exploded}
            sides |= {f"{key}_{side}": value for key, value in values.items()}
        change = dict(zip(("change", "change_ci_low", "change_ci_high"), self.change, strict=True))
        return {"task": self.task, "comparison": self.name, **sides, **change, "outcome": self.outcome}


def outcome(a: str, b: str, undecided: Sequence[str] = OPEN) -> Outcome:
    """Return what two verdicts of one comparison on two backends say together."""
    if a in undecided or b in undecided:
        return NOT_DECIDED
    return SURVIVES if a == b else DIFFERS


def change_of_effect(a: tuple[ArrayLike, ArrayLike], b: tuple[ArrayLike, ArrayLike], level: float = 0.95) -> Estimate:
    """Return the effect on backend b minus the effect on backend a, with Welch's t interval.

    a, b: the scores [S] of a variant and [S'] of the reference on a backend; the effect is the difference of their
    means. All four are independent seeds, whose numbers may differ. The bounds are NaN if a side has one seed.
    """
    return unpaired(*b).minus(unpaired(*a)).interval(level)


def of_differences(gaps: Iterable[TableDifference], scores: pd.DataFrame, manifest: Manifest) -> list[Across]:
    """Return the differences from the reference on both backends of every task that has two.

    gaps: the table's differences; scores: a row per run.
    """
    of, known = Scores(scores, manifest), {(one.env, one.variant): one for one in gaps}
    names = dict.fromkeys(one.variant for one in known.values() if one.env != ALL_ENVIRONMENTS)

    def side(env: str, name: str) -> _Side:
        one = known[env, name]
        own, reference = (of.of((env, variant), one.verdict.look) for variant in (name, manifest.reference))
        exploded = count_exploded(scores, env, [name], own.index)
        exploded += count_exploded(scores, env, [manifest.reference], reference.index)
        shown = one.verdict.interval if one.verdict.word else one.untested
        return _Side(env, one.verdict, shown, unpaired(own, reference), exploded)

    return [
        _across(task, name, side(envs[0], name), side(envs[1], name), design_of(manifest))
        for name in names
        for task, envs in pairs(manifest).items()
    ]


def of_comparisons(comparisons: Sequence[Comparison], manifest: Manifest) -> list[Across]:
    """Return a claim's comparisons on both backends of every task that has two; not how differences grow."""
    known = {(one.expected, one.env): one for one in comparisons}
    expected = dict.fromkeys(one.expected for one in comparisons)
    found = []
    for name in expected:
        for task, envs in pairs(manifest).items():
            both = [known[name, env] for env in envs if (name, env) in known]
            if len(both) == 2:
                a, b = (_Side(one.env, one.verdict, one.interval, one.difference, one.exploded) for one in both)
                found.append(_across(task, name, a, b, design_of(manifest)))
    return found


def of_claim(comparisons: Sequence[Comparison], across: Sequence[Across]) -> tuple[dict[str, str], Outcome]:
    """Return {backend: the claim's verdict by the comparisons that both have}, and what these say together.

    across: at least one, as `of_comparisons` returns them.
    """
    known = {(one.expected, one.env): one for one in comparisons}
    sides = zip(*(one.envs for one in across), strict=True)
    on = {backend_of(envs[0]): [known[one.name, env] for one, env in zip(across, envs, strict=True)] for envs in sides}
    words = {backend: claims.verdict(own) for backend, own in on.items()}
    a, b = words.values()
    return words, NOT_DECIDED if not {a, b} <= set(DECIDED_CLAIMS) else outcome(a, b)


def pairs(manifest: Manifest) -> dict[str, tuple[str, str]]:
    """Return {task: its environments on two backends}, of the tasks that have two, in the order of `backends`."""
    order = {backend: i for i, backend in enumerate(manifest.backends)}
    return {
        task: (envs[0], envs[1])
        for task, found in manifest.tasks.items()
        if len(envs := sorted(found, key=lambda env: order.get(backend_of(env), 0))) == 2
    }


def table(across: Iterable[Across]) -> pd.DataFrame:
    """Return the comparisons for a program."""
    return frame("backends", (one.row() for one in across))


@dataclass(frozen=True)
class _Side:
    """A comparison on one backend: its verdict, the difference that is shown, and the same with its variances."""

    env: str
    verdict: Verdict
    effect: Estimate
    difference: Difference
    exploded: int


def _across(task: str, name: str, a: _Side, b: _Side, design: Design) -> Across:
    """Return a comparison on two backends.

    In a range of seeds, each side is of the look of its own verdict. The shares of all pairs of looks add up to 1, so
    the intervals hold for all of them together.
    """
    level = 1 - ALPHA * design.share(a.verdict.look) * design.share(b.verdict.look)
    return Across(
        task,
        name,
        (a.env, b.env),
        (_word(a.verdict), _word(b.verdict)),
        (a.effect, b.effect),
        outcome(a.verdict.word, b.verdict.word),
        b.difference.minus(a.difference).interval(level),
        (a.exploded, b.exploded),
        level,
    )


def _word(verdict: Verdict) -> str:
    return verdict.word or "no verdict"
