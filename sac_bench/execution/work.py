"""A cohort being trained, as its worker reports it."""

from __future__ import annotations

import math
import subprocess
import time
from dataclasses import dataclass
from typing import Any

from sac_bench.execution.plan import CohortPlan

RATE_MEMORY_SECONDS = 20.0


@dataclass
class Work:
    """A cohort and the process that trains it."""

    cohort: CohortPlan
    process: subprocess.Popen[str]
    """The worker's guardian, which ends when the worker does."""
    log_start: int
    """Offset in bytes at which this process's part of the log starts."""
    reported: float | None = None
    steps: int = 0
    saved: int | None = None
    """Steps at the last segment that this process saved."""
    error: str | None = None
    """Why the worker gave up, if it reported a reason."""
    last_return: float | None = None
    rate: float = 0.0
    """Transitions per second of all members together; 0 until known."""

    def update(self, event: dict[str, Any]) -> None:
        """Take in a report. The rate is a moving average, because the first steps are fast or compile."""
        if "error" in event:
            self.error = event["error"]
            return
        now, since = time.monotonic(), self.reported
        if since is not None and event["steps"] > self.steps and now - since > 0.2:
            rate = (event["steps"] - self.steps) * len(self.cohort.runs) / (now - since)
            share = 1 - math.exp(-(now - since) / RATE_MEMORY_SECONDS)
            self.rate = rate if not self.rate else self.rate + share * (rate - self.rate)
        self.steps, self.reported = event["steps"], now
        self.saved = event.get("saved", self.saved)
        if event["last_return"] is not None:
            self.last_return = event["last_return"]

    def seconds_left(self) -> float:
        """Return the remaining time by the measured rate, or by the plan's estimate until there is one."""
        left = (self.cohort.steps - self.steps) * len(self.cohort.runs)
        return left / self.rate if self.rate else self.cohort.seconds
