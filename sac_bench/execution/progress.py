"""How far a training is: what is counted and drawn, computed from where its cohorts stand, and its lines of text.

Everything here is pure; execution/display.py puts the lines in place.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sac_bench.errors import counted
from sac_bench.execution.calibration import Basis, Calibration, Estimate, weakest
from sac_bench.execution.cost import START_SECONDS, duration
from sac_bench.execution.plan import CohortPlan
from sac_bench.execution.schedule import loads
from sac_bench.execution.work import State, Work

SPARKLINE_PARTS = 12
"""The parts of a run's steps that a sparkline shows, one sign each."""
MAX_ROWS = 10
"""The most variants that are listed; the others are counted."""
NAME_WIDTH = 28
ENDED_PHASES = {"failed", "left for later", "finished"}
"""Phases of runs that this command does not train any more."""
PHASES = ("training", "compiling", "starting", "failed", "waiting", "left for later", "finished")
"""In the order in which variants are listed if there are too many."""
WORKING_PHASES = PHASES[:3]

Returns = Mapping[str, Mapping[int, float]]
"""{run id: {steps: mean return of an evaluation}}."""


@dataclass(frozen=True)
class Row:
    """A variant: its runs, and how its returns developed."""

    name: str
    env: str
    phases: Mapping[str, int]
    """{phase: how many of its runs are in it}."""
    share: float
    """Of the transitions of its runs, those that are done."""
    curve: tuple[float | None, ...]
    """Mean returns in each of SPARKLINE_PARTS equal parts of the steps, up to the last evaluation.

    A part without evaluation has the value of the part before, None at the beginning.
    """

    @property
    def phase(self) -> str:
        """The phase to name: of the run that is furthest from waiting and from being finished."""
        return next(phase for phase in PHASES if self.phases.get(phase))

    @property
    def last(self) -> float | None:
        """The mean return in the last part that has one."""
        return self.curve[-1] if self.curve else None


@dataclass(frozen=True)
class Progress:
    """A training as a whole."""

    rows: tuple[Row, ...]
    """One per variant, in the order of the plan."""
    phases: Mapping[str, int]
    """{phase: how many runs are in it}."""
    share: float
    """Of the transitions of all runs, those that are done."""
    elapsed: float
    """Seconds since the training began."""
    left: Estimate | None
    """Seconds until it ends; None as long as that is not known."""
    rate: float | None
    """Transitions per second of all runs that are measured."""
    compiling: float | None
    """Seconds for which the cohort that compiles longest has compiled; None if none compiles."""


def progress(
    states: Sequence[State], names: Mapping[str, str], returns: Returns, elapsed: float, left: Estimate | None
) -> Progress:
    """Return the progress of a training whose cohorts stand as in `states`.

    names: {run id: its variant}; a run without a name has that of its algorithm.
    """
    of_variant: dict[str, list[tuple[State, str]]] = {}
    for state in states:
        for spec in state.cohort.runs:
            of_variant.setdefault(names.get(spec.id, spec.algorithm), []).append((state, spec.id))
    rates = [state.rate for state in states if state.rate is not None and state.phase in WORKING_PHASES]
    return Progress(
        rows=tuple(_row(name, runs, returns) for name, runs in of_variant.items()),
        phases=_phases((state, spec.id) for state in states for spec in state.cohort.runs),
        share=_share((state, 1.0 * len(state.cohort.runs)) for state in states),
        elapsed=elapsed,
        left=left,
        rate=sum(rates) if rates else None,
        compiling=max((state.seconds for state in states if state.phase == "compiling"), default=None),
    )


def _row(name: str, runs: Sequence[tuple[State, str]], returns: Returns) -> Row:
    of_part: dict[int, list[float]] = {}
    for state, run_id in runs:
        for steps, value in returns.get(run_id, {}).items():
            of_part.setdefault(max(0, math.ceil(SPARKLINE_PARTS * steps / state.cohort.steps) - 1), []).append(value)
    means: list[float | None] = []
    for part in range(max(of_part, default=-1) + 1):
        means.append(sum(of_part[part]) / len(of_part[part]) if part in of_part else (means or [None])[-1])
    share = _share((state, 1.0) for state, _ in runs)
    return Row(name, runs[0][0].cohort.runs[0].env, _phases(runs), share, tuple(means))


def _phases(runs: Iterable[tuple[State, str]]) -> dict[str, int]:
    """Return {phase: how many runs are in it}, in the order of PHASES."""
    counts = Counter(state.phase_of(run_id) for state, run_id in runs)
    return {phase: counts[phase] for phase in PHASES if counts[phase]}


def _share(weighted: Iterable[tuple[State, float]]) -> float:
    """Return which share of the transitions from `done` to `steps` is made, of cohorts with weights.

    Those that have ended are complete: a run that diverges ends earlier.
    """
    made = total = 0.0
    for state, weight in weighted:
        whole = state.cohort.steps - state.cohort.done
        total += weight * whole
        made += weight * (whole if state.phase in ("finished", "failed") else state.steps - state.cohort.done)
    return made / total if total else 1.0


def time_left(
    active: Sequence[Work], waiting: Sequence[CohortPlan], workers: int, calibration: Calibration
) -> Estimate | None:
    """Return the time until all cohorts end; None while one that runs has no measured rate and none like it has.

    Cohorts that run count with their own rate, and others with the calibrated model.
    """
    running = []
    for work in active:
        own, rest = work.seconds_left(), work.rest()
        calibrated = calibration.training(rest) if work.phase == "training" else calibration.estimate(rest)
        if own is None and calibrated.basis is Basis.MODEL:
            return None
        running.append(calibrated if own is None else Estimate(own, Basis.MEASURED))
    later = [calibration.estimate(cohort) for cohort in waiting]
    ends = loads([one.seconds for one in later], workers, [one.seconds for one in running])
    return Estimate(max(ends), weakest([one.basis for one in (*running, *later)]))


