"""A cohort being trained, as its worker reports it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any

from sac_bench.execution.calibration import Measurement, measured
from sac_bench.execution.launch import WorkerProcess
from sac_bench.execution.plan import CohortPlan
from sac_bench.store.locks import Held
from sac_bench.store.status import ENDED, has_raised, standing_at
from sac_bench.store.store import Store


@dataclass(frozen=True)
class State:
    """A cohort as it stands."""

    cohort: CohortPlan
    phase: str
    """"waiting"; "starting", "compiling" or "training" in a worker; "finished", "failed" or "left for later" after."""
    steps: int
    """Transitions per run so far."""
    rate: float | None = None
    """Transitions per second of all its runs together, if that is measured."""
    seconds: float = 0.0
    """Time in this phase."""
    failed: frozenset[str] = frozenset()
    """Ids of runs that failed although the cohort has ended."""

    def phase_of(self, run_id: str) -> str:
        """Return the phase of one of its runs."""
        return "failed" if run_id in self.failed else self.phase


def has_ended(cohort: CohortPlan, store: Store) -> bool:
    """Return whether all runs of a cohort have ended, except those that were trained again in another cohort."""
    statuses = [store.run(spec.id).status() for spec in cohort.runs]
    own = [status for status in statuses if status.get("cohort") == cohort.id and not has_raised(status)]
    return all(status["status"] in ENDED and standing_at(status, cohort.steps) in ENDED for status in own)


@dataclass
class Work:
    """A cohort and the process that trains it."""

    cohort: CohortPlan
    process: WorkerProcess
    log_start: int
    """Offset in bytes at which this process's part of the log starts."""
    lock: Held
    """The cohort's lock. A worker on this machine has inherited its files. The command renews its lease."""
    gpu: str | None = None
    """The only GPU that the worker sees, if it is given one."""
    phase: str = "starting"
    """"starting", "compiling", or "training" once the first updates are made."""
    since: float = field(default_factory=time.monotonic)
    """When the phase began, by time.monotonic()."""
    steps: int = 0
    saved: int | None = None
    """Steps at the last segment that this process saved."""
    error: str | None = None
    """Why the worker gave up, if it reported a reason."""
    measured: Measurement | None = None
    """How long its last segments took; None until one has ended after the first updates."""

    def update(self, event: dict[str, Any]) -> None:
        """Take in a report."""
        if "error" in event:
            self.error = event["error"]
            return
        if event["phase"] != self.phase:
            self.since = time.monotonic()
        self.steps, self.phase = event["steps"], event["phase"]
        self.saved = event.get("saved", self.saved)
        if event.get("speed"):
            self.measured = measured(event["speed"], self.cohort.runs[0])

    def state(self) -> State:
        """Return how the cohort stands."""
        rate = self.measured.rate if self.measured else None
        return State(self.cohort, self.phase, self.rest().done, rate, time.monotonic() - self.since)

    def rest(self) -> CohortPlan:
        """Return what is left of the cohort."""
        return replace(self.cohort, done=max(self.steps, self.cohort.done))

    def seconds_left(self) -> float | None:
        """Return the remaining time by its own rate; None until that is known."""
        return self.measured.ratio * self.rest().training_seconds if self.measured else None
