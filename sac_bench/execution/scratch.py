"""Temporary folders of processes that may be killed: the next process on the same machine deletes them."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import socket
import stat
import tempfile
from pathlib import Path
from typing import IO

from sac_bench.store.atomic import file_name


def temporary_folder() -> tuple[Path, IO[str]]:
    """Make a folder, and delete those of processes that were killed. Return it with its lock.

    The folder is kept while this process or one that inherited the lock lives. Folders of other machines are left
    alone, because their locks may not be seen here. Raises PermissionError if the place of all these folders belongs to
    another user.
    """
    above = _private(
        _private(Path(tempfile.gettempdir()) / f"sac-bench-{os.getuid()}") / file_name(socket.gethostname())
    )
    with open(above / "lock", "a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for held in above.glob("*/held"):
            with open(held, "a", encoding="utf-8") as other, contextlib.suppress(BlockingIOError):
                fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(held.parent, ignore_errors=True)
        folder = Path(tempfile.mkdtemp(dir=above))
        own = open(folder / "held", "a", encoding="utf-8")  # noqa: SIM115 - it is held until the process ends
        fcntl.flock(own, fcntl.LOCK_EX)
    return folder, own


def _private(folder: Path) -> Path:
    """Make a folder that only this user can write to; PermissionError if another user's is there."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o022:
        raise PermissionError(errno.EPERM, "another user owns it, or may write to it", str(folder))
    return folder
