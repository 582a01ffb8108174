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
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.exceptions import OutOfMemoryError, RayError, RayTaskError

from sac_bench.errors import InputError, one_line
from sac_bench.execution.calibration import Machine
from sac_bench.execution.cluster import PLACE_BYTES, Need, Node, choose_device, need_on
from sac_bench.execution.device import objection_to_cuda
from sac_bench.execution.elsewhere import DistantProcess, Fault, Lost
from sac_bench.execution.host import BY_VALUE, Host
from sac_bench.execution.launch import Job, WorkerProcess
from sac_bench.execution.machine import available_memory
from sac_bench.execution.user_code import user_code

for module in BY_VALUE:
    ray.cloudpickle.register_pickle_by_value(module)
PLACE = ray.remote(Host)
THREADS_OF_A_PLACE = 2
"""One waits for reports, one takes the request to stop."""
KIND = "accelerator_type:"
"""Prefix of the resource by which Ray names the kind of a machine's GPUs."""
LOOK_SECONDS = 1.0
"""Time for which a look at the cluster's machines counts."""


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
    return [node_of(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def node_of(resources: Mapping[str, float]) -> Node:
    """Return a machine from the resources that Ray reports of it."""
    cpus, gpus, memory = (float(resources.get(name, 0)) for name in ("CPU", "GPU", "memory"))
    kinds = [name.removeprefix(KIND) for name in resources if name.startswith(KIND)]
    return Node(cpus, gpus, memory, kinds[0] if kinds else "")


@dataclass
class Cluster:
    """Starts workers on a cluster (Launcher). `count` is their number if it is fixed; else each place has one."""

    need: Need
    count: int | None
    memory: float
    """Bytes that a worker may take: on a CPU of the machine's memory, else of the GPU's."""
    kind: Machine
    note: str = ""
    """A line for the user about the choice of the device, if there is anything to say."""
    _seen: tuple[float, int] = (-math.inf, 0)
    """When the cluster's machines were looked at, and how many places they had."""

    @staticmethod
    def at(address: str, device: str, count: int | None) -> Cluster:
        """Connect to a cluster and look at its machines. Raises InputError if it has no place for a worker."""
        connect(address)
        cluster = nodes()
        need = need_on(choose_device(device, cluster), cluster)
        places = Counter[str]()
        for node in cluster:
            places[node.gpu] += need.places(node)
        if not places.total():
            raise InputError(
                f"--address {address}: no machine of the cluster has room for a worker on {need.device}: it takes "
                f"{need.cpus} CPU and {need.memory / 1e9:.1f} GB{' and a GPU' if need.device == 'cuda' else ''}"
            )
        if need.device == "cpu":
            return Cluster(need, count, need.memory - PLACE_BYTES, Machine.here("cpu"))
        seen = [ray.get(_looking_at(kind).remote()) for kind, number in places.most_common() if number]
        objections = [one_line(f"on the cluster: {objection}") for _, _, objection in seen if objection]
        if device == "auto" and objections:
            return replace(Cluster.at(address, "cpu", count), note=objections[0])
        return Cluster(need, count, 0.9 * min(memory for _, memory, _ in seen), seen[0][0])

    @property
    def device(self) -> str:
        """The device on which workers train."""
        return self.need.device

    def places(self) -> int | None:
        """See Launcher. Machines that join are used, unless the number of workers is fixed."""
        if self.count is None and time.monotonic() - self._seen[0] > LOOK_SECONDS:
            self._seen = time.monotonic(), sum(map(self.need.places, nodes()))
        return self.count or self._seen[1]

    def machine(self, device: str) -> Machine:
        """See Launcher."""
        return self.kind

    def start(self, job: Job) -> WorkerProcess:
        """See Launcher. If no machine has room, the worker waits for one."""
        code = user_code(job.cohort.runs)
        memory = PLACE_BYTES + job.cohort.memory_bytes if self.device == "cpu" else self.need.memory
        actor = PLACE.options(
            num_cpus=self.need.cpus,
            num_gpus=1 if self.device == "cuda" else 0,
            memory=math.ceil(memory),
            max_restarts=0,
            max_task_retries=0,
            max_concurrency=THREADS_OF_A_PLACE,
        )
        return DistantProcess(job, self.need.cpus, Actor(actor.remote()), code)


class Actor:
    """The connection to a place that is a Ray actor (Connection)."""

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def call(self, method: str, *arguments: Any) -> Any:
        """See Connection."""
        try:
            return ray.get(self._request(method, *arguments))
        except RayTaskError as error:
            raise Fault(error.cause) from None
        except OutOfMemoryError:
            raise Fault(MemoryError("Ray ended the worker, because its machine was out of memory")) from None
        except (RayError, ConnectionError) as error:
            raise Lost(f"{type(error).__name__}: {error}") from None

    def _request(self, method: str, *arguments: Any) -> Any:
        handle = self._handle
        return handle.about.remote() if method == "about" else handle.call.remote(method, *arguments)

    def has_room(self, seconds: float) -> bool:
        """See Connection."""
        return bool(ray.wait([self._handle.about.remote()], timeout=seconds)[0])

    def tell(self, method: str) -> None:
        """See Connection."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            self._request(method)

    def end(self) -> None:
        """See Connection."""
        with contextlib.suppress(Exception):  # the cluster may be gone
            ray.kill(self._handle)


def _looking_at(kind: str) -> Any:
    """Return the task that looks at a GPU of this kind; of any kind if it is not known."""
    return ray.remote(num_gpus=1, max_retries=0, resources={KIND + kind: 0.001} if kind else None)(_look_at_gpu)


def _look_at_gpu() -> tuple[Machine, int, str]:
    """Return the kind of the GPU that this process sees, its free bytes, and why "auto" does not take it."""
    return Machine.here("cuda"), available_memory("cuda"), objection_to_cuda()
