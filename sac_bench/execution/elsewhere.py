"""The command's view of a worker on a machine without the results folder.

A `DistantProcess` sends a place (execution/place.py) what the cohort needs, and writes what comes back to the results
folder before it passes on the report. How calls reach the place is up to a `Connection` (execution/on_ray.py).
"""

from __future__ import annotations

import contextlib
import subprocess
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from sac_bench.errors import InputError, one_line
from sac_bench.execution.checkpoint import Damaged, TakenOver
from sac_bench.execution.copies import Original
from sac_bench.execution.launch import LOST, NO_RESTART, OUT_OF_TIME, STOPPED, TAKEN_OVER, Job, Order
from sac_bench.execution.place import News
from sac_bench.execution.versions import different, versions
from sac_bench.execution.work import has_ended
from sac_bench.store.atomic import STORAGE_FAULTS

CRASHED = 1
"""Exit code of a worker that failed."""
ROOM_SECONDS = 5.0
"""Time to wait for room before the time limit is looked at again."""


class Lost(Exception):
    """A place does not answer any more, and never will. The text is for the log."""


class Fault(Exception):
    """A method of a place has raised `cause`."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"{type(cause).__name__}: {cause}")
        self.cause = cause


class Connection(Protocol):
    """A way to a place."""

    def has_room(self, seconds: float) -> bool:
        """Wait up to so many seconds for room for the place, and return whether it is there."""
        ...

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the place and return what it returns. Raises Lost and Fault."""
        ...

    def tell(self, method: str) -> None:
        """Call a method without waiting for it. Nothing happens if the place is lost."""
        ...

    def end(self) -> None:
        """End the place's process at once."""
        ...


class DistantProcess:
    """A worker at a place, for the engine (WorkerProcess). `modules` are sent along: {path: content}."""

    def __init__(self, job: Job, threads: int, place: Connection, modules: Mapping[str, bytes]) -> None:
        self._job, self._threads, self._place, self._modules = job, threads, place, modules
        self._ended, self._runs, self._code = threading.Event(), False, LOST
        self._is_asked_to_stop = False
        self._machine = "a machine"  # until its name is known
        self._original: Original | None = None

    def reports(self) -> Iterator[dict[str, Any]]:
        """See WorkerProcess."""
        try:
            self._job.log.touch()
            yield from self._train_until_lost()
        except Exception as error:
            self._code, reason = _gave_up(error)
            yield {"error": reason}
        finally:
            self._place.end()
            self._ended.set()

    def _train_until_lost(self) -> Iterator[dict[str, Any]]:
        try:
            yield from self._train()
        except Lost as error:
            self._log(f"lost: {error}")
            if not self._has_ended():
                yield self._lost(f"{self._machine} was lost, or its worker's process there")
        except Damaged as error:
            self._log(f"lost: {error}")
            yield self._lost(f"{self._machine} has sent a damaged segment")
        except Fault as error:
            self._log(f"lost: {error}")
            if not (isinstance(error.cause, OSError) and error.cause.errno in STORAGE_FAULTS):
                raise
            yield self._lost(f"{self._machine} cannot hold the worker's files: {error.cause.strerror}")

    def _train(self) -> Iterator[dict[str, Any]]:
        limit = self._job.limit
        while not self._place.has_room(min(max(0.0, limit.left), ROOM_SECONDS)):
            if limit.left <= 0:
                self._code = OUT_OF_TIME
                return
        host, theirs = self._place.call("about")
        self._machine = f"machine {host}"
        if theirs != versions():
            self._code = NO_RESTART
            yield {"refused": different(host, theirs)}
            return
        cohort = self._job.cohort
        original = self._original = Original(self._job.store, cohort.id, self._job.lock.lease.token)
        for name, data in self._modules.items():
            self._place.call("put", f"code/{name}", data)
        for name, data in original.belongings():
            self._place.call("put", f"results/{name}", data)
        seconds, imports = limit.left, tuple(self._job.imports)
        order = Order(cohort.id, cohort.steps, self._job.device, self._threads, seconds, imports, ("--receipts",))
        folder = self._place.call("start", order)
        self._runs, code = True, None
        while code is None:
            news: News = self._place.call("news")
            if news.changes is not None:
                original.take(news.changes)
            if (code := news.code) == 0:
                original.finish(cohort.steps)
            yield from (self._in_our_words(report, folder) for report in news.reports)
        self._code = code
        if code == STOPPED and not self._is_asked_to_stop:
            yield self._lost(f"{self._machine} has stopped the worker")
        with contextlib.suppress(Lost, Fault):
            self._place.call("close")

    def _in_our_words(self, report: dict[str, Any], folder: str) -> dict[str, Any]:
        """Return a report whose paths are not those of the place's folder."""
        if "error" not in report:
            return report
        text = report["error"].replace(f"{folder}/results", str(self._job.store.root)).replace(f"{folder}/code/", "")
        return report | {"error": text}

    def _lost(self, why: str) -> dict[str, Any]:
        """Note that the machine is lost, and return the report of it."""
        self._code = LOST
        return {"error": why}

    def _has_ended(self) -> bool:
        """Return whether all runs had ended before the place was lost. Then the cohort is finished here."""
        cohort = self._job.cohort
        if self._original is None or not self._runs or not has_ended(cohort, self._job.store):
            return False
        self._original.finish(cohort.steps)
        self._code = 0
        return True

    def wait(self, timeout: float | None = None) -> int:
        """See WorkerProcess."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("a worker elsewhere", timeout or 0.0)
        return self._code

    def stop(self) -> None:
        """See WorkerProcess."""
        self._is_asked_to_stop = True
        if self._runs:
            self._place.tell("stop")
        else:
            self._place.end()

    def kill(self) -> None:
        """See WorkerProcess."""
        self._place.end()

    def close(self) -> None:
        """See WorkerProcess. A write in progress is ended by the lease, which is given back next."""
        self._ended.wait(1.0)

    def _log(self, line: str) -> None:
        with contextlib.suppress(OSError), open(self._job.log, "a", encoding="utf-8") as file:
            print(line, file=file)


def _gave_up(error: Exception) -> tuple[int, str]:
    """Return the exit code and the reason of a worker whose reports could not be written here, as worker.py does."""
    if isinstance(error, TakenOver):
        return TAKEN_OVER, str(error)
    if isinstance(error, InputError):
        return NO_RESTART, str(error)
    if isinstance(error, OSError) and error.errno in STORAGE_FAULTS:
        return NO_RESTART, f"{error.filename}: {error.strerror}"
    return CRASHED, one_line(str(error) if isinstance(error, Fault) else f"{type(error).__name__}: {error}")
