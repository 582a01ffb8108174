"""A published claim: its words, its source, and the results of comparisons that it expects."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from sac_bench.errors import InputError, Problems, nearest
from sac_bench.spec.measures import MEASURES, ROBUSTNESS, check_robustness

Relation = Literal[">", ">=", "~"]


class Side(NamedTuple):
    """The runs of a variant, by one measure."""

    variant: str
    measure: str = "score"

    def __str__(self) -> str:
        return self.variant if self.measure == "score" else f"{self.variant}:{self.measure}"


@dataclass(frozen=True)
class Expectation:
    """`a > b`: a is more. `a >= b`: a is not less by the margin. `a ~ b`: they differ by less than the margin.

    `env`: the only environment in which this is expected; None: in all.
    """

    a: Side
    relation: Relation
    b: Side
    env: str | None = None

    def __str__(self) -> str:
        return f"{self.a} {self.relation} {self.b}" + (f" on {self.env}" if self.env else "")


@dataclass(frozen=True)
class Claim:
    """A claim's words and source, and what it expects.

    `margin`: differences of returns below this share of the reference's gain over a random policy do not matter. Other
    measures have their own margins. `grows`: an easier and a harder environment; the first expectation's difference is
    expected to be larger on the harder one. `refuted_by`: which result would count against the claim, in a sentence; ""
    in old results.
    """

    words: str
    source: str
    expect: tuple[Expectation, ...]
    margin: float | None = None
    grows: tuple[str, str] | None = None
    refuted_by: str = ""

    def variants(self) -> set[str]:
        """Return all variants that are compared."""
        return {side.variant for expected in self.expect for side in (expected.a, expected.b)}

    def as_plain(self) -> dict[str, Any]:
        """Return the claim as JSON holds it."""
        return {
            "words": self.words,
            "source": self.source,
            "refuted_by": self.refuted_by,
            "expect": [str(expected) for expected in self.expect],
            "margin": self.margin,
            "grows": self.grows and list(self.grows),
        }

    @staticmethod
    def from_plain(claim: Mapping[str, Any], variants: Collection[str]) -> Claim:
        """Invert `as_plain`. Raises InputError if an expectation names an unknown variant or measure."""
        expected = tuple(expectation(text, variants) for text in claim["expect"])
        grows = tuple(claim["grows"]) if claim["grows"] else None
        return Claim(claim["words"], claim["source"], expected, claim["margin"], grows, claim.get("refuted_by", ""))


def parse_claim(
    words: str,
    source: str,
    refuted_by: str,
    expect: str | list[str],
    margin: float | None,
    grows: tuple[str, str] | None,
    variants: Collection[str],
    envs: Collection[str],
) -> Claim | None:
    """Build the claim from an experiment file's keys; None if it makes none. Raises InputError if a key is wrong."""
    expect = [expect] if isinstance(expect, str) else expect
    if not words:
        for key, value in (("expect", expect), ("grows", grows), ("refuted_by", refuted_by)):
            if value:
                raise InputError(f"claim: is required with {key}")
        return None
    for key, required in (("source", source), ("refuted_by", refuted_by), ("expect", expect)):
        if not required:
            raise InputError(f"{key}: is required with claim")
    expected, problems = [], Problems()
    for text in expect:
        with problems.noted():
            one = expectation(text, variants)
            if one.env is not None and one.env not in envs:
                raise InputError(f"expect: {str(one)!r}: {one.env} must be one of envs{nearest(one.env, envs)}")
            _check_measures(one, margin, [one.env] if one.env else envs)
            expected.append(one)
    problems.raise_all()
    if grows and not (set(grows) <= set(envs) and grows[0] != grows[1]):
        raise InputError(f"grows: {', '.join(grows)}: must be two of envs, the easier first")
    if grows and not MEASURES[expected[0].a.measure].in_returns:
        raise InputError(f"grows: the first expectation must compare returns, not {str(expected[0])!r}")
    return Claim(words, source, tuple(expected), margin, grows, refuted_by)


def _check_measures(one: Expectation, margin: float | None, envs: Collection[str]) -> None:
    """Raise InputError unless a file's expectation compares measures of one unit, with a margin if it needs one."""
    sides = (one.a, one.b)
    a, b = (MEASURES[side.measure] for side in sides)
    if a.unit != b.unit:
        raise InputError(f"expect: {str(one)!r}: compares measures of different units: {a.unit} and {b.unit}")
    if one.relation != ">" and not a.margin and not margin:
        raise InputError(f"expect: {str(one)!r}: margin is required with {one.relation!r}")
    for name in {side.measure for side in sides} & set(ROBUSTNESS):
        for env in envs:
            check_robustness([name], env)


def robustness_measures(claim: Claim | None) -> dict[str, list[str]]:
    """Return {variant: the robustness measures that a claim needs of its runs}."""
    needed: dict[str, dict[str, None]] = {}
    for expected in claim.expect if claim else ():
        for side in (expected.a, expected.b):
            if side.measure in ROBUSTNESS:
                needed.setdefault(side.variant, {})[side.measure] = None
    return {variant: list(names) for variant, names in needed.items()}


def expectation(text: str, variants: Collection[str]) -> Expectation:
    """Parse "a > b" or "a > b on ENV", where a side is `variant` or `variant:measure`.

    Raises InputError for anything else.
    """
    parts = text.split()
    is_complete = len(parts) == 3 or (len(parts) == 5 and parts[3] == "on")
    if not is_complete or parts[1] not in (">", ">=", "~", "<", "<="):
        raise InputError(
            f'expect: {text!r}: must be "a > b", "a >= b" or "a ~ b" of two variants, with spaces, or "a > b on ENV"'
        )
    a, b = (_side(part, variants) for part in (parts[0], parts[2]))
    if a == b:
        raise InputError(f"expect: {text!r}: both sides are the same")
    if parts[1].startswith("<"):
        a, b = b, a
    relation = parts[1].replace("<", ">")
    return Expectation(a, relation, b, parts[4] if len(parts) == 5 else None)  # type: ignore[arg-type]


def is_on(text: str, envs: Collection[str]) -> bool:
    """Return whether an expectation is about one of the environments: it names none, or one of them."""
    _, named, env = text.rpartition(" on ")
    return not named or env in envs


def _side(text: str, variants: Collection[str]) -> Side:
    variant, colon, measure = text.partition(":")
    if variant not in variants:
        raise InputError(f"expect: no variant {variant!r}{nearest(variant, variants)}")
    if colon and measure not in MEASURES:
        known = nearest(measure, MEASURES) or "; known are " + ", ".join(MEASURES)
        raise InputError(f"expect: {text}: no measure {measure!r}{known}")
    return Side(variant, measure or "score")
