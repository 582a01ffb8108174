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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sac_bench.execution.machine import cache_folder, cores
from sac_bench.execution.plan import CohortPlan, Plan
from sac_bench.execution.progress import Display
from sac_bench.store import Store

RATE_MEMORY_SECONDS = 20.0


@dataclass
class Work:
    """A cohort being trained, as its worker tells it."""

    cohort: CohortPlan
    process: subprocess.Popen[str]
    log_begins: int
    reported: float | None = None
    steps: int = 0
    last_return: float | None = None
    rate: float = 0.0
    """Transitions per second of all members together; 0 until known."""

    def told(self, event: dict[str, Any]) -> None:
        """Take in a report. The rate is an average that forgets: the first steps are fast or compile."""
        now, since = time.monotonic(), self.reported
        if since is not None and event["steps"] > self.steps and now - since > 0.2:
            rate = (event["steps"] - self.steps) * len(self.cohort.runs) / (now - since)
            share = 1 - math.exp(-(now - since) / RATE_MEMORY_SECONDS)
            self.rate = rate if not self.rate else self.rate + share * (rate - self.rate)
        self.steps, self.reported = event["steps"], now
        if event["last_return"] is not None:
            self.last_return = event["last_return"]

    def seconds_left(self) -> float:
        """By its own rate once it has one, else by the plan's."""
        left = (self.cohort.steps - self.steps) * len(self.cohort.runs)
        return left / self.rate if self.rate else self.cohort.seconds


def train(
    plan: Plan,
    store: Store,
    *,
    device: str,
    workers: int,
    keep_replay: bool = False,
    imports: Sequence[str] = (),
    display: Display,
) -> int:
    """Train every cohort of a plan; the number of runs that failed.

    KeyboardInterrupt stops the workers; each continues from its last saved segment next time.
    """
    waiting = list(plan.cohorts)
    events: queue.Queue[tuple[Work, dict[str, Any] | None]] = queue.Queue()
    active: list[Work] = []
    failed = 0
    try:
        while waiting or active:
            while waiting and len(active) < workers:
                work = _start(waiting.pop(0), store, device, keep_replay, imports)
                active.append(work)
                threading.Thread(target=_listen, args=(work, events), daemon=True).start()
            display.show(active, waiting)
            try:
                work, event = events.get(timeout=1.0)
            except queue.Empty:
                continue
            if event is not None:
                work.told(event)
                continue
            active.remove(work)
            if work.process.wait() == 0:
                ended = [store.run(spec.id).status()["status"] for spec in work.cohort.runs]
                diverged = f"; {ended.count('diverged')} diverged" if "diverged" in ended else ""
                display.say(f"trained {_names(work.cohort)} to {work.cohort.steps} steps{diverged}")
            else:
                failed += len(work.cohort.runs)
                _mark_failed(work, store, display)
    except KeyboardInterrupt:
        _kill(active)
        for cohort in [*waiting, *(work.cohort for work in active)]:
            for run in (store.run(spec.id) for spec in cohort.runs):
                if run.status()["status"] in ("queued", "running"):
                    run.update(status="interrupted")
        raise
    finally:
        _kill(active)
        display.close()
    return failed


def _kill(active: Sequence[Work]) -> None:
    """End workers at once: what they have saved is whole, the rest is lost in any case."""
    for work in active:
        work.process.kill()
        work.process.wait()


def _start(cohort: CohortPlan, store: Store, device: str, keep_replay: bool, imports: Sequence[str]) -> Work:
    folder = store.cohort(cohort.id)
    threads = 1 if device == "cpu" else cores()
    command = [sys.executable, "-m", "sac_bench.execution.worker", str(store.root), cohort.id]
    command += ["--device", device, "--threads", str(threads), *(["--keep-replay"] if keep_replay else [])]
    command += [part for module in imports for part in ("--import", module)]
    environment = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(cache_folder()),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([os.getcwd(), *(p for p in sys.path if p)]),  # --import finds what we find
        "PYTHONUNBUFFERED": "1",
    }
    with open(folder / "log.txt", "a") as log:
        begins = log.tell()
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, stdin=subprocess.DEVNULL,
                                   env=environment, text=True, start_new_session=True)  # fmt: skip
    return Work(cohort, process, begins)


def _listen(work: Work, events: queue.Queue[tuple[Work, dict[str, Any] | None]]) -> None:
    assert work.process.stdout is not None
    try:
        for line in work.process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # a line cut by a kill
                events.put((work, json.loads(line)))
    finally:
        events.put((work, None))


def _mark_failed(work: Work, store: Store, display: Display) -> None:
    log = (store.cohort(work.cohort.id) / "log.txt").read_bytes()[work.log_begins :].decode(errors="replace")
    lines, code = log.strip().splitlines(), work.process.returncode
    reason = lines[-1] if lines and code > 0 else f"exit code {code}"
    if code < 0:
        reason = f"killed by {signal.Signals(-code).name}"
    for spec in work.cohort.runs:
        run = store.run(spec.id)
        if run.status()["status"] not in ("diverged", "finished"):
            run.update(status="failed", reason=reason)
            run.log("failed; the end of the worker's log:\n" + "\n".join(lines[-20:]))
    display.say(f"failed: {_names(work.cohort)}: {reason} (log: {store.cohort(work.cohort.id) / 'log.txt'})")


def _names(cohort: CohortPlan) -> str:
    count = len(cohort.runs)
    return f"{count} run{'s' if count > 1 else ''} on {cohort.runs[0].env} (cohort {cohort.id})"
