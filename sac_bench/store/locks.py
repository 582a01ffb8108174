"""Locks between processes, also on other machines that share the folder.

A lock has three parts, taken in this order:

    NAME                flock, which ends with its process, even if that is killed
    NAME.range          a lock on a byte range (of the open file, as lockf of a process), in a file of its own, because
                        Linux makes flock a lock on a byte range over NFS, and two on one file would conflict
    NAME.leases/<n>     a lease: who holds the lock. The newest number counts

On some shared folders, two machines can hold the first two at once, without an error. The lease does not depend on
them. Its holder renews it by creating the next number, and another process takes it by creating that number: creation
is exclusive, so one of them succeeds. Its holder releases it by creating the next number with RELEASED in it. The
newest number is never deleted, so no number is used twice, and a paused process cannot create an old one.

A lease ends in three ways: with its process, on the holder's own machine; if it is not renewed for its length, by the
clock of the waiting process; or if it is older than twice its length, by the file server's clock. Clocks of two
machines are never compared.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sac_bench.store import leases
from sac_bench.store.atomic import FULL_DISK_ERRORS
from sac_bench.store.kernel_locks import KernelLock, flock, lock_range
from sac_bench.store.leases import RELEASED, Lease, leases_of
from sac_bench.store.process import Process

LEASE_SECONDS = 60.0
"""Time without a renewal after which another machine takes a lease over."""
RENEWALS_PER_LEASE = 4
"""Renewals per length."""
POLL_SECONDS = 0.1


class Held:
    """A lock that is held until it is closed, or until this process and all that inherited its files have ended."""

    def __init__(self, files: Sequence[IO[Any]], lease: Lease, stack: contextlib.ExitStack) -> None:
        self._files, self.lease, self._stack = files, lease, stack

    def filenos(self) -> list[int]:
        """Return the files that a child inherits to hold the lock, too."""
        return [file.fileno() for file in self._files]

    def hand_over(self) -> None:
        """Leave the kernel's locks to the children that inherited them, and keep the lease."""
        for file in self._files:
            file.close()

    def close(self) -> None:
        """Release the lock; children that inherited its files still hold the kernel's locks."""
        self._stack.close()

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass
class Locks:
    """Takes locks in the name of one process. Tests replace the process, its clock and the kernel's locks."""

    process: Callable[[], Process] = Process.here
    clock: Callable[[], float] = leases.boot_clock
    pause: Callable[[float], object] = time.sleep
    kernel: Sequence[KernelLock] = (flock, lock_range)
    length: float = LEASE_SECONDS
    beats: bool = True
    """Whether a thread renews the leases that are held."""
    _seen: dict[Path, tuple[tuple[int, bytes], float]] = field(default_factory=dict)
    _leases: list[Lease] = field(default_factory=list)
    _mutex: threading.Lock = field(default_factory=threading.Lock)
    """Held while leases are renewed, and while one is given back."""
    _heart: threading.Thread | None = None

    @contextmanager
    def locked(self, path: Path) -> Iterator[Lease | None]:
        """Wait for the lock and hold it. Yield its lease; None on a full disk, where the kernel's locks must do.

        A process that is paused in the block for long can lose the lock: before it deletes or replaces what another
        process may have written meanwhile, it asks the lease.
        """
        with contextlib.ExitStack() as stack:
            files = self._open(path, stack)
            for lock, file in zip(self.kernel, files, strict=True):
                lock(file, fcntl.LOCK_EX)
            lease = None
            try:
                while (lease := self._take_lease(path, stack)) is None:
                    self.pause(POLL_SECONDS)
            except OSError as error:
                if error.errno not in FULL_DISK_ERRORS:
                    raise
            yield lease

    def take(self, path: Path) -> Held | None:
        """Take the lock; None if another process holds it."""
        with contextlib.ExitStack() as stack:
            files = self._open(path, stack)
            for lock, file in zip(self.kernel, files, strict=True):
                if not lock(file, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    return None
            if (lease := self._take_lease(path, stack)) is None:
                return None
            return Held(files, lease, stack.pop_all())

    def is_taken(self, path: Path) -> bool:
        """Return whether a process holds the lock, or may hold it on another machine. Files may be read-only."""
        for lock, name in zip(self.kernel, _names(path), strict=True):
            try:
                with open(name, encoding="utf-8") as file:
                    if not lock(file, fcntl.LOCK_SH | fcntl.LOCK_NB):
                        return True
            except (FileNotFoundError, NotADirectoryError):
                continue
        newest = leases.newest(leases_of(path))
        return newest is not None and self._is_live(leases_of(path), newest)

    def beat(self) -> None:
        """Renew all leases that are held."""
        for lease in list(self._leases):
            with self._mutex, contextlib.suppress(OSError):
                if lease in self._leases and not lease.renew():
                    self._leases.remove(lease)

    def forget(self) -> None:
        """Forget all leases: they are those of the process that this one was forked from."""
        self._leases, self._mutex, self._heart = [], threading.Lock(), None

    def _open(self, path: Path, stack: contextlib.ExitStack) -> list[IO[Any]]:
        path.parent.mkdir(parents=True, exist_ok=True)
        return [stack.enter_context(open(name, "a", encoding="utf-8")) for name in _names(path)]

    def _take_lease(self, path: Path, stack: contextlib.ExitStack) -> Lease | None:
        """Take the lease of a lock; None if another process holds it. The stack gives it back."""
        folder = leases_of(path)
        newest = leases.newest(folder)
        if newest is not None and self._is_live(folder, newest):
            return None
        lease = Lease(folder, uuid.uuid4().hex, self.process(), self.length, self.clock)
        stack.callback(self._end, lease)  # before it is taken: an exception may come at once
        if not lease.take(newest[0] + 1 if newest else 1):
            lease.release()  # if it was taken after all: a file server can report a repeated request as lost
            return None
        self._seen.pop(folder, None)
        self._leases.append(lease)
        if self.beats and not (self._heart and self._heart.is_alive()):
            self._heart = threading.Thread(target=self._keep_beating, daemon=True)
            self._heart.start()
        return lease

    def _end(self, lease: Lease) -> None:
        with self._mutex, contextlib.suppress(OSError):  # the disk may be full or read-only by now
            if lease in self._leases:
                self._leases.remove(lease)
            lease.release()

    def _is_live(self, folder: Path, newest: tuple[int, bytes]) -> bool:
        """Return whether a lease's holder may be alive."""
        number, content = newest
        if content == RELEASED:
            return False
        length = self.length
        with contextlib.suppress(ValueError, TypeError, KeyError):
            about = json.loads(content)
            holder = Process(*(about[name] for name in ("host", "boot", "pid", "started")))
            if holder.is_beside(self.process()) and not holder.is_alive():
                return False
            length = max(length, float(about["length"]))
        before, since = self._seen.get(folder, (None, 0.0))
        if before == newest:
            return self.clock() - since < length
        if leases.age(folder / str(number)) > 2 * length:
            return False
        self._seen[folder] = newest, self.clock()
        return True

    def _keep_beating(self) -> None:
        while True:
            time.sleep(self.length / RENEWALS_PER_LEASE)
            self.beat()


def remove(path: Path) -> None:
    """Delete the files of a lock that is never taken again."""
    for name in _names(path):
        name.unlink(missing_ok=True)
    shutil.rmtree(leases_of(path), ignore_errors=True)


def _names(path: Path) -> tuple[Path, Path]:
    return path, path.with_name(f"{path.name}.range")


HERE = Locks()
"""The locks of this process."""
os.register_at_fork(after_in_child=HERE.forget)


def locked(path: Path) -> contextlib.AbstractContextManager[Lease | None]:
    """Wait for the lock and hold it. See `Locks.locked`."""
    return HERE.locked(path)


def take(path: Path) -> Held | None:
    """Take the lock; None if another process holds it."""
    return HERE.take(path)


def is_taken(path: Path) -> bool:
    """Return whether a process holds the lock. The files may be missing or read-only."""
    return HERE.is_taken(path)


@contextmanager
def settled(path: Path) -> Iterator[None]:
    """Wait until no process here holds the lock, and keep it free while reading. The folder may be read-only."""
    with open(path, encoding="utf-8") if path.exists() else nullcontext() as file:
        if file is not None:
            flock(file, fcntl.LOCK_SH)
        yield
