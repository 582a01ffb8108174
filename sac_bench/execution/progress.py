"""Shows the progress of training: a live table on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.console import Console
from rich.live import Live
from rich.table import Table

from sac_bench.execution.cost import duration
from sac_bench.execution.plan import CohortPlan
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

    def show(self, active: Sequence[Work], waiting: Sequence[CohortPlan]) -> None:
        """Update the table, or print progress if the last line is QUIET_SECONDS ago."""
        left = _time_left(active, waiting, self._workers)
        if self._live:
            self._live.update(_table(active, len(waiting), left))
        elif time.monotonic() - self._last_line > QUIET_SECONDS:
            self._last_line = time.monotonic()
            for work in active:
                self.say("  ".join(_cells(work)).rstrip())
            self.say(f"{len(waiting)} cohorts waiting, about {duration(left)} left in total")

    def say(self, line: str) -> None:
        """Print a line that stays."""
        self._console.print(line, highlight=False, soft_wrap=True)

    def close(self) -> None:
        """Remove the table."""
        if self._live:
            self._live.stop()


def _time_left(active: Sequence[Work], waiting: Sequence[CohortPlan], workers: int) -> float:
    loads = sorted([work.seconds_left() for work in active] + [0.0] * (workers - len(active)))
    for cohort in waiting:
        loads[0] += cohort.seconds
        loads.sort()
    return loads[-1] if loads else 0.0


def _cells(work: Work) -> list[str]:
    runs = work.cohort.runs
    if not work.rate:
        speed, left = "starting", ""
    else:
        speed, left = f"{work.rate:,.0f} steps/s", f"{duration(work.seconds_left())} left"
    last = "" if work.last_return is None else f"return {work.last_return:,.1f}"
    return [
        f"{runs[0].env} x {len(runs)} runs",
        f"cohort {work.cohort.id[:8]}",
        f"step {work.steps:,} of {work.cohort.steps:,}",
        speed,
        last,
        left,
    ]


def _table(active: Sequence[Work], waiting: int, left: float) -> Table:
    table = Table(
        "worker",
        "cohort",
        "step",
        "speed",
        "last return",
        "time left",
        caption=f"{waiting} cohorts waiting, about {duration(left)} left in total",
    )
    for work in active:
        table.add_row(*_cells(work))
    return table
