"""How many workers fit on the machines of a cluster, and how much memory each may take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sac_bench.errors import InputError
from sac_bench.execution.cost import PROCESS_BYTES

PLACE_BYTES = 0.4e9
"""Memory of the process that Ray starts, beside the worker's."""
MIN_WORKER_BYTES = PLACE_BYTES + 2 * PROCESS_BYTES
"""Less memory is not room for a worker on a CPU."""
IGNORED_CPUS = 0.25
"""Share of the CPUs, those with the least memory, that do not limit the memory of workers on the others."""


@dataclass(frozen=True)
class Node:
    """What a machine declares. Its memory is in bytes."""

    cpus: float
    gpus: float
    memory: float
    gpu: str = ""
    """The kind of its GPUs, if it is known."""


@dataclass(frozen=True)
class Need:
    """What a worker takes of one machine: a GPU on "cuda", CPUs, and bytes of its memory."""

    device: str
    cpus: int
    memory: float

    def places(self, node: Node) -> int:
        """Return how many such workers a machine has room for."""
        room = min(node.cpus // self.cpus, node.memory // self.memory)
        return int(min(room, node.gpus) if self.device == "cuda" else room)


def choose_device(device: str, nodes: Sequence[Node]) -> str:
    """Return the device that workers train on, for "auto", "cpu" or "cuda"; InputError for any other."""
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: must be auto, cpu or cuda")
    return device if device != "auto" else "cuda" if any(map(need_on("cuda", nodes).places, nodes)) else "cpu"


def need_on(device: str, nodes: Sequence[Node]) -> Need:
    """Return what a worker takes, so that workers fill the machines. It may be too much for some of them.

    On "cuda" a worker has a GPU and its share of the CPUs, on "cpu" one CPU and its share of the memory.
    """
    if device == "cuda":
        shares = [int(node.cpus // node.gpus) for node in nodes if node.gpus >= 1 and node.cpus >= 1]
        return Need(device, max(1, min(shares, default=1)), PLACE_BYTES + PROCESS_BYTES)
    of_cpus = sorted(node.memory / int(node.cpus) for node in nodes for _ in range(int(node.cpus)))
    memory = of_cpus[int(IGNORED_CPUS * len(of_cpus))] if of_cpus else 0.0
    return Need(device, 1, max(MIN_WORKER_BYTES, memory))
