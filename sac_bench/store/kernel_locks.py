"""The kernel's locks on an open file: on the whole file, and on a byte range of it."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Callable
from typing import IO, Any

from sac_bench.errors import InputError

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
