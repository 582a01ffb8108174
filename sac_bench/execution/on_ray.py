"""Workers on a Ray cluster. Each cohort is an actor with declared CPUs, GPUs and memory, which lives for one worker.

Ray decides where it runs. It is never restarted by Ray: the engine does that, from what the results folder has. Only
the command's process reads and writes the results folder (execution/elsewhere.py).
"""

from __future__ import annotations

import contextlib
import logging
import math
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError

from sac_bench.errors import InputError, one_line
from sac_bench.execution.calibration import Machine
from sac_bench.execution.cost import PROCESS_BYTES
from sac_bench.execution.elsewhere import DistantProcess, Lost
from sac_bench.execution.launch import Job, WorkerProcess
from sac_bench.execution.machine import available_memory
from sac_bench.execution.place import Place
from sac_bench.execution.user_code import user_modules

PLACE = ray.remote(Place)
THREADS_OF_A_PLACE = 2
"""One waits for reports, one takes the request to stop."""
PLACE_BYTES = 0.4e9
"""Memory of the actor's process itself, beside the worker's."""
LOOK_SECONDS = 1.0
"""Time for which a look at the cluster's machines counts."""


@dataclass(frozen=True)
class Node:
    """What a machine of the cluster declares. Its memory is in bytes."""

    cpus: float
    gpus: float
    memory: float

    def places(self, device: str) -> int:
        """Return how many workers it has room for: one per GPU with at least one CPU each, or one per CPU."""
        return int(min(self.gpus, self.cpus) if device == "cuda" else self.cpus)


def connect(address: str) -> None:
    """Connect this process to a cluster. Raises InputError if there is none."""
    if ray.is_initialized():
        return
    ours = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(address, logging_level=logging.ERROR, log_to_driver=False)
    except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
        raise InputError(
            f"--address {address}: no Ray cluster: {one_line(str(error), 300)}; start one with `ray start --head`, or "
            "give the address of one"
        ) from None
    finally:
        signal.signal(signal.SIGTERM, ours)  # Ray's would end the command without a word


def nodes() -> list[Node]:
    """Return the machines of the cluster that are alive."""
    alive = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return [Node(*(float(of.get(name, 0)) for name in ("CPU", "GPU", "memory"))) for of in alive]


def choose_device(device: str, cluster: Sequence[Node]) -> str:
    """Return the device that workers train on, for "auto", "cpu" or "cuda"; InputError for any other."""
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: must be auto, cpu or cuda")
    return device if device != "auto" else "cuda" if any(node.places("cuda") for node in cluster) else "cpu"


@dataclass
class Cluster:
    """Starts workers on a cluster (Launcher). `count` is their number if it is fixed; else each place has one."""

    device: str
    count: int | None
    cpus: int
    """CPUs of a worker."""
    memory: float
    """Bytes that a worker may take: on a CPU of the machine's memory, else of the GPU's."""
    kind: Machine
    _seen: tuple[float, int] = (-math.inf, 0)
    """When the cluster's machines were looked at, and how many places they had."""

    @staticmethod
    def at(address: str, device: str, count: int | None) -> Cluster:
        """Connect to a cluster and look at its machines. Raises InputError if it has no place for a worker."""
        connect(address)
        cluster = nodes()
        device = choose_device(device, cluster)
        able = [node for node in cluster if node.places(device)]
        if not able:
            raise InputError(f"--address {address}: no machine of the cluster has room for a worker on {device}")
        if device == "cuda":
            cpus = min(int(node.cpus // node.gpus) for node in able)
            kind, memory = ray.get(ray.remote(num_gpus=1, max_retries=0)(_look_at_gpu).remote())
            return Cluster(device, count, max(1, cpus), 0.9 * memory, kind)
        memory = min(node.memory / node.places(device) for node in able) - PLACE_BYTES
        return Cluster(device, count, 1, memory, Machine.here("cpu"))

    def places(self) -> int | None:
        """See Launcher. Machines that join are used, unless the number of workers is fixed."""
        if self.count is None and time.monotonic() - self._seen[0] > LOOK_SECONDS:
            self._seen = time.monotonic(), sum(node.places(self.device) for node in nodes())
        return self.count or self._seen[1]

    def machine(self, device: str) -> Machine:
        """See Launcher."""
        return self.kind

    def start(self, job: Job) -> WorkerProcess:
        """See Launcher. If no machine has room, the worker waits for one."""
        memory = PLACE_BYTES + (job.cohort.memory_bytes if self.device == "cpu" else PROCESS_BYTES)
        actor = PLACE.options(
            num_cpus=self.cpus,
            num_gpus=1 if self.device == "cuda" else 0,
            memory=math.ceil(memory),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=THREADS_OF_A_PLACE,
        )
        return DistantProcess(job, self.cpus, Actor(actor.remote()), user_modules())


class Actor:
    """The connection to a place that is a Ray actor (Connection)."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def call(self, method: str, *arguments: Any) -> Any:
        """See Connection."""
        try:
            return ray.get(getattr(self._handle, method).remote(*arguments))
        except (RayError, ConnectionError) as error:
            cause = getattr(error, "cause", None) or error  # of a fault there, such as a full disk
            raise Lost(one_line(f"{type(cause).__name__}: {cause}", 300)) from None

    def has_room(self, seconds: float) -> bool:
        """See Connection."""
        return bool(ray.wait([self._handle.about.remote()], timeout=seconds)[0])

    def tell(self, method: str) -> None:
        """See Connection."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            getattr(self._handle, method).remote()

    def end(self) -> None:
        """See Connection."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.kill(self._handle)


def _look_at_gpu() -> tuple[Machine, int]:
    """Return the kind of the GPU that this process sees, and its free bytes."""
    return Machine.here("cuda"), available_memory("cuda")
