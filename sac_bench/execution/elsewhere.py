"""Workers on machines that do not share the results folder: what runs there, and the command's view of it.

A `Place` makes a results folder of its own in a temporary folder, and runs the same worker process there. A
`DistantProcess` sends it what the cohort needs, and writes what comes back to the results folder before it passes on
the report. How calls reach the place is up to a `Connection` (execution/on_ray.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import queue
import shutil
import socket
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import IO, Any, Protocol

import sac_bench
from sac_bench.errors import InputError, one_line
from sac_bench.execution.checkpoint import TakenOver
from sac_bench.execution.copies import Changes, Copy, Original
from sac_bench.execution.launch import NO_RESTART, OUT_OF_TIME, TAKEN_OVER, Job, LocalProcess, Order, run_worker
from sac_bench.store.atomic import STORAGE_FAULTS

LOST = 1
"""Exit code of a worker whose place is lost."""
ROOM_SECONDS = 5.0
"""Time to wait for room before the time limit is looked at again."""
STANDARD_LIBRARY = Path(sysconfig.get_path("stdlib"))
OURS = ("torch", "envpool", "gymnasium", "mujoco", "numpy")
"""Packages besides this one whose versions must be equal: results depend on them."""


class Lost(Exception):
    """A place does not answer any more, and never will."""


@dataclass(frozen=True)
class News:
    """What a place has to tell: reports, then files. The exit code is None while the worker runs."""

    reports: tuple[dict[str, Any], ...]
    changes: Changes | None
    code: int | None


class Place:
    """A results folder of its own, and the worker that trains a cohort there. Lives in a process of its own."""

    def __init__(self) -> None:
        self._folder, self._lock = _temporary_folder()
        self._results, self._modules = self._folder / "results", self._folder / "modules"
        self._reports: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._is_started = False

    def about(self) -> tuple[str, Mapping[str, str]]:
        """Return the name of the machine, and its versions."""
        return socket.gethostname(), versions()

    def put(self, path: str, data: bytes) -> None:
        """Write a file of the results folder, or of modules to import."""
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def start(self, order: Order) -> None:
        """Start the worker."""
        cohort = self._results / "cohorts" / order.cohort
        self._copy = Copy(self._results, order.cohort)
        self._process = run_worker(
            self._results, order, cohort / "log.txt", stdin=subprocess.PIPE, modules=[str(self._modules)]
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()

    def news(self) -> News:
        """Wait for reports. Return them up to the first that follows a save, with what was saved."""
        reports: list[dict[str, Any]] = []
        while not reports or not self._reports.empty():
            report = self._reports.get()
            if report is None:
                code = self._process.wait()
                return News(tuple(reports), self._copy.changes(self._is_started), code)
            reports.append(report)
            is_first = not self._is_started and "error" not in report
            if is_first or "saved" in report:
                self._is_started = True
                changes = self._copy.changes(True)
                self._process.acknowledge()
                return News(tuple(reports), changes, None)
        return News(tuple(reports), None, None)

    def stop(self) -> None:
        """Ask the worker to end."""
        self._process.stop()

    def close(self) -> None:
        """Delete the temporary folder."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _listen(self, process: LocalProcess) -> None:
        for report in process.reports():
            self._reports.put(report)
        self._reports.put(None)


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


def versions() -> dict[str, str]:
    """Return the versions of what a run's bytes depend on; of this package, also a digest of its sources."""
    root = Path(sac_bench.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    own = f"{version('sac_bench')} (sources {digest.hexdigest()[:8]})"
    return {"sac_bench": own, **{name: version(name) for name in OURS}}


def different(host: str, theirs: Mapping[str, str]) -> str:
    """Return why a machine with other versions is not used."""
    own = versions()
    names = [name for name in own if theirs.get(name) != own[name]]
    there, here = (", ".join(f"{name} {of.get(name, 'not installed')}" for name in names) for of in (theirs, own))
    return f"machine {host} has {there}, and this command has {here}: install the same versions on all machines"


def user_modules() -> dict[str, bytes]:
    """Return the sources of imported modules that are neither installed nor part of this package: {path: content}.

    Workers elsewhere cannot import them otherwise.
    """
    found = {}
    for name, module in list(sys.modules.items()):
        file = Path(getattr(module, "__file__", None) or "")
        top = name.partition(".")[0]
        installed = bool({"site-packages", "dist-packages"} & set(file.parts)) or top in (
            "sac_bench",
            "__main__",
            "__mp_main__",
        )
        installed |= top in sys.stdlib_module_names or file.is_relative_to(STANDARD_LIBRARY)
        if file.suffix == ".py" and not installed and file.exists():
            path = name.replace(".", "/")
            found[f"{path}/__init__.py" if file.name == "__init__.py" else f"{path}.py"] = file.read_bytes()
    return found


def _gave_up(error: Exception) -> tuple[int, str]:
    """Return the exit code and the reason of a worker whose reports could not be written here, as worker.py does."""
    if isinstance(error, TakenOver):
        return TAKEN_OVER, str(error)
    if isinstance(error, InputError):
        return NO_RESTART, str(error)
    if isinstance(error, OSError) and error.errno in STORAGE_FAULTS:
        return NO_RESTART, f"{error.filename}: {error.strerror}"
    return LOST, one_line(f"{type(error).__name__}: {error}")


def _temporary_folder() -> tuple[Path, IO[str]]:
    """Make a folder, and delete those of processes that were killed. A process locks its folder until it ends."""
    above = Path(tempfile.gettempdir()) / f"sac-bench-{os.getuid()}"
    above.mkdir(mode=0o700, exist_ok=True)
    with open(above / "lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for held in above.glob("*/held"):
            with open(held, "a", encoding="utf-8") as other, contextlib.suppress(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(held.parent, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=above))
        own = open(folder / "held", "a", encoding="utf-8")  # noqa: SIM115 - it is held until the process ends
        fcntl.flock(own, fcntl.LOCK_EX)
    return folder, own
