"""Cohorts on this machine: one worker process per core, the longest cohort first."""

from __future__ import annotations

import contextlib
import json
import math
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sac_bench.errors import one_line
from sac_bench.execution.guardian import GRACE_SECONDS
from sac_bench.execution.machine import cache_folder, cores
from sac_bench.execution.plan import CohortPlan, Plan
from sac_bench.execution.progress import Display
from sac_bench.store import locks
from sac_bench.store.store import ENDED, Store, has_raised, standing_at

RATE_MEMORY_SECONDS = 20.0
KILL_SECONDS = 5.0
"""For a guardian to kill its worker, before it is killed itself."""
RESTARTS = 2
NO_RESTART = 2
"""A worker's exit code when starting it again would not help (execution/worker.py, which takes long to import)."""


@dataclass
class Work:
    """A cohort being trained, as its worker tells it."""

    cohort: CohortPlan
    process: subprocess.Popen[str]
    """The worker's guardian, which ends as the worker does."""
    log_begins: int
    reported: float | None = None
    steps: int = 0
    saved: int | None = None
    """Steps at the last segment saved since this process began."""
    error: str | None = None
    """Why it gives up, if it said so."""
    last_return: float | None = None
    rate: float = 0.0
    """Transitions per second of all members together; 0 until known."""

    def told(self, event: dict[str, Any]) -> None:
        """Take in a report. The rate is an average that forgets: the first steps are fast or compile."""
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
        """By its own rate once it has one, else by the plan's."""
        left = (self.cohort.steps - self.steps) * len(self.cohort.runs)
        return left / self.rate if self.rate else self.cohort.seconds


