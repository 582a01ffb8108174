"""Two-level factorial designs: each variant is a combination of the factors' levels."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from sac_bench.errors import InputError
from sac_bench.spec.toml import validate
from sac_bench.spec.variant import Line

BASE = "base"
"""The variant with all factors at their low levels."""
FACTOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=-]{0,19}")
OWN_TABLES = ("variants", "sweep", "choose", "claim", "expect", "reference_factor")
"""Keys that a file with [factorial] must not have."""


class FactorTable(BaseModel):
    """A factor: the options that it sets at its two levels, and what figures call it."""

    model_config = ConfigDict(extra="forbid", strict=True)

    label: Line = ""
    low: dict[str, Any] = {}
    high: Annotated[dict[str, Any], Field(min_length=1)]


class FactorialTable(BaseModel):
    """The table [factorial]. fraction: "half" keeps the cells with an even number of high levels."""

    model_config = ConfigDict(extra="forbid", strict=True)

    fraction: Literal["full", "half"] = "full"
    factors: Annotated[dict[str, dict[str, Any]], Field(min_length=2, max_length=8)]


@dataclass(frozen=True)
class Factorial:
    """A design. factors: {name: label}; options: {factor: those it sets}; cells: {variant: its high factors}."""

    factors: Mapping[str, str]
    options: Mapping[str, tuple[str, ...]]
    cells: Mapping[str, tuple[str, ...]]


def with_factorial(table: Mapping[str, Any], where: str) -> tuple[dict[str, Any], Factorial | None]:
    """Return a file's table with the variants of its [factorial] in its place, and the design, if it has one.

    A half design keeps the cells with an even number of factors at their high level: the product of all factors is
    constant (Box, Hunter and Hunter 2005, Statistics for Experimenters, chapter 6). An effect of i factors is
    then the same contrast as that of the k - i others. Raises InputError for an invalid table.
    """
    if "factorial" not in table:
        return dict(table), None
    if conflicting := [key for key in OWN_TABLES if key in table]:
        raise InputError(f"{where}: [factorial]: makes the variants itself; remove {conflicting[0]}")
    given = validate(FactorialTable, table["factorial"], f"{where}: [factorial]")
    tables = {
        name: validate(FactorTable, own, f"{where}: [factorial.factors.{name}]") for name, own in given.factors.items()
    }
    _check(tables, given.fraction, where)
    combinations = [dict(zip(tables, levels, strict=True)) for levels in product((0, 1), repeat=len(tables))]
    kept = [one for one in combinations if given.fraction == "full" or sum(one.values()) % 2 == 0]
    cells = {_name(one): tuple(name for name, level in one.items() if level) for one in kept}
    variants = {_name(one): _options(tables, one) for one in kept}
    others = {key: value for key, value in table.items() if key != "factorial"}
    factors = {name: factor.label or name for name, factor in tables.items()}
    own = {name: tuple(factor.low | factor.high) for name, factor in tables.items()}
    return others | {"variants": variants}, Factorial(factors, own, cells)


def _check(factors: Mapping[str, FactorTable], fraction: str, where: str) -> None:
    """Raise InputError for invalid names, and for factors that set the same option."""
    if fraction == "half" and len(factors) < 3:
        raise InputError(
            f"{where}: [factorial] fraction: half of two factors cannot tell them apart; use three or more"
        )
    owner: dict[str, str] = {}
    for name, factor in factors.items():
        place = f"{where}: [factorial.factors.{name}]"
        if not FACTOR.fullmatch(name):
            raise InputError(f"{place}: {name!r} is not a plain name of up to 20 characters, without '+'")
        if name == BASE:
            raise InputError(f"{place}: {BASE!r} is the variant with all factors at their low level; rename the factor")
        for option in factor.low | factor.high:
            if option in owner:
                raise InputError(f"{place}: {option} is also set by {owner[option]}; a factor's options are its own")
            owner[option] = name


def _name(levels: Mapping[str, int]) -> str:
    return "+".join(name for name, level in levels.items() if level) or BASE


def _options(factors: Mapping[str, FactorTable], levels: Mapping[str, int]) -> dict[str, Any]:
    """Return the options of a cell."""
    options: dict[str, Any] = {}
    for name, level in levels.items():
        options |= factors[name].high if level else factors[name].low
    return options
