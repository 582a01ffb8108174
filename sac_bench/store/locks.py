"""File locks between processes, also on other machines that share the file system.

A lock is the kernel's (`flock`). It ends with the process that holds it, even if that is killed, so no lock is left
behind. Linux supports it over NFS; other shared file systems may require an option (Lustre: `-o flock`).
"""

from __future__ import annotations

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import IO, Any

from sac_bench.errors import InputError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Wait for the lock and hold it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        _flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def settled(path: Path) -> Iterator[None]:
    """Wait until nobody holds the lock, and keep it free while reading. The folder may be read-only."""
    with open(path, encoding="utf-8") if path.exists() else nullcontext() as file:
        if file is not None:
            _flock(file, fcntl.LOCK_SH)
        yield


def take(path: Path) -> IO[Any] | None:
    """Take the lock; None if another process holds it.

    It is held until the returned file and every copy that a child inherited are closed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    if hold(file):
        return file
    file.close()
    return None


def hold(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; return False if another process holds the lock."""
    return _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_taken(path: Path) -> bool:
    """Return whether a process holds the lock. The file may be missing or read-only."""
    try:
        with open(path, encoding="utf-8") as file:
            return not _flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False


def _flock(file: IO[Any], operation: int) -> bool:
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
