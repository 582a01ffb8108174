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
from sac_bench.execution.checkpoint import TakenOver
from sac_bench.execution.copies import Original
from sac_bench.execution.launch import NO_RESTART, OUT_OF_TIME, TAKEN_OVER, Job, Order
from sac_bench.execution.place import News
from sac_bench.execution.versions import different, versions
from sac_bench.store.atomic import STORAGE_FAULTS

LOST = 1
"""Exit code of a worker whose place is lost."""
ROOM_SECONDS = 5.0
"""Time to wait for room before the time limit is looked at again."""


class Lost(Exception):
    """A place does not answer any more, and never will."""


class Connection(Protocol):
    """A way to a place."""

    def has_room(self, seconds: float) -> bool:
        """Wait up to so many seconds for room for the place, and return whether it is there."""
        ...

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the place and return what it returns. Raises Lost, also for faults there."""
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

    def reports(self) -> Iterator[dict[str, Any]]:
        """See WorkerProcess."""
        try:
            self._job.log.touch()
            yield from self._train()
        except Lost as error:
            self._log(f"lost, with its machine or its process there: {error}")
        except Exception as error:
            self._code, reason = _gave_up(error)
            yield {"error": reason}
        finally:
            self._place.end()
            self._ended.set()

    def _train(self) -> Iterator[dict[str, Any]]:
        limit = self._job.limit
        while not self._place.has_room(min(max(0.0, limit.left), ROOM_SECONDS)):
            if limit.left <= 0:
                self._code = OUT_OF_TIME
                return
        host, theirs = self._place.call("about")
        if theirs != versions():
            self._code = NO_RESTART
            yield {"refused": different(host, theirs)}
            return
        cohort = self._job.cohort
        original = Original(self._job.store, cohort.id, self._job.lock.lease.token)
        for name, data in self._modules.items():
            self._place.call("put", f"modules/{name}", data)
        for name, data in original.belongings():
            self._place.call("put", f"results/{name}", data)
        seconds, imports = limit.left, tuple(self._job.imports)
        order = Order(cohort.id, cohort.steps, self._job.device, self._threads, seconds, imports, ("--receipts",))
        self._place.call("start", order)
        self._runs, code = True, None
        while code is None:
            news: News = self._place.call("news")
            if news.changes is not None:
                original.take(news.changes)
            if (code := news.code) == 0:
                original.finish(cohort.steps)
            yield from news.reports
        self._code = code
        with contextlib.suppress(Lost):
            self._place.call("close")

    def wait(self, timeout: float | None = None) -> int:
        """See WorkerProcess."""
        if not self._ended.wait(timeout):
            raise subprocess.TimeoutExpired("a worker elsewhere", timeout or 0.0)
        return self._code

    def stop(self) -> None:
        """See WorkerProcess."""
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
    return LOST, one_line(f"{type(error).__name__}: {error}")
