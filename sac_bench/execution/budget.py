"""A budget of time or transitions: how users write it, how much of it is left, and what fits into it.

A budget pays for further looks of undecided comparisons. A look is trained completely or not at all, so the speed of
the machine during a look does not affect verdicts. A budget never changes the steps of a run.
"""

from __future__ import annotations

import math
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Literal

from sac_bench.errors import InputError, one_line
from sac_bench.execution.calibration import Basis, Calibration, Estimate, weakest
from sac_bench.execution.cost import duration
from sac_bench.execution.plan import CohortPlan, Plan
from sac_bench.spec.experiment import ExperimentGroup, Need, Plannable
from sac_bench.spec.run import RunSpec

SYNTAX = (
    "must be a positive number with a unit: 90min, 8h or 2d for time, 500k transitions or 5M transitions for "
    "transitions of training"
)
FIRST_LOOK_TOLERANCE = 1.1
"""A first look is stopped or refused only if it is expected to take this many times the time that is left."""
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*(?:(min|h|d)|(k|M)?\s*transitions)", re.ASCII)
_SECONDS = {"min": 60.0, "h": 3600.0, "d": 86_400.0}
_CLOCK_TIME = re.compile(r"(?:(\d{1,3})-)?(\d{1,3}):(\d\d):(\d\d)", re.ASCII)
"""D-HH:MM:SS, as in SLURM."""
_MULTIPLES = {None: 1, "k": 10**3, "M": 10**6}
Unit = Literal["seconds", "transitions"]


class OutOfTime(Exception):
    """The time limit is near, and cohorts are left."""


class LeftToOthers(Exception):
    """Other processes train all cohorts that are left, and this one is not to wait for them."""


@dataclass(frozen=True)
class TimeLimit:
    """When training must have ended. No segment starts that is not expected to end before."""

    ends: float = math.inf
    """By `clock`."""
    clock: Callable[[], float] = time.monotonic
    whole: float = math.inf
    """The seconds from the start of the command to its end."""

    @staticmethod
    def parse(text: str, clock: Callable[[], float] = time.monotonic) -> TimeLimit:
        """Return the limit after the time from now that a user wrote; InputError as `seconds_in` raises it."""
        total = seconds_in(text, "--until")
        return TimeLimit(clock() + total, clock, total)

    @property
    def left(self) -> float:
        """The seconds that are left; infinity without a limit."""
        return self.ends - self.clock() if math.isfinite(self.ends) else math.inf


def seconds_in(text: str, option: str) -> float:
    """Return the seconds that a user wrote: "3:50:00", "1-12:00:00" (with days), "90min" or "8h".

    Raises InputError for anything else.
    """
    if match := _CLOCK_TIME.fullmatch(text.strip()):
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        total = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    elif (match := _AMOUNT.fullmatch(text.strip())) and match[2]:
        total = float(match[1]) * _SECONDS[match[2]]
    else:
        total = 0.0
    if not 0 < total < math.inf:
        raise InputError(
            f"{option} {one_line(text, 60)}: must be a positive time, such as 3:50:00, 1-12:00:00, 90min or 8h"
        )
    return total


class OverBudget(InputError):
    """The first look does not fit into the budget, so there would be no verdict."""


@dataclass(frozen=True)
class Budget:
    """The most seconds on the clock, or the most transitions of all runs together (without evaluations)."""

    text: str
    """As it was written."""
    amount: float
    unit: Unit


@dataclass(frozen=True)
class Price:
    """What a plan takes: seconds on the clock, and what this estimate rests on; or transitions, which are exact."""

    amount: float
    unit: Unit = "seconds"
    basis: Basis = Basis.MEASURED

    def __str__(self) -> str:
        return in_words(self.amount, self.unit)

    def fits_first(self, left: float) -> bool:
        """Return whether a first look fits into what is left; an estimated time may be a tenth more."""
        return self.amount <= left * (FIRST_LOOK_TOLERANCE if self.unit == "seconds" else 1.0)


def in_words(amount: float, unit: Unit) -> str:
    """Return "about 3.1 h" or "60,000 transitions"."""
    return f"about {duration(amount)}" if unit == "seconds" else f"{amount:,.0f} transitions"


def parse_budget(text: str) -> Budget:
    """Return the budget that a user wrote: "90min", "8h", "2d", "5000000 transitions" or "5M transitions".

    Raises InputError for anything else. "m" is refused, since it could mean minutes or millions.
    """
    match = _AMOUNT.fullmatch(text.strip())
    if match is None or not 0 < float(match[1]) < math.inf:
        raise InputError(f"--budget {one_line(text, 60)}: {SYNTAX}")
    number, time, multiple = match.groups()
    if time:
        return Budget(text.strip(), float(number) * _SECONDS[time], "seconds")
    transitions = float(number) * _MULTIPLES[multiple]
    if transitions != int(transitions):
        raise InputError(f"--budget {one_line(text, 60)}: transitions must be a whole number")
    return Budget(text.strip(), int(transitions), "transitions")