class Engine:
    """Trains every cohort of a plan: `run`, once.

    A cohort that another process trains is left to it, and taken over where that process ends too early. A worker
    that dies is started again from its last segment, up to RESTARTS times in a row without saving a segment, and once
    where it raises the same again.
    """

    def __init__(
        self, plan: Plan, store: Store, *, device: str, workers: int, imports: Sequence[str] = (), display: Display
    ) -> None:
        self._waiting = list(plan.cohorts)
        self._active: list[Work] = []
        self._deaths: Counter[str] = Counter()
        self._errors: dict[str, str] = {}  # what a cohort's worker raised last
        self._told_to_wait = False
        self._events: queue.Queue[tuple[Work, dict[str, Any] | None]] = queue.Queue()
        self._store, self._device, self._workers = store, device, workers
        self._imports, self._display = imports, display

    def run(self) -> None:
        """Train. KeyboardInterrupt stops the workers, a second one at once."""
        try:
            while self._waiting or self._active:
                self._start_workers()
                self._display.show(self._active, self._waiting)
                with contextlib.suppress(queue.Empty):
                    self._heard(*self._events.get(timeout=1.0))
        except KeyboardInterrupt:
            with contextlib.suppress(OSError):  # the terminal may be what is gone
                self._display.say("stopping; once more stops at once")
            for work in self._active:
                work.process.terminate()  # a worker that is saving does that first
            deadline = time.monotonic() + GRACE_SECONDS
            for work in self._active:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    work.process.wait(max(0.0, deadline - time.monotonic()))
            raise
        finally:
            for work in self._active:
                work.process.send_signal(signal.SIGINT)  # its guardian kills it, and what it has started
            for work in self._active:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    work.process.wait(KILL_SECONDS)
                _end_group(work.process)
            with contextlib.suppress(OSError):
                self._display.close()

    def _start_workers(self) -> None:
        """Start what waits, as far as there are workers; drop what others have finished meanwhile."""
        for cohort in list(self._waiting):
            if len(self._active) == self._workers:
                return
            if (lock := locks.take(self._store.cohort_lock(cohort.id))) is None:
                if not self._active and not self._told_to_wait:
                    self._told_to_wait = True
                    self._display.say("waiting for what another process trains")
                continue
            self._waiting.remove(cohort)
            with lock:  # the worker inherits it, and so holds it for as long as it lives
                if self._ended(cohort):
                    self._display.say(f"trained by another process: {_names(cohort)}")
                else:
                    self._start(cohort, lock.fileno())

    def _ended(self, cohort: CohortPlan) -> bool:
        """Whether all of a cohort has, but for runs that were trained again in another."""
        statuses = [self._store.run(spec.id).status() for spec in cohort.runs]
        own = [status for status in statuses if status.get("cohort") == cohort.id and not has_raised(status)]
        return all(status["status"] in ENDED and standing_at(status, cohort.steps) in ENDED for status in own)

    def _start(self, cohort: CohortPlan, lock: int) -> None:
        threads = 1 if self._device == "cpu" else cores()
        command = [sys.executable, "-m", "sac_bench.execution.guardian", str(os.getpid()), str(self._store.root)]
        command += [cohort.id, str(cohort.steps), "--device", self._device, "--threads", str(threads)]
        command += [part for module in self._imports for part in ("--import", module)]
        environment = os.environ | {
            "TORCHINDUCTOR_CACHE_DIR": str(cache_folder()),
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "PYTHONPATH": os.pathsep.join([os.getcwd(), *(p for p in sys.path if p)]),  # --import finds what we find
            "PYTHONUNBUFFERED": "1",
            "PYTHONIOENCODING": "utf-8:backslashreplace",  # what an environment prints ends no worker
        }
        with open(self._log(cohort), "a", encoding="utf-8") as log:
            begins = log.tell()
            process = subprocess.Popen(
                command,
                stdout=subprocess.PIPE,
                stderr=log,
                stdin=subprocess.DEVNULL,
                env=environment,
                encoding="utf-8",
                start_new_session=True,
                pass_fds=[lock],
            )
        work = Work(cohort, process, begins)
        self._active.append(work)
        threading.Thread(target=_listen, args=(work, self._events), daemon=True).start()
        threading.Thread(target=_outlive, args=(process,), daemon=True).start()

    def _heard(self, work: Work, event: dict[str, Any] | None) -> None:
        if event is not None:
            work.told(event)
            return
        self._active.remove(work)
        code = work.process.wait()
        if work.saved is not None:
            self._deaths[work.cohort.id] = 0
            self._errors.pop(work.cohort.id, None)
        if code == 0:
            self._say_trained(work)
        elif code != NO_RESTART and self._deaths[work.cohort.id] < RESTARTS and not self._raises_again(work):
            self._deaths[work.cohort.id] += 1
            self._waiting.insert(0, work.cohort)
            self._display.say(
                f"{_names(work.cohort)}: worker {self._why(work)[0]}; starts again from its last segment "
                f"({self._deaths[work.cohort.id]} of {RESTARTS} times)"
            )
        else:
            self._fail(work)

    def _raises_again(self, work: Work) -> bool:
        """Whether a worker raised what the one before it had raised at the same segment."""
        before = self._errors.get(work.cohort.id)
        if work.error is not None:
            self._errors[work.cohort.id] = work.error
        return work.error is not None and work.error == before

    def _say_trained(self, work: Work) -> None:
        ended = [self._store.run(spec.id).status() for spec in work.cohort.runs]
        diverged = sum(status["status"] == "diverged" for status in ended)
        reasons = Counter(status["reason"] for status in ended if has_raised(status))
        words = f"; {diverged} diverged" if diverged else ""
        words += f"; {reasons.total()} failed" if reasons else ""
        self._display.say(f"trained {_names(work.cohort)} to {work.cohort.steps} steps{words}")
        for reason, count in reasons.items():
            self._display.say(
                f"failed: {_runs(count)} of cohort {work.cohort.id}: {reason} (log: {self._log(work.cohort)})"
            )

    def _fail(self, work: Work) -> None:
        reason, log = self._why(work)
        with (
            contextlib.suppress(OSError),  # the disk may be what failed
            locks.take(self._store.cohort_lock(work.cohort.id)) or contextlib.nullcontext() as claim,
        ):
            for run in (self._store.run(spec.id) for spec in work.cohort.runs):
                status = run.status()
                mine = claim and status.get("cohort") == work.cohort.id  # else another process has taken over
                over = standing_at(status, work.cohort.steps) in (*ENDED, "damaged") or has_raised(status)
                if mine and not over:
                    run.update(status="failed", reason=reason)
                    run.log("failed; the end of the worker's log:\n" + log)
        self._display.say(f"failed: {_names(work.cohort)}: {reason} (log: {self._log(work.cohort)})")

    def _why(self, work: Work) -> tuple[str, str]:
        """Why a worker died, in a line, and the end of its log."""
        log = self._log(work.cohort)
        told = log.read_bytes()[work.log_begins :].decode(errors="replace") if log.exists() else ""
        lines = told.strip().splitlines()
        code = work.process.returncode
        reason = work.error or (_exception(lines) if lines and code > 0 else f"exit code {code}")
        if code < 0:
            known = {number.value: number.name for number in signal.Signals}
            reason = f"killed by {known.get(-code, f'signal {-code}')}"
        return reason, "\n".join(lines[-20:])

    def _log(self, cohort: CohortPlan) -> Path:
        return self._store.cohort(cohort.id) / "log.txt"


def _listen(work: Work, events: queue.Queue[tuple[Work, dict[str, Any] | None]]) -> None:
    assert work.process.stdout is not None
    try:
        for line in work.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # a line cut by a kill
                events.put((work, json.loads(line)))
    finally:
        events.put((work, None))


def _outlive(process: subprocess.Popen[str]) -> None:
    """End what is left of a worker's process group: it may hold the pipe that `_listen` reads."""
    process.wait()
    _end_group(process)


def _end_group(process: subprocess.Popen[str]) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def _exception(lines: Sequence[str]) -> str:
    """The exception that a log ends with, its name and all of its message in one line; or else the last line."""
    traces = [at for at, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if not traces:
        return lines[-1]
    after = lines[traces[-1] + 1 :]
    first = next((at for at, line in enumerate(after) if not line.startswith(" ")), len(after) - 1)
    return one_line(" ".join(" ".join(after[first:]).split()))


def _runs(count: int) -> str:
    return f"{count} run{'s' if count > 1 else ''}"


def _names(cohort: CohortPlan) -> str:
    return f"{_runs(len(cohort.runs))} on {cohort.runs[0].env} (cohort {cohort.id})"
