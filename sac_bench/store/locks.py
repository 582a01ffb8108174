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
import errno
import fcntl
import json
import os
import shutil
import socket
import struct
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from sac_bench.errors import InputError
from sac_bench.store.atomic import BESIDE, FULL, create

LEASE_SECONDS = 60.0
"""Time without a renewal after which another machine takes a lease over."""
BEATS = 4
"""Renewals per length."""
RECENT_SECONDS = 1.0
"""Time after a renewal in which a lease is held without a look at it: far below its length."""
RELEASED = b"released"
"""Content of a number that gives a lease back."""
POLL_SECONDS = 0.1
KernelLock = Callable[[IO[Any], int], bool]
"""Locks an open file as `fcntl.flock` does; returns False if another process holds the lock."""


def flock(file: IO[Any], operation: int) -> bool:
    """Lock a whole file. Raises InputError if its file system has no locks."""
    try:
        fcntl.flock(file, operation)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
            raise InputError(
                f"{file.name}: this file system does not support file locks, which are required; "
                "use --results on one that does"
            ) from None
        raise
    return True


def lock_range(file: IO[Any], operation: int) -> bool:
    """Lock the first byte of a file, where the system can do so for an open file that children inherit."""
    if not hasattr(fcntl, "F_OFD_SETLK"):
        return True
    kind = fcntl.F_RDLCK if operation & fcntl.LOCK_SH else fcntl.F_WRLCK
    command = fcntl.F_OFD_SETLK if operation & fcntl.LOCK_NB else fcntl.F_OFD_SETLKW
    try:
        fcntl.fcntl(file, command, struct.pack("hhqqixxxx", kind, os.SEEK_SET, 0, 1, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL):
            raise
    return True


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


def _clock() -> float:
    """Return seconds of a clock that also runs while the machine sleeps, where the system has one."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


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


class Lease:
    """A lease that this process, or the one that gave it the token, has taken."""

    def __init__(
        self, folder: Path, token: str, process: Process, length: float, clock: Callable[[], float] = _clock
    ) -> None:
        self.folder, self.token, self._clock = folder, token, clock
        self._renewed = -float("inf")
        self._content = json.dumps({**asdict(process), "token": token, "length": length}).encode()

    def take(self, number: int) -> bool:
        """Take the lease by creating this number of it; False if another process was first."""
        return self._create(number, self._content)

    def _create(self, number: int, content: bytes) -> bool:
        """Create a number of the lease, and drop the numbers before; False if another one was created first."""
        mine, began = self.folder / str(number), self._clock()
        if not create(mine, content, durably=False):
            return False
        if max(numbers := _numbers(self.folder), default=number) > number:  # this process was paused for long
            mine.unlink(missing_ok=True)
            return False
        for old in numbers:
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
        newest = _newest(self.folder)
        if newest is None or _token(newest[1]) != self.token:
            return None
        return self._create(newest[0] + 1, content)

    def release(self) -> None:
        """Give the lease back, unless another process has taken it."""
        while self._next(RELEASED) is False:
            pass


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
    clock: Callable[[], float] = _clock
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
                if error.errno not in FULL:
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
        newest = _newest(leases_of(path))
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
        newest = _newest(folder)
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
        if _age(folder / str(number)) > 2 * length:
            return False
        self._seen[folder] = newest, self.clock()
        return True

    def _keep_beating(self) -> None:
        while True:
            time.sleep(self.length / BEATS)
            self.beat()


def leases_of(path: Path) -> Path:
    """Return the folder of a lock's leases."""
    return path.with_name(f"{path.name}.leases")


def remove(path: Path) -> None:
    """Delete the files of a lock that is never taken again."""
    for name in _names(path):
        name.unlink(missing_ok=True)
    shutil.rmtree(leases_of(path), ignore_errors=True)


def _names(path: Path) -> tuple[Path, Path]:
    return path, path.with_name(f"{path.name}.range")


def _numbers(folder: Path) -> list[int]:
    try:
        return [int(name) for name in os.listdir(folder) if name.isdecimal()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _newest(folder: Path) -> tuple[int, bytes] | None:
    """Return the number and content of the newest lease; None if there is none."""
    while numbers := _numbers(folder):
        with contextlib.suppress(FileNotFoundError):  # renewed or released in between
            return max(numbers), (folder / str(max(numbers))).read_bytes()
    return None


def _age(path: Path) -> float:
    """Return the seconds since a file was written, by its server's clock; 0 if they cannot be known."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=BESIDE) as now:
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
    """Wait until nobody on this machine holds the lock, and keep it free while reading. The folder may be read-only."""
    with open(path, encoding="utf-8") if path.exists() else nullcontext() as file:
        if file is not None:
            flock(file, fcntl.LOCK_SH)
        yield