@dataclass
class Purse:
    """A budget, if there is one, and how much of it a command has used since it began."""

    budget: Budget | None = None
    clock: Callable[[], float] = time.monotonic
    transitions: int = 0
    """Of the plans that were carried out."""
    began: float = field(init=False)

    def __post_init__(self) -> None:
        self.began = self.clock()

    @staticmethod
    def of(text: str | None, experiments: ExperimentGroup) -> Purse:
        """Return the purse for a budget as written, or one without a budget.

        Raises InputError for another text, and for a budget with fixed seeds.
        """
        if text is None:
            return Purse()
        purse = Purse(parse_budget(text))
        if fixed := next((one for one in experiments.experiments if one.seed_range is None), None):
            raise InputError(
                f"--budget {text}: {fixed.name} has fixed seeds, and a budget chooses how many there are; give a "
                "range (--seeds 5..30)"
            )
        return purse

    @property
    def unit(self) -> Unit:
        """The unit of costs."""
        return self.budget.unit if self.budget else "seconds"

    def left(self) -> float:
        """Return what is left, in the budget's unit; infinity without a budget."""
        if self.budget is None:
            return math.inf
        used = self.clock() - self.began if self.budget.unit == "seconds" else self.transitions
        return max(0.0, self.budget.amount - used)

    def pay(self, plan: Plan) -> None:
        """Note that a plan was carried out."""
        self.transitions += sum(cohort.transitions for cohort in plan.cohorts)

    def require(self, first: Price) -> None:
        """Raise OverBudget if what the first look still takes does not fit; an estimated time may be a tenth more."""
        left = self.left()
        if self.budget is None or first.fits_first(left):
            return
        basis = f" ({first.basis.value})" if first.unit == "seconds" else ""
        raise OverBudget(
            f"--budget {self.budget.text}: the first look takes {first} more{basis}, with {in_words(left, self.unit)} "
            "left; raise the budget, or train fewer variants or environments (--variant, --env): a budget reduces "
            "seeds, never steps. Finished training is kept, and a command with a larger budget continues it"
        )

    def watch(self, left: Estimate) -> None:
        """Raise OverBudget if the first look, which is being trained, ends too late by measured rates."""
        if self.unit == "seconds":
            self.require(Price(left.seconds, "seconds", left.basis))


def price(plan: Plan, requested: Plannable, unit: Unit, calibration: Calibration, workers: int) -> Price:
    """Return what a plan takes on so many workers: seconds on the clock, or transitions.

    Runs that wait for the start of a warm start count, too, after the others.
    """
    stages = [plan.cohorts, _later(plan, requested)]
    if unit == "transitions":
        return Price(sum(cohort.transitions for stage in stages for cohort in stage), unit)
    times = [calibration.total(stage, workers) for stage in stages]
    return Price(sum(one.seconds for one in times), unit, weakest([one.basis for one in times]))


def _later(plan: Plan, requested: Plannable) -> list[CohortPlan]:
    """Return the runs of a later plan, those of one structure and length as one cohort."""
    steps: dict[str, int] = {}
    for variant, spec in requested.runs() if plan.waiting else ():
        steps[spec.id] = max(variant.steps[spec.env], steps.get(spec.id, 0))
    alike: dict[tuple[str, int], list[RunSpec]] = defaultdict(list)
    for spec in plan.waiting:
        alike[spec.structure(), steps[spec.id]].append(spec)
    return [CohortPlan("", tuple(specs), most) for (_, most), specs in alike.items()]


def affordable(needs: Sequence[Need], cost: Callable[[Sequence[Need]], float], left: float) -> list[Need]:
    """Return the comparisons that get their next look: all if they fit together, else the first ones that do.

    Comparisons at an earlier look come first, then they are taken in order, up to the first that does not fit. A later
    one is not taken in its place, even if it is cheaper. `cost` is that of some comparisons together, which may share
    runs.
    """
    ordered = sorted(needs, key=lambda need: need.look)
    if math.isinf(left) or not ordered or cost(ordered) <= left:
        return ordered
    starts = (ordered[:count] for count in range(1, len(ordered)))
    return max(takewhile(lambda start: cost(start) <= left, starts), key=len, default=[])


def fitting(costs: Iterable[float], left: float) -> int:
    """Return how many waves of training fit one after another."""
    total = 0.0

    def fits(amount: float) -> bool:
        nonlocal total
        total += amount
        return total <= left

    return sum(1 for _ in takewhile(fits, costs))
