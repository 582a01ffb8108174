"""A lease: a folder of numbered files whose newest one names the holder (store/locks.py describes its rules)."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

from sac_bench.store.atomic import TEMPORARY_PREFIX, create
from sac_bench.store.process import Process

RECENT_SECONDS = 1.0
"""Time after a renewal in which a lease is held without a look at it: far below its length."""
RELEASED = b"released"
"""Content of a number that gives a lease back."""


def boot_clock() -> float:
    """Return seconds of a clock that also runs while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Lease:
    """A lease that this process, or the one that gave it the token, has taken."""

    def __init__(
        self, folder: Path, token: str, process: Process, length: float, clock: Callable[[], float] = boot_clock
    ) -> None:
        self.folder, self.token, self._clock = folder, token, clock
        self._renewed = -float("inf")
        self._content = json.dumps({**asdict(process), "token": token, "length": length}).encode()

    def take(self, number: int) -> bool:
        """Take the lease by creating this number of it; False if another process was first."""
        return self._create(number, self._content)

    def _create(self, number: int, content: bytes) -> bool:
        """Create a number of the lease, and drop the numbers before; False if another one was created first."""
        path, began = self.folder / str(number), self._clock()
        if not create(path, content, durably=False):
            return False
        if max(existing := numbers(self.folder), default=number) > number:  # this process was paused for long
            path.unlink(missing_ok=True)
            return False
        for old in existing:
            if old < number:
                (self.folder / str(old)).unlink(missing_ok=True)
        self._renewed = began
        return True

    def renew(self) -> bool:
        """Renew the lease; False if another process has taken it. It is still held when this returns True."""
        while (renewed := self._next(self._content)) is False:
            pass
        return bool(renewed)

    def is_held(self) -> bool:
        """Return whether the lease is held; renew it unless that was done a moment ago."""
        return self._clock() - self._renewed < RECENT_SECONDS or self.renew()

    def _next(self, content: bytes) -> bool | None:
        """Create the next number; False if another one was created first, None if the lease is no longer held."""
        last = newest(self.folder)
        if last is None or _token(last[1]) != self.token:
            return None
        return self._create(last[0] + 1, content)

    def release(self) -> None:
        """Give the lease back, unless another process has taken it."""
        while self._next(RELEASED) is False:
            pass


def leases_of(path: Path) -> Path:
    """Return the folder of a lock's leases."""
    return path.with_name(f"{path.name}.leases")


def numbers(folder: Path) -> list[int]:
    """Return the numbers of a lease that exist."""
    try:
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def newest(folder: Path) -> tuple[int, bytes] | None:
    """Return the number and content of the newest lease; None if there is none."""
    while existing := numbers(folder):
        with contextlib.suppress(FileNotFoundError):  # renewed or released in between
            return max(existing), (folder / str(max(existing))).read_bytes()
    return None


def age(path: Path) -> float:
    """Return the seconds since a file was written, by its server's clock; 0 if they cannot be known."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=TEMPORARY_PREFIX) as now:
            now.write(b"now")
            now.flush()
            return os.fstat(now.fileno()).st_mtime - path.stat().st_mtime
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES):  # nothing can be taken here: this is for display
            with contextlib.suppress(OSError):
                return time.time() - path.stat().st_mtime
        return 0.0


def _token(content: bytes) -> str | None:
    try:
        return str(json.loads(content)["token"])
    except (ValueError, TypeError, KeyError):
        return None
