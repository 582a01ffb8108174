"""A cohort being trained, as its worker reports it."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass, replace
from typing import Any

from sac_bench.execution.calibration import Measurement, measured
from sac_bench.execution.plan import CohortPlan
from sac_bench.store.locks import Held


@dataclass
class Work:
    """A cohort and the process that trains it."""

    cohort: CohortPlan
    process: subprocess.Popen[str]
    """The worker's guardian, which ends when the worker does."""
    log_start: int
    """Offset in bytes at which this process's part of the log starts."""
    lock: Held
    """The cohort's lock. The worker has inherited its files, and the command renews its lease."""
    gpu: str | None = None
    """The only GPU that the worker sees, if it is given one."""
    phase: str = "starting"
    """"starting", "compiling", or "training" once the first updates are made."""
    steps: int = 0
    saved: int | None = None
    """Steps at the last segment that this process saved."""
    error: str | None = None
    """Why the worker gave up, if it reported a reason."""
    last_return: float | None = None
    measured: Measurement | None = None
    """How long its last segments took; None until one has ended after the first updates."""

    def update(self, event: dict[str, Any]) -> None:
        """Take in a report."""
        if "error" in event:
            self.error = event["error"]
            return
        self.steps, self.phase = event["steps"], event["phase"]
        self.saved = event.get("saved", self.saved)
        if event.get("speed"):
            self.measured = measured(event["speed"], self.cohort.runs[0])
        if event["last_return"] is not None:
            self.last_return = event["last_return"]

    def state(self) -> str:
        """Return what it does: "starting", "compiling", "measuring", or how fast it is."""
        if self.measured:
            return f"{self.measured.rate:,.0f} steps/s"
        return "measuring" if self.phase == "training" else self.phase

    def rest(self) -> CohortPlan:
        """Return what is left of the cohort."""
        return replace(self.cohort, done=max(self.steps, self.cohort.done))

    def seconds_left(self) -> float | None:
        """Return the remaining time by its own rate; None until that is known."""
        return self.measured.ratio * self.rest().training_seconds if self.measured else None
