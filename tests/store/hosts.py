"""Pretended machines: locks in one process that act as if on other machines, and clocks that tests move."""

from __future__ import annotations

from sac_bench.store.kernel_locks import flock, lock_range
from sac_bench.store.locks import Locks
from sac_bench.store.process import Process


class Clock:
    """A clock that advances when a test sets it, or during a pause."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def pause(self, seconds: float) -> None:
        self.now += seconds


def nothing(file, operation):
    """A kernel lock of a shared folder that always succeeds."""
    return True


def machine(name, clock=None, kernel=(nothing, nothing)):
    """Locks of a process on a machine of this name, on a folder where the kernel's locks do nothing."""
    clock = clock or Clock()
    process = Process(name, f"boot of {name}", 1, "")
    return Locks(lambda: process, clock, clock.pause, kernel, beats=False)


KERNEL = (flock, lock_range)
