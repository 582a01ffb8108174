"""Names a process so that others on its machine can see whether it is alive."""

from __future__ import annotations

import contextlib
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process: its machine's name, boot and namespace of process ids, and its id and start on it."""

    host: str
    boot: str
    pid: int
    started: str

    @staticmethod
    def here() -> Process:
        """Return this process."""
        return Process(socket.gethostname(), _boot(), os.getpid(), _started(os.getpid()) or "")

    def is_beside(self, other: Process) -> bool:
        """Return whether both run on one machine and see each other's ids."""
        return (self.host, self.boot) == (other.host, other.boot)

    def is_alive(self) -> bool:
        """Return whether this process of this machine runs."""
        return _started(self.pid) == self.started


def _boot() -> str:
    """Return what changes when a machine starts again, and what differs between machines and containers."""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    return f"{uuid.getnode():012x}"


def _started(pid: int) -> str | None:
    """Return when a process started, in the kernel's ticks; None if it has ended."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        state, *rest = stat.rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except OSError:
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return "" if not Path("/proc/self/stat").exists() else None
