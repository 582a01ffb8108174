"""Where workers run: the interface between the engine and machines, and its form for this machine.

A worker on this machine is a process that shares the results folder. execution/elsewhere.py has workers that do not.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sac_bench.errors import InputError
from sac_bench.execution.budget import TimeLimit
from sac_bench.execution.calibration import Machine
from sac_bench.execution.machine import cache_folder, cores
from sac_bench.execution.plan import CohortPlan
from sac_bench.store.locks import Held
from sac_bench.store.store import Store

NO_RESTART, TAKEN_OVER, OUT_OF_TIME, LOST, STOPPED = 2, 3, 4, 5, 128 + signal.SIGTERM
"""Exit codes of a worker: a restart would not help; another process has the cohort; there is no time left; its machine
is lost; SIGTERM has ended it."""
KILL_SECONDS = 5.0
"""Time that a guardian has to kill its worker before it is killed itself."""


class Refused(InputError):
    """A worker's machine cannot be used: it would train other bytes."""


@dataclass(frozen=True)
class Job:
    """What a worker is started for."""

    store: Store
    cohort: CohortPlan
    lock: Held
    """The cohort's lock."""
    log: Path
    """File for what the worker prints."""
    device: str
    workers: int
    """How many workers run at once."""
    imports: Sequence[str]
    limit: TimeLimit
    gpu: str | None
    """The only GPU that the worker sees, if it is given one."""


class WorkerProcess(Protocol):
    """A worker that was started."""

    def reports(self) -> Iterator[dict[str, Any]]:
        """Yield what the worker reports, until it has ended. What a report calls saved is in the results folder.

        {"refused": why} says that its machine cannot be used, {"error": why} why the worker gave up.
        """
        ...

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code, negative for a signal. Raises subprocess.TimeoutExpired."""
        ...

    def stop(self) -> None:
        """Ask the worker to end. If it is saving, it finishes first."""
        ...

    def kill(self) -> None:
        """Begin to kill the worker and all of its children."""
        ...

    def close(self) -> None:
        """Wait until the worker is killed, or make sure that it cannot write any more."""
        ...


class Launcher(Protocol):
    """Starts workers."""

    @property
    def memory(self) -> float | None:
        """The bytes that a worker may take; None if they share those of this machine."""
        ...

    def places(self) -> int | None:
        """Return how many workers can run at once now; None if that is fixed."""
        ...

    def machine(self, device: str) -> Machine:
        """Return the kind of machine that workers run on."""
        ...

    def start(self, job: Job) -> WorkerProcess:
        """Start a worker."""
        ...


@dataclass(frozen=True)
class Order:
    """The arguments of a worker's process."""

    cohort: str
    steps: int
    device: str
    threads: int
    seconds: float
    imports: tuple[str, ...] = ()
    more: tuple[str, ...] = ()

    def arguments(self, results: Path) -> list[str]:
        """Return the command line after the program."""
        words = [str(results), self.cohort, str(self.steps), "--device", self.device, "--threads", str(self.threads)]
        words += ["--seconds", str(self.seconds), *self.more]
        return words + [part for module in self.imports for part in ("--import", module)]


class LocalProcess:
    """A worker's guardian on this machine, which ends when the worker does."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        threading.Thread(target=self._kill_leftovers, daemon=True).start()

    def reports(self) -> Iterator[dict[str, Any]]:
        """See WorkerProcess."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with contextlib.suppress(json.JSONDecodeError):  # a line cut by a kill
                yield json.loads(line)

    def acknowledge(self) -> None:
        """Tell a worker that waits for it that what it saved was copied."""
        assert self._process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write("\n")
            self._process.stdin.flush()

    def wait(self, timeout: float | None = None) -> int:
        """See WorkerProcess."""
        return self._process.wait(timeout)

    def stop(self) -> None:
        """See WorkerProcess."""
        self._process.terminate()

    def kill(self) -> None:
        """See WorkerProcess. The guardian does it."""
        self._process.send_signal(signal.SIGINT)

    def close(self) -> None:
        """See WorkerProcess."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(KILL_SECONDS)
        self._end_group()

    def _kill_leftovers(self) -> None:
        """Kill the rest of the process group once the worker has ended: it may hold the pipe that `reports` reads."""
        self._process.wait()
        self._end_group()

    def _end_group(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)


def worker_environment(threads: int, gpu: str | None = None, code: Path | None = None) -> dict[str, str]:
    """Return the variables of a process that trains; see `run_worker`."""
    environment = os.environ | {
        "TORCHINDUCTOR_CACHE_DIR": str(cache_folder()),
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "PYTHONPATH": os.pathsep.join([*([str(code)] if code else []), os.getcwd(), *(p for p in sys.path if p)]),
        "PYTHONUNBUFFERED": "1",
        "PYTHONIOENCODING": "utf-8:backslashreplace",  # so output of environments cannot end a worker
    }
    return environment if gpu is None else environment | {"CUDA_VISIBLE_DEVICES": gpu}


def run_worker(
    results: Path,
    order: Order,
    log: Path,
    *,
    stdin: int = subprocess.DEVNULL,
    inherited: Sequence[int] = (),
    code: Path | None = None,
    temporary: Path | None = None,
    gpu: str | None = None,
) -> LocalProcess:
    """Start a worker's process on this machine.

    inherited: open files that it keeps; code: its working folder, from which it imports before all others; temporary:
    its folder of temporary files.
    """
    environment = worker_environment(order.threads, gpu, code)
    if temporary is not None:
        environment["TMPDIR"] = str(temporary)
    command = [sys.executable, "-m", "sac_bench.execution.guardian", str(os.getpid()), *order.arguments(results)]
    with open(log, "a", encoding="utf-8") as file:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=file,
            stdin=stdin,
            env=environment,
            cwd=code,
            encoding="utf-8",
            start_new_session=True,
            pass_fds=inherited,
        )
    return LocalProcess(process)


class ThisMachine:
    """Starts workers as processes of this machine."""

    @property
    def memory(self) -> float | None:
        """See Launcher."""
        return None

    def places(self) -> int | None:
        """See Launcher: the number of workers is fixed."""
        return None

    def machine(self, device: str) -> Machine:
        """See Launcher."""
        return Machine.here(device)

    def start(self, job: Job) -> WorkerProcess:
        """See Launcher. The worker inherits the kernel's locks, and knows the lease."""
        threads = 1 if job.device == "cpu" else max(1, cores() // job.workers)
        lease = ("--lease", job.lock.lease.token)
        cohort = job.cohort
        order = Order(cohort.id, cohort.steps, job.device, threads, job.limit.left, tuple(job.imports), lease)
        process = run_worker(job.store.root, order, job.log, inherited=job.lock.filenos(), gpu=job.gpu)
        job.lock.hand_over()
        return process


HERE: Launcher = ThisMachine()
