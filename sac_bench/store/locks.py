"""Files that one process holds at a time, here or on another machine that shares the filesystem.

A lock is the kernel's (`flock`): it ends with the process that holds it, however that ends, so nothing is ever
left locked. Linux passes it on over NFS; other shared filesystems may want an option for it (Lustre: `-o flock`).
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
    """Hold the lock, after waiting for whoever has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as file:
        _flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def settled(path: Path) -> Iterator[None]:
    """Keep those who would hold the lock out while reading, after waiting for them; the folder may be read-only."""
    with open(path, encoding="utf-8") if path.exists() else nullcontext() as file:
        if file is not None:
            _flock(file, fcntl.LOCK_SH)
        yield


def take(path: Path) -> IO[Any] | None:
    """The lock, held until this file and every copy that a child inherited is closed; None when another has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = open(path, "a", encoding="utf-8")  # noqa: SIM115
    if hold(file):
        return file
    file.close()
    return None


def hold(file: IO[Any]) -> bool:
    """Lock an open file until it is closed; False when another has it."""
    return _flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_taken(path: Path) -> bool:
    """Whether somebody holds the lock; it need not exist, nor be writable."""
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
                f"{file.name}: this filesystem has no file locks, which keep two trainings apart; "
                "use --results on one that has"
            ) from None
        raise
    return True
