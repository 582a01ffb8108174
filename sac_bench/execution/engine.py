"""Trains a plan's cohorts in worker processes, here or elsewhere (execution/launch.py), the longest cohort first."""

from __future__ import annotations

import contextlib
import math
import queue
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sac_bench.errors import InputError, counted, one_line
from sac_bench.execution.budget import LeftToOthers, OutOfTime, OverBudget, TimeLimit
from sac_bench.execution.calibration import Basis, Calibration, Estimate, measurements
from sac_bench.execution.cost import duration
from sac_bench.execution.display import Display
from sac_bench.execution.guardian import GRACE_SECONDS
from sac_bench.execution.launch import HERE, LOST, NO_RESTART, OUT_OF_TIME, TAKEN_OVER, Job, Launcher, Refused
from sac_bench.execution.plan import CohortPlan, Plan
from sac_bench.execution.progress import Progress, progress, time_left
from sac_bench.execution.work import State, Work, has_ended
from sac_bench.store import locks
from sac_bench.store.status import ENDED, exploded_at, has_raised, standing_at
from sac_bench.store.store import Store

MAX_RESTARTS = 2
MAX_LOSSES = 20
"""The most machines in a row that may be lost before a cohort saves a segment."""
Projected = Callable[[Estimate], None]
"""What is done with the time until all cohorts end, once every running cohort has a measured rate."""
NO_LIMIT = TimeLimit()
MAX_NAMED_VARIANTS = 3
"""The most variants of a cohort that a line names."""
EVENT_SECONDS = 1.0
"""Time to wait for a report before cohorts are looked for again."""
OTHERS_SECONDS = locks.LEASE_SECONDS * (1 + 1 / locks.RENEWALS_PER_LEASE)
"""Time for which cohorts must be held before it is certain that living processes train them: a lease and a beat."""
USABLE_SHARE = 0.9
"""Share of a time limit that is left once a command has started and planned."""


