"""The processes that train: what users ask for, and what that is on this machine or a Ray cluster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from sac_bench.errors import InputError, one_line
from sac_bench.execution.budget import TimeLimit
from sac_bench.execution.device import resolve_device
from sac_bench.execution.launch import HERE, Launcher
from sac_bench.execution.machine import available_memory, choose_gpus, cores, visible_gpus

MAX_WORKERS = 1024


@dataclass(frozen=True)
class Workers:
    """The processes that train: their device ("cpu", "cuda"), how many there are, and the modules they import."""

    device: str
    count: int
    imports: Sequence[str] = ()
    gpus: Sequence[str] = ()
    """GPUs as CUDA_VISIBLE_DEVICES names them. Each worker sees one of them."""
    limit: TimeLimit = field(default_factory=TimeLimit)
    waits: bool = True
    """Whether to wait for cohorts that other processes train."""
    of_all: int = 0
    """The workers of all commands that share the folder, if they are more: a plan has cohorts for all of them."""
    launcher: Launcher = HERE
    """What starts them."""
    note: str = ""
    """A line for the user about the choice of the device, if there is anything to say."""

    @property
    def memory(self) -> float:
        """The bytes that each worker may take."""
        if (elsewhere := self.launcher.memory) is not None:
            return elsewhere
        return 0.9 * available_memory(self.device, self.gpus) / math.ceil(self.count / max(1, len(self.gpus)))


@dataclass(frozen=True)
class WorkerOptions:
    """The workers that a user asks for, in the words of the command line."""

    device: str = "auto"
    count: int | None = None
    """--workers; by default one per core, GPU or place in the cluster."""
    gpus: str | None = None
    """"all" or places such as "0,1"."""
    engine: str = "local"
    address: str | None = None
    """The Ray cluster."""
    imports: Sequence[str] = ()
    limit: TimeLimit = field(default_factory=TimeLimit)
    """--until."""
    waits: bool = True
    of_all: int = 0
    """--plan-for."""

    def choose(self, runs: int | None = None) -> Workers:
        """Return the workers on this machine or the Ray cluster; by default at most `runs`.

        Raises InputError unless the options fit together, the device and the GPUs or the cluster exist, the cluster
        has a place for a worker, and the count is between 1 and 1024.
        """
        if self.engine not in ("local", "ray"):
            raise InputError(f"--engine {one_line(self.engine, 60)}: must be local or ray")
        if self.count is not None and not 1 <= self.count <= MAX_WORKERS:
            raise InputError(f"workers: must be between 1 and {MAX_WORKERS}, not {self.count}")
        return self._here(runs) if self.engine == "local" else self._on_ray(runs)

    def _here(self, runs: int | None) -> Workers:
        if self.address is not None:
            raise InputError(f"--address {self.address}: requires --engine ray; add it, or omit --address")
        device, note = resolve_device(self.device)
        if self.gpus is not None and device == "cpu":
            remedy = "use --device cuda, or leave out --gpus"
            raise InputError(f"--gpus {self.gpus}: this command trains on the CPU; {note or remedy}")
        seen = choose_gpus(self.gpus or "all", visible_gpus()) if device == "cuda" else ()
        workers = self._workers(device, len(seen) if device == "cuda" else cores(), runs, HERE, seen)
        return replace(workers, note=note)

    def _on_ray(self, runs: int | None) -> Workers:
        if self.gpus is not None:
            raise InputError(f"--gpus {self.gpus}: Ray assigns the GPUs; omit --gpus or --engine ray")
        try:
            from sac_bench.execution.on_ray import Cluster
        except ImportError as error:
            if error.name != "ray":
                raise
            raise InputError("--engine ray: Ray is not installed: pip install 'sac_bench[ray]'") from None
        cluster = Cluster.at(self.address or "auto", self.device, self.count)
        return replace(self._workers(cluster.device, cluster.places() or 1, runs, cluster), note=cluster.note)

    def _workers(
        self, device: str, places: int, runs: int | None, launcher: Launcher, gpus: Sequence[str] = ()
    ) -> Workers:
        count = self.count or min(places, runs or places)
        return Workers(device, count, tuple(self.imports), gpus, self.limit, self.waits, self.of_all, launcher)
