"""A budget of time or transitions: how users write it, and what fits into it.

A budget buys waves of training, in their order. A wave is trained as a whole or not at all, so that what is decided by
its results does not depend on the speed of the machine within it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sac_bench.errors import InputError, one_line
from sac_bench.execution.schedule import makespan

SYNTAX = (
    "must be a positive number with a unit: 90min, 8h or 2d for time, 500k transitions or 5M transitions for "
    "transitions of training"
)
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:(min|h|d)|(k|M)?\s*transitions)", re.ASCII)
_SECONDS = {"min": 60.0, "h": 3600.0, "d": 86_400.0}
_MULTIPLES = {None: 1, "k": 10**3, "M": 10**6}


@dataclass(frozen=True)
class Budget:
    """The most seconds on the clock, or the most transitions of all runs together (without evaluations)."""

    amount: float
    unit: Literal["seconds", "transitions"]


@dataclass(frozen=True)
class Cohort:
    """What one cohort costs: seconds on one worker (calibrated), and transitions of its runs together."""

    seconds: float
    transitions: int


@dataclass(frozen=True)
class Wave:
    """Cohorts that are trained together, the longest first, and what they decide."""

    name: str
    cohorts: tuple[Cohort, ...]


@dataclass(frozen=True)
class Cost:
    """What a wave takes of a budget, in the budget's unit."""

    name: str
    amount: float


@dataclass(frozen=True)
class Purchase:
    """What a budget buys: the waves that fit, what is left after them, and the cost of the waves that do not fit."""

    fitting: tuple[Cost, ...]
    left: float
    missing: tuple[Cost, ...]


def parse_budget(text: str) -> Budget:
    """Return the budget that a user wrote: "90min", "8h", "2d", "5000000 transitions" or "5M transitions".

    Raises InputError for anything else. "m" is refused, since it could mean minutes or millions.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or not 0 < float(match[1]) < math.inf:
        raise InputError(f"--budget {one_line(text, 60)}: {SYNTAX}")
    number, time, multiple = match.groups()
    if time:
        return Budget(float(number) * _SECONDS[time], "seconds")
    transitions = float(number) * _MULTIPLES[multiple]
    if transitions != int(transitions):
        raise InputError(f"--budget {one_line(text, 60)}: transitions must be a whole number")
    return Budget(int(transitions), "transitions")


def cost(wave: Wave, budget: Budget, workers: int) -> Cost:
    """Return what a wave takes of a budget on so many workers: seconds on the clock, or transitions."""
    if budget.unit == "transitions":
        return Cost(wave.name, sum(cohort.transitions for cohort in wave.cohorts))
    seconds = sorted((cohort.seconds for cohort in wave.cohorts), reverse=True)
    return Cost(wave.name, makespan(seconds, workers))


def buy(budget: Budget, waves: Sequence[Wave], workers: int, spent: float = 0.0) -> Purchase:
    """Return which waves fit into what is left of a budget, in order, up to the first that does not.

    A later wave is not taken in place of an earlier one, even if it is cheaper, since it may depend on the earlier one.
    spent: seconds or transitions that are used up, in the budget's unit.
    """
    left = max(0.0, budget.amount - spent)
    costs = [cost(wave, budget, workers) for wave in waves]
    fitting: list[Cost] = []
    for one in costs:
        if one.amount > left:
            break
        fitting.append(one)
        left -= one.amount
    return Purchase(tuple(fitting), left, tuple(costs[len(fitting) :]))