class Engine:
    """Trains every cohort of a plan. Call `run` once.

    A cohort that another process trains is left to that process, and taken over if it ends too early. A worker that
    dies is restarted from its last segment, up to MAX_RESTARTS times in a row without saving a segment. A worker that
    raises the same exception twice at one segment is not restarted again. A worker whose machine is lost does not count
    as dead: its cohort continues elsewhere, up to MAX_LOSSES times in a row without saving a segment.

    `projected` is called at most once; it may raise OverBudget to stop the training. The launcher starts the workers.
    Each worker sees one of `gpus`, if there are any. Once `limit` leaves no time for a cohort's next segment, the
    cohort is postponed. Unless it `waits`, it ends once it is certain that other processes train all that is left.
    """

    def __init__(
        self,
        plan: Plan,
        store: Store,
        *,
        device: str,
        workers: int,
        imports: Sequence[str] = (),
        display: Display,
        projected: Projected = lambda _: None,
        gpus: Sequence[str] = (),
        limit: TimeLimit = NO_LIMIT,
        waits: bool = True,
        launcher: Launcher = HERE,
    ) -> None:
        self._plan, self._began = plan, time.monotonic()
        self._ended: dict[str, State] = {}  # by cohort
        self._steps = {cohort.id: cohort.done for cohort in plan.cohorts}
        self._returns: dict[str, dict[int, float]] = {}  # by run and steps
        self._waiting = list(plan.cohorts)
        self._postponed: list[CohortPlan] = []
        self._gpus, self._limit, self._waits = gpus, limit, waits
        self._hopeless: dict[str, str] = {}  # by cohort: why no time limit of this length is enough
        self._held_since: float | None = None  # since when other processes have held all that is left
        self._active: list[Work] = []
        self._deaths: Counter[str] = Counter()
        self._losses: Counter[str] = Counter()
        self._errors: dict[str, str] = {}  # by cohort: what its worker raised last
        self._waiting_reported = False
        self._projected: Projected | None = projected
        self._events: queue.Queue[tuple[Work, dict[str, Any] | None]] = queue.Queue()
        self._store, self._device, self._workers = store, device, workers
        self._imports, self._display, self._launcher = imports, display, launcher
        envs = {cohort.runs[0].env for cohort in plan.cohorts}
        self._measured = measurements(store, envs, launcher.machine(device))
        self._calibration = Calibration(self._measured.values())

    def run(self) -> None:
        """Train. KeyboardInterrupt stops the workers after they have saved; a second one stops them at once.

        Raises OverBudget if `projected` does and Refused if a worker's machine cannot be used, after the workers have
        saved, OutOfTime at the end if cohorts were postponed, InputError if the same time limit would never be enough
        for any of them, and otherwise LeftToOthers if it does not wait for the other processes that train what is left.
        """
        try:
            while self._waiting or self._active:
                self._start_workers()
                if not self._waits and self._is_left_to_others():
                    break
                self._display.show(time.monotonic() - self._began, self._progress)
                self._project()
                with contextlib.suppress(queue.Empty):
                    self._handle(*self._events.get(timeout=EVENT_SECONDS))
            if self._postponed and all(cohort.id in self._hopeless for cohort in self._postponed):
                raise InputError(next(iter(self._hopeless.values())))
            if self._postponed:
                raise OutOfTime
            if self._waiting:
                raise LeftToOthers
        except (KeyboardInterrupt, OverBudget, Refused):
            with contextlib.suppress(OSError):  # the terminal may be gone
                self._display.say("stopping; press Ctrl-C again to stop at once")
            for work in self._active:
                work.process.stop()  # a worker that is saving finishes first
            deadline = time.monotonic() + GRACE_SECONDS
            for work in self._active:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    work.process.wait(max(0.0, deadline - time.monotonic()))
            raise
        finally:
            for work in self._active:
                work.process.kill()
            for work in self._active:
                work.process.close()
                work.lock.close()
            self._leave()
            with contextlib.suppress(OSError):
                self._display.finish(self._progress)
                self._display.close()

    def _leave(self) -> None:
        """Note that cohorts that have not ended are left for later."""
        for work in self._active:
            self._ended[work.cohort.id] = replace(work.state(), phase="left for later", rate=None)
        for cohort in self._waiting:
            self._end(cohort, "left for later")
        self._active, self._waiting = [], []

    def _progress(self) -> Progress:
        """Return where all cohorts stand."""
        working = {work.cohort.id: work.state() for work in self._active}
        states = [
            self._ended.get(cohort.id) or working.get(cohort.id) or State(cohort, "waiting", self._steps[cohort.id])
            for cohort in self._plan.cohorts
        ]
        elapsed, left = time.monotonic() - self._began, self._time_left()
        return progress(states, self._plan.names, self._returns, elapsed, left)

    def _time_left(self) -> Estimate | None:
        return time_left(self._active, self._waiting, self._room(), self._calibration)

    def _room(self) -> int:
        """Return how many workers may run at once."""
        return self._launcher.places() or self._workers

    def _end(self, cohort: CohortPlan, phase: str, failed: Iterable[str] = ()) -> None:
        """Note that a cohort is not trained any more."""
        self._ended[cohort.id] = State(cohort, phase, self._steps[cohort.id], failed=frozenset(failed))

    def _project(self) -> None:
        """Pass on the time left, once every running cohort has a measured rate."""
        if self._projected is None or not self._active or not all(work.measured for work in self._active):
            return
        projected, self._projected = self._projected, None
        if left := self._time_left():
            projected(left)

    def _start_workers(self) -> None:
        """Start waiting cohorts while there are free workers; drop those that other processes have finished."""
        for cohort in list(self._waiting):
            if len(self._active) >= self._room():
                return
            if not self._has_time(cohort):
                self._waiting.remove(cohort)
                self._postpone(cohort)
                continue
            if (lock := self._store.take_cohort(cohort.id)) is None:
                if not self._active and not self._waiting_reported and self._waits:
                    self._waiting_reported = True
                    self._display.say("waiting for cohorts that another process trains")
                continue
            self._waiting.remove(cohort)
            with contextlib.ExitStack() as stack:
                stack.enter_context(lock)
                if has_ended(cohort, self._store):
                    self._end(cohort, "finished")
                    self._display.say(f"trained by another process: {self._names(cohort)}")
                else:
                    self._start(cohort, lock)
                    stack.pop_all()  # the lock is that of the worker now

    def _postpone(self, cohort: CohortPlan) -> None:
        self._postponed.append(cohort)
        self._end(cohort, "left for later")

    def _is_left_to_others(self) -> bool:
        """Return whether living processes train all that is left: nothing could be started for OTHERS_SECONDS.

        A lease of a lost machine looks alive until then.
        """
        now = self._limit.clock()
        if self._active or not self._waiting or self._held_since is None:
            self._held_since = now
        return now - self._held_since > OTHERS_SECONDS

    def _has_time(self, cohort: CohortPlan) -> bool:
        """Return whether a cohort can start and train its next segment within the limit, as far as is known.

        A rough estimate that is too long for any limit of this length is tried.
        """
        if math.isinf(self._limit.left):
            return True
        every = cohort.runs[0].config.eval_every
        segment = replace(cohort, steps=min(cohort.steps, cohort.done + every))
        estimate = self._calibration.estimate(segment)
        if estimate.seconds <= self._limit.left:
            return True
        if self._limit.left <= 0 or estimate.seconds <= USABLE_SHARE * self._limit.whole:
            return False
        if estimate.basis is not Basis.MEASURED:
            return True
        self._hopeless[cohort.id] = (
            f"{self._names(cohort)}: a start and {every} steps (eval_every) take about {duration(estimate.seconds)} "
            f"here, which is too long for --until; raise --until above {duration(estimate.seconds / USABLE_SHARE)}"
        )
        return False

    def _start(self, cohort: CohortPlan, lock: locks.Held) -> None:
        gpu = min(self._gpus, key=[work.gpu for work in self._active].count, default=None)
        log = self._log(cohort)
        log_start = log.stat().st_size if log.exists() else 0
        job = Job(self._store, cohort, lock, log, self._device, self._workers, self._imports, self._limit, gpu)
        work = Work(cohort, self._launcher.start(job), log_start, lock, gpu)
        self._active.append(work)
        threading.Thread(target=_listen, args=(work, self._events), daemon=True).start()

    def _handle(self, work: Work, event: dict[str, Any] | None) -> None:
        if event is not None:
            if "refused" in event:
                raise Refused(event["refused"])
            work.update(event)
            self._steps[work.cohort.id] = work.rest().done
            for run_id, value in event.get("returns", {}).items():
                self._returns.setdefault(run_id, {})[work.steps] = value
            if event.get("speed") and work.measured:
                self._measured[work.cohort.id] = work.measured
                self._calibration = Calibration(self._measured.values())
            return
        self._active.remove(work)
        code = work.process.wait()
        work.lock.close()
        if work.saved is not None:
            self._deaths[work.cohort.id] = self._losses[work.cohort.id] = 0
            self._errors.pop(work.cohort.id, None)
        if code == 0:
            self._report_trained(work)
        elif code == OUT_OF_TIME:
            self._postpone(work.cohort)
            self._display.say(f"no time for another segment: {self._names(work.cohort)}, at {work.steps:,} steps")
        elif code == TAKEN_OVER:
            self._waiting.append(work.cohort)
            self._display.say(f"{self._names(work.cohort)}: {self._reason_and_log(work)[0]}")
        elif code == LOST:
            self._replace(work)
        elif code != NO_RESTART and self._deaths[work.cohort.id] < MAX_RESTARTS and not self._raised_again(work):
            self._deaths[work.cohort.id] += 1
            self._waiting.insert(0, work.cohort)
            self._display.say(
                f"{self._names(work.cohort)}: worker {self._reason_and_log(work)[0]}; restarted from its last segment "
                f"({self._deaths[work.cohort.id]} of {MAX_RESTARTS} times)"
            )
        else:
            self._fail(work)

    def _replace(self, work: Work) -> None:
        """Continue a cohort whose machine is lost; fail it after MAX_LOSSES in a row."""
        self._losses[work.cohort.id] += 1
        if (lost := self._losses[work.cohort.id]) > MAX_LOSSES:
            work.error = (
                f"{lost} machines in a row were lost before a segment was saved, the last: {work.error}; choose a "
                "shorter eval_every, or machines that last longer"
            )
            self._fail(work)
            return
        self._waiting.insert(0, work.cohort)
        again = f" ({lost} in a row)" if lost > 1 else ""
        self._display.say(
            f"{self._names(work.cohort)}: {work.error}{again}; continues from its last segment where there is room "
            "(not counted as a crash)"
        )

    def _raised_again(self, work: Work) -> bool:
        """Return whether a worker raised what the worker before it had raised at the same segment."""
        previous = self._errors.get(work.cohort.id)
        if work.error is not None:
            self._errors[work.cohort.id] = work.error
        return work.error is not None and work.error == previous

    def _report_trained(self, work: Work) -> None:
        ended = [self._store.run(spec.id).status() for spec in work.cohort.runs]
        exploded = sum(exploded_at(status, work.cohort.steps) is not None for status in ended)
        diverged = sum(status["status"] == "diverged" for status in ended)
        reasons = Counter(status["reason"] for status in ended if has_raised(status))
        counts = f"; {diverged} diverged" if diverged else ""
        counts += f"; {exploded} exploded" if exploded else ""
        counts += f"; {reasons.total()} failed" if reasons else ""
        failed = [run.id for run, status in zip(work.cohort.runs, ended, strict=True) if has_raised(status)]
        self._end(work.cohort, "finished", failed)
        self._display.say(f"trained {self._names(work.cohort)} to {work.cohort.steps:,} steps{counts}")
        for reason, count in reasons.items():
            of = self._names(work.cohort)
            self._display.say(f"failed: {count} of {of}: {reason} (log: {self._log(work.cohort)})")

    def _fail(self, work: Work) -> None:
        reason, log = self._reason_and_log(work)
        with (
            contextlib.suppress(OSError),  # the disk may have failed
            self._store.take_cohort(work.cohort.id) or contextlib.nullcontext() as lock,
        ):
            for run in (self._store.run(spec.id) for spec in work.cohort.runs):
                status = run.status()
                own = lock and status.get("cohort") == work.cohort.id  # otherwise another process has taken over
                ended = standing_at(status, work.cohort.steps) in (*ENDED, "damaged") or has_raised(status)
                if own and not ended:
                    run.update(status="failed", reason=reason)
                    run.log("failed; the end of the worker's log:\n" + log)
        self._end(work.cohort, "failed")
        self._display.say(f"failed: {self._names(work.cohort)}: {reason} (log: {self._log(work.cohort)})")

    def _reason_and_log(self, work: Work) -> tuple[str, str]:
        """Return why a worker died, in one line, and the last lines of its log."""
        log = self._log(work.cohort)
        text = log.read_bytes()[work.log_start :].decode(errors="replace") if log.exists() else ""
        lines = text.strip().splitlines()
        code = work.process.wait()
        reason = work.error or (_exception(lines) if lines and code > 0 else f"exit code {code}")
        if code < 0:
            names = {number.value: number.name for number in signal.Signals}
            reason = f"killed by {names.get(-code, f'signal {-code}')}"
        return reason, "\n".join(lines[-20:])

    def _names(self, cohort: CohortPlan) -> str:
        """Return a cohort's runs by their variants: "6 runs on Hopper-v5 (sac, one-q and 3 others)"."""
        variants = list(dict.fromkeys(self._plan.names.get(spec.id, spec.algorithm) for spec in cohort.runs))
        named = ", ".join(variants[:MAX_NAMED_VARIANTS])
        others = (
            f" and {counted(len(variants) - MAX_NAMED_VARIANTS, 'other')}" if len(variants) > MAX_NAMED_VARIANTS else ""
        )
        return f"{counted(len(cohort.runs), 'run')} on {cohort.runs[0].env} ({named}{others})"

    def _log(self, cohort: CohortPlan) -> Path:
        return self._store.cohort(cohort.id) / "log.txt"


def _listen(work: Work, events: queue.Queue[tuple[Work, dict[str, Any] | None]]) -> None:
    try:
        for report in work.process.reports():
            events.put((work, report))
    finally:
        events.put((work, None))


def _exception(lines: Sequence[str]) -> str:
    """Return name and message, in one line, of the exception that a log ends with; the last line if there is none."""
    traces = [at for at, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if not traces:
        return lines[-1]
    after = lines[traces[-1] + 1 :]
    first = next((at for at, line in enumerate(after) if not line.startswith(" ")), len(after) - 1)
    return one_line(" ".join(" ".join(after[first:]).split()))
