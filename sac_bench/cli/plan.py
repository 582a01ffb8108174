"""Describes a plan in a few lines: the total first, then one line per kind of cohort."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from typing import TypeVar

from sac_bench.errors import counted
from sac_bench.execution.budget import Budget, Price, fitting
from sac_bench.execution.calibration import Calibration
from sac_bench.execution.cost import duration, member_bytes, result_bytes, size
from sac_bench.execution.plan import CohortPlan, Plan
from sac_bench.execution.worker_options import Workers

MAX_LINE_WIDTH = 80
MAX_SHAPE_LINES = 20
"""The most lines for kinds of cohorts; the rest is summed up in one."""

Number = TypeVar("Number", int, float)


def total(plan: Plan, calibration: Calibration, workers: Workers) -> str:
    """Return one line with the number of runs and cohorts to train, and the time."""
    if not plan.cohorts:
        return "total: nothing to train"
    time = calibration.total(plan.cohorts, workers.count)
    runs = sum(len(cohort.runs) for cohort in plan.cohorts)
    return (
        f"total: {counted(runs, 'run')} in {counted(len(plan.cohorts), 'cohort')} on "
        f"{counted(workers.count, f'{workers.device} worker')}, {duration(time.seconds)} ({time.basis.value})"
    )


def standings(plan: Plan) -> list[str]:
    """Return how many of the requested runs are new, reused, continued, and not trained now, with the reason."""
    words = [
        f"{sum(len(one.runs) for one in plan.cohorts if one.is_new)} new",
        f"{len(plan.reused)} reused",
        f"{sum(len(one.runs) for one in plan.cohorts if not one.is_new)} to be continued",
    ]
    if plan.diverged:
        words.append(f"{len(plan.diverged)} diverged (not trained again)")
    if plan.raised:
        words.append(f"{len(plan.raised)} failed in their environment (--retrain trains them again)")
    if plan.waiting:
        words.append(f"{len(plan.waiting)} wait for the runs that they start from (not in the total)")
    return words


def shapes(plan: Plan, calibration: Calibration, names: Mapping[str, str]) -> list[str]:
    """Return one line per structure, number of steps and state, the most time first: its cohorts and time.

    names: {run id: variant}; those of a shape are named where the line has room.
    """
    groups: dict[tuple[str, int, bool], list[CohortPlan]] = defaultdict(list)
    for cohort in plan.cohorts:
        groups[cohort.structure, cohort.steps, cohort.is_new].append(cohort)
    work = {key: sum(calibration.estimate(one).seconds for one in cohorts) for key, cohorts in groups.items()}
    ordered = [groups[key] for key in sorted(groups, key=lambda key: -work[key])]
    shown = ordered if len(ordered) <= MAX_SHAPE_LINES else ordered[: MAX_SHAPE_LINES - 1]
    wide = max((len(str(len(cohorts))) for cohorts in shown), default=0)
    lines = [_shape(cohorts, calibration, names, wide) for cohorts in shown]
    if rest := [one for cohorts in ordered[len(shown) :] for one in cohorts]:
        kinds = f"{len(ordered) - len(shown)} more kinds"
        runs = sum(len(one.runs) for one in rest)
        times = between([calibration.estimate(one).seconds for one in rest], duration)
        lines.append(f"  {counted(len(rest), 'cohort')} of {kinds}, {counted(runs, 'run')}, {times} each")
    return lines


def _shape(cohorts: Sequence[CohortPlan], calibration: Calibration, names: Mapping[str, str], wide: int) -> str:
    one = cohorts[0]
    times = [calibration.estimate(cohort).seconds for cohort in cohorts]
    widths = [len(cohort.runs) for cohort in cohorts]
    steps = f"{in_short(one.steps)} steps"
    if not one.is_new:
        steps = f"{between([cohort.done for cohort in cohorts], in_short)} of {steps} done"
    parts = [
        f"{len(cohorts):>{wide}} cohort{'s' if len(cohorts) != 1 else ''} of "
        f"{between(widths, str)} run{'s' if max(widths) != 1 else ''}",
        one.runs[0].env,
        steps,
        between(times, duration) + (" each" if len(cohorts) > 1 else ""),
    ]
    line = "  " + ", ".join(parts)
    variants = list(dict.fromkeys(names[run.id] for cohort in cohorts for run in cohort.runs if run.id in names))
    for shown in range(min(len(variants), 3), 0, -1):
        more = f" and {len(variants) - shown} more" if len(variants) > shown else ""
        if len(named := f"{line}: {', '.join(variants[:shown])}{more}") <= MAX_LINE_WIDTH:
            return named
    return line


def bought(
    budget: Budget, prices: Iterator[Price], looks: Sequence[Sequence[int]], candidates: Price | None = None
) -> str:
    """Return what a budget buys: whether the first look fits, and how many looks do if nothing is decided.

    prices: of each look, the first one first. looks: the looks of each experiment. candidates: the price of choosing
    options, which comes before the first look.
    """
    left, text = budget.amount, f"--budget {budget.text}: "
    choosing = [] if candidates is None else [("choosing options takes", candidates)]
    for what, price in chain(choosing, (("the first look takes", one) for one in islice(prices, 1))):
        text += f"{'' if price is candidates or not choosing else '; then '}{what} {_based(price)}"
        if not price.fits_first(left):
            return (
                f"{text}, more than the budget; raise it, or train fewer variants or environments: "
                "a budget reduces seeds, never steps"
            )
        left -= price.amount
    count = 1 + fitting((one.amount for one in prices), left)
    longest = max(looks, key=len)
    seeds = f", up to {longest[count - 1]} seeds per variant" if len(set(map(tuple, looks))) == 1 else ""
    covered = f"{count} of {counted(len(longest), 'look')} if nothing is decided early"
    return f"{text}; the budget covers {covered}{seeds}"


def next_look(budget: Budget, price: Price) -> str:
    """Return whether the next look of the comparisons that require one fits into a budget."""
    fits = "fits" if price.amount <= budget.amount else "does not fit as a whole: comparisons get it one by one"
    return f"--budget {budget.text}: the next look takes {_based(price)} and {fits}"


def _based(price: Price) -> str:
    """Return a price, and what the estimate of a time is based on."""
    return f"{price} ({price.basis.value})" if price.unit == "seconds" else str(price)


def resources(plan: Plan, workers: int, on_disk: Mapping[str, int], keep_replay: bool = False) -> list[str]:
    """Return what the plan needs: memory and disk while `workers` cohorts train at once, and disk for its results.

    on_disk: {cohort: bytes that it has on disk already}.
    """
    memory = sum(sorted((cohort.memory_bytes for cohort in plan.cohorts), reverse=True)[:workers])
    results = sum(result_bytes(run, cohort.steps) for cohort in plan.cohorts for run in cohort.runs)
    replays = [
        max(0.0, len(one.runs) * member_bytes(one.runs[0], one.steps) - on_disk.get(one.id, 0)) for one in plan.cohorts
    ]
    largest = sum(sorted(replays, reverse=True)[:workers])
    kept = f", {size(sum(replays))} of kept replays" if keep_replay else ""
    return [
        f"during training: up to {size(memory)} of memory and {size(largest)} of disk",
        f"after training: {size(results)} of results{kept}",
    ]


def between(values: Sequence[Number], words: Callable[[Number], str]) -> str:
    """Return the least and the largest value in words: "3 to 4 min", "50 s to 2 min", or one if they read the same."""
    low, high = words(min(values)), words(max(values))
    if low == high:
        return low
    number, _, unit = low.partition(" ")
    return f"{number if unit and high.endswith(f' {unit}') else low} to {high}"


def in_short(number: int) -> str:
    """Return a number of steps: "3M", "1.5M", "20k", "1,234"."""
    for unit, name in ((10**6, "M"), (10**3, "k")):
        if number >= unit and number % (unit // 10) == 0:
            return f"{number / unit:,.{0 if number % unit == 0 else 1}f}{name}"
    return f"{number:,}"
