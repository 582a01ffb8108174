"""What runs on a machine without the results folder: a worker in a results folder of its own.

The process there is made by Ray (execution/on_ray.py). The command's view of it is in execution/elsewhere.py.
"""

from __future__ import annotations

import queue
import shutil
import subprocess
import threading
from dataclasses import dataclass
from typing import Any

from sac_bench.execution.copies import Changes, Copy
from sac_bench.execution.launch import LocalProcess, Order, run_worker
from sac_bench.execution.scratch import temporary_folder


@dataclass(frozen=True)
class News:
    """What a place reports: reports of its worker, then files. The exit code is None while the worker runs."""

    reports: tuple[dict[str, Any], ...]
    changes: Changes | None
    code: int | None


class Place:
    """A results folder of its own, and the worker that trains a cohort there. Lives in a process of its own."""

    def __init__(self) -> None:
        self._folder, self._lock = temporary_folder()
        self._results = self._folder / "results"
        self._reports: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self._is_started = False

    def put(self, path: str, data: bytes) -> None:
        """Write a file of the results folder, or of the user's code."""
        file = self._folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)

    def start(self, order: Order) -> str:
        """Start the worker, and return the folder in which it works."""
        cohort = self._results / "cohorts" / order.cohort
        self._copy = Copy(self._results, order.cohort)
        code, temporary = self._folder / "code", self._folder / "temporary"
        for folder in (code, temporary):
            folder.mkdir(exist_ok=True)
        self._process = run_worker(
            self._results,
            order,
            cohort / "log.txt",
            stdin=subprocess.PIPE,
            inherited=[self._lock.fileno()],
            code=code,
            temporary=temporary,
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        return str(self._folder)

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
