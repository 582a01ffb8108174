"""Shows the progress of training: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sac_bench.execution.calibration import Basis, Calibration, Estimate, weakest
from sac_bench.execution.cost import duration
from sac_bench.execution.plan import CohortPlan
from sac_bench.execution.schedule import loads
from sac_bench.execution.work import Work

QUIET_SECONDS = 30.0
"""Time between lines of progress where there is no terminal."""


class Display:
    """Shows what the workers do."""

    def __init__(self, console: Console, workers: int) -> None:
        self._console, self._workers = console, workers
        self._live = Live(console=console, refresh_per_second=2, transient=True) if console.is_terminal else None
        if self._live:
            self._live.start()
        self._last_line = time.monotonic()

    def show(self, active: Sequence[Work], waiting: Sequence[CohortPlan], calibration: Calibration) -> None:
        """Update the table, or print progress if the last line is QUIET_SECONDS ago."""
        if self._live:
            self._live.update(_table(active, self._left(active, waiting, calibration)))
        elif time.monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = time.monotonic()
            for work in active:
                self.say("  ".join(_cells(work)).rstrip())
            self.say(self._left(active, waiting, calibration))

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the table."""
        if self._live:
            self._live.stop()

    def _left(self, active: Sequence[Work], waiting: Sequence[CohortPlan], calibration: Calibration) -> str:
        left = time_left(active, waiting, self._workers, calibration)
        count = f"{len(waiting)} cohort{'s' if len(waiting) != 1 else ''} waiting"
        if left is None:
            return f"{count}; the time left is not known yet"
        return f"{count}; about {duration(left.seconds)} left in total ({left.basis.value})"


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


def _cells(work: Work) -> list[str]:
    runs, left = work.cohort.runs, work.seconds_left()
    return [
        f"{runs[0].env} x {len(runs)} runs",
        f"cohort {work.cohort.id[:8]}",
        f"step {work.steps:,} of {work.cohort.steps:,}",
        work.state(),
        "" if work.last_return is None else f"return {work.last_return:,.1f}",
        "" if left is None else f"{duration(left)} left",
    ]


def _table(active: Sequence[Work], left: str) -> Table:
    table = Table("worker", "cohort", "step", "speed", "last return", "time left", caption=left)
    for work in active:
        table.add_row(*_cells(work))
    return table