@dataclass(frozen=True)
class Signs:
    """The characters that bars and sparklines are made of."""

    done: str = "━"
    rest: str = "─"
    levels: str = "▁▂▃▄▅▆▇█"
    cut: str = "…"


ASCII = Signs(done="#", rest="-", levels="_.:-=+*#", cut="~")
"""For terminals and files without Unicode."""


def block(now: Progress, width: int, signs: Signs) -> list[str]:
    """Return the lines of a block that is updated: a bar with times, counts, and a line per variant.

    There are at most MAX_ROWS + 4, and none is wider than `width`.
    """
    percent, times = f"{math.floor(100 * now.share):3d}%", _times(now)
    bar = max(10, width - len(percent) - len(times) - 3)
    made = math.floor(bar * now.share)
    lines = [f"{signs.done * made}{signs.rest * (bar - made)} {percent}  {times}", *_counts(now)]
    lines += _rows(now.rows, signs)
    return [_cut(line, width, signs) for line in lines]


def report(now: Progress, signs: Signs) -> list[str]:
    """Return the lines that a file gets now and then: shares, times, counts, and the variants that are in training."""
    working = [row for row in now.rows if row.phase in WORKING_PHASES]
    return [f"{math.floor(100 * now.share)}% of the steps; {_times(now)}", *_counts(now), *_rows(working, signs)]


def _times(now: Progress) -> str:
    elapsed = f"{duration(now.elapsed)} elapsed"
    if set(now.phases) <= ENDED_PHASES:
        return elapsed
    if now.left is None:
        return f"{elapsed}, time left not known yet"
    return f"{elapsed}, about {duration(now.left.seconds)} left ({now.left.basis.value})"


def _counts(now: Progress) -> list[str]:
    """Return how many runs are in which phase, and a line on compiling if a cohort compiles."""
    runs = sum(now.phases.values())
    parts = [f"{now.phases.get('finished', 0)} of {counted(runs, 'run')} finished"]
    for phase, count in now.phases.items():
        if phase != "finished":
            rate = f" at {now.rate:,.0f} steps/s" if phase == "training" and now.rate is not None else ""
            parts.append(f"{count} {phase}{rate}")
    return [", ".join(parts), *([] if now.compiling is None else [compiling(now.compiling)])]


def compiling(seconds: float) -> str:
    """Return what compiling is and how long it takes by the model of costs, after so many seconds of it."""
    if seconds <= START_SECONDS:
        return f"compiling, about {duration(START_SECONDS)}, once per structure"
    return f"compiling for {duration(seconds)}; once per structure, and longer for deep networks or on a busy machine"


def _rows(rows: Sequence[Row], signs: Signs) -> list[str]:
    """Return a header and a line per variant; none without rows. If there are too many, the most active are shown.

    The sparkline and the last return are means over the variant's runs.
    """
    if not rows:
        return []
    shown = list(rows)
    if len(rows) > MAX_ROWS:
        shown = sorted(rows, key=lambda row: PHASES.index(row.phase))[: MAX_ROWS - 1]
    names = [_middle(row.name, signs) for row in shown]
    counts = [f"{row.phases.get('finished', 0)} of {sum(row.phases.values())}" for row in shown]
    lasts = ["" if row.last is None else f"{row.last:,.1f}" for row in shown]
    curves = [sparkline(row.curve, *_scale(rows, row.env), signs) for row in shown]
    columns = [
        ["variant", *names],
        ["finished", *counts],
        ["returns".ljust(SPARKLINE_PARTS), *curves],
        ["last", *lasts],
    ]
    widths = [max(map(len, column)) for column in columns]
    lines = [
        f"  {name:{widths[0]}}  {count:>{widths[1]}}  {curve}  {last:>{widths[3]}}  {doing}".rstrip()
        for name, count, curve, last, doing in zip(*columns, ["", *map(_doing, shown)], strict=True)
    ]
    if others := [row for row in rows if row not in shown]:
        phases = Counter[str]()
        for row in others:
            phases.update(row.phases)
        runs = ", ".join(f"{phases[phase]} {phase}" for phase in PHASES if phases[phase])
        lines.append(f"  and {counted(len(others), 'other variant')} (runs: {runs})")
    return lines


def _doing(row: Row) -> str:
    return f"training {math.floor(100 * row.share)}%" if row.phase == "training" else row.phase


def _scale(rows: Sequence[Row], env: str) -> tuple[float, float]:
    """Return the least and the largest return of an environment's curves, so that variants can be compared."""
    values = [value for row in rows if row.env == env for value in row.curve if value is not None]
    return min(values, default=0.0), max(values, default=0.0)


def sparkline(curve: Sequence[float | None], low: float, high: float, signs: Signs) -> str:
    """Return a sign per part of a curve: its level between `low` and `high`, or a space where it has no value."""
    top, height = len(signs.levels) - 1, high - low or 1.0
    levels = [" " if value is None else signs.levels[round(top * (value - low) / height)] for value in curve]
    return "".join(levels).ljust(SPARKLINE_PARTS)


def _middle(name: str, signs: Signs) -> str:
    """Return a name without its middle if it is too long: both ends tell variants apart."""
    if len(name) <= NAME_WIDTH:
        return name
    end = (NAME_WIDTH - 1) // 2
    return f"{name[: NAME_WIDTH - 1 - end]}{signs.cut}{name[-end:]}"


def _cut(line: str, width: int, signs: Signs) -> str:
    return line if len(line) <= width else line[: width - 1] + signs.cut
