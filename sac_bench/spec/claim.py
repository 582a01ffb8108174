"""A published claim: what it says, where, and what comparisons of an experiment's variants would have to show."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sac_bench.algorithms import gradients
from sac_bench.errors import InputError, nearest
from sac_bench.evaluation.robustness import EXAMINATIONS, check

Relation = Literal[">", ">=", "~"]


class Measure(NamedTuple):
    """What is measured of a run: in words, whether in units of return, and whether a claim's margin is of it."""

    label: str
    in_returns: bool = True
    has_margin: bool = True
    """A share of the reference's gain weighs returns; of differences of returns, or other units, it says nothing."""


MEASURES = {
    "score": Measure("score"),
    "sampled": Measure("score of sampled actions"),
    "area": Measure("mean return over the whole curve"),
    "spread": Measure("distance of a seed's score from the median seed's", True, False),
    gradients.VARIANCE_REPARAMETERISED.name: Measure("log10 variance of the reparameterised gradient", False, False),
    gradients.VARIANCE_SCORE_FUNCTION.name: Measure("log10 variance of the score function's gradient", False, False),
    **{
        name: Measure(one.description, one.unit == "return", one.unit == "return" and not name.startswith("lost"))
        for name, one in EXAMINATIONS.items()
    },
}
"""Of a run's tables, and of its trained policy. The mean of `spread` over seeds is what Brown and Forsythe (1974)
compare: a test of spread that does not want scores to be normal."""


class Side(NamedTuple):
    """A variant's runs, by one measure."""

    variant: str
    measure: str = "score"

    def __str__(self) -> str:
        return self.variant if self.measure == "score" else f"{self.variant}:{self.measure}"


@dataclass(frozen=True)
class Expectation:
    """`a > b`: more; `a >= b`: no less, but for the margin; `a ~ b`: the same, but for the margin."""

    a: Side
    relation: Relation
    b: Side

    def __str__(self) -> str:
        return f"{self.a} {self.relation} {self.b}"


@dataclass(frozen=True)
class Claim:
    """The claim's words and source, what it expects, and from which share of the reference's gain over a random policy
    on a difference matters; `grows`: an easier and a harder environment, the first expectation's difference being
    larger on the harder."""

    words: str
    source: str
    expect: tuple[Expectation, ...]
    margin: float | None = None
    grows: tuple[str, str] | None = None

    def variants(self) -> set[str]:
        """All that are compared."""
        return {side.variant for expected in self.expect for side in (expected.a, expected.b)}


def claimed(
    words: str,
    source: str,
    expect: str | list[str],
    margin: float | None,
    grows: tuple[str, str] | None,
    variants: Collection[str],
    envs: Collection[str],
) -> Claim | None:
    """What a file claims, by the keys of it; None where it claims nothing. InputError where something does not fit."""
    expect = [expect] if isinstance(expect, str) else expect
    if not words:
        if expect or grows:
            raise InputError("claim: is missing, though the file says what to expect")
        return None
    if not (source and expect):
        raise InputError(f"{'expect' if source else 'source'}: is missing; a claim wants both")
    expected = tuple(expectation(text, variants, MEASURES) for text in expect)
    for one in expected:
        measures = [MEASURES[side.measure] for side in (one.a, one.b)]
        if measures[0][1:] != measures[1][1:]:
            raise InputError(f"expect: {str(one)!r}: compares measures of different kinds")
        if one.relation != ">" and not (margin and measures[0].has_margin):
            raise InputError(f"expect: {str(one)!r}: wants a margin, and a measure that is a return")
        for side in (one.a, one.b):
            if side.measure in EXAMINATIONS:
                for env in envs:
                    check([side.measure], env)
    if grows and not (set(grows) <= set(envs) and grows[0] != grows[1]):
        raise InputError(f"grows: {', '.join(grows)}: wants two of envs, the easier first")
    if grows and not MEASURES[expected[0].a.measure].has_margin:
        raise InputError(f"grows: wants a first expectation of returns, not {str(expected[0])!r}")
    return Claim(words, source, expected, margin, grows)


def examinations_of(claim: Claim | None) -> dict[str, list[str]]:
    """Which examinations a claim wants of which variants' runs."""
    wanted: dict[str, dict[str, None]] = {}
    for expected in claim.expect if claim else ():
        for side in (expected.a, expected.b):
            if side.measure in EXAMINATIONS:
                wanted.setdefault(side.variant, {})[side.measure] = None
    return {variant: list(names) for variant, names in wanted.items()}


def as_plain(claim: Claim | None) -> dict[str, Any] | None:
    """A claim as JSON holds it."""
    if claim is None:
        return None
    return {
        "words": claim.words,
        "source": claim.source,
        "expect": [str(one) for one in claim.expect],
        "margin": claim.margin,
        "grows": claim.grows and list(claim.grows),
    }


def from_plain(claim: dict[str, Any], variants: Collection[str]) -> Claim:
    """The inverse of `as_plain`."""
    expected = tuple(expectation(text, variants, MEASURES) for text in claim["expect"])
    grows = tuple(claim["grows"]) if claim["grows"] else None
    return Claim(claim["words"], claim["source"], expected, claim["margin"], grows)


def expectation(text: str, variants: Collection[str], measures: Collection[str]) -> Expectation:
    """From "a > b", where a side is a variant or variant:measure; InputError for anything else."""
    parts = text.split()
    if len(parts) != 3 or parts[1] not in (">", ">=", "~", "<", "<="):
        raise InputError(f'expect: {text!r}: wants "a > b", "a >= b" or "a ~ b" of two variants, with spaces')
    a, b = (_side(part, variants, measures) for part in (parts[0], parts[2]))
    if a == b:
        raise InputError(f"expect: {text!r}: both sides are the same")
    if parts[1].startswith("<"):
        a, b = b, a
    return Expectation(a, parts[1].replace("<", ">"), b)  # type: ignore[arg-type]


def _side(text: str, variants: Collection[str], measures: Collection[str]) -> Side:
    variant, colon, measure = text.partition(":")
    if variant not in variants:
        raise InputError(f"expect: no variant {variant!r}{nearest(variant, variants)}")
    if colon and measure not in measures:
        known = nearest(measure, measures) or "; there are " + ", ".join(measures)
        raise InputError(f"expect: {text}: no measure {measure!r}{known}")
    return Side(variant, measure or "score")
