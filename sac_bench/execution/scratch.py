"""Temporary folders of processes that may be killed: the next process deletes them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from pathlib import Path
from typing import IO


def temporary_folder() -> tuple[Path, IO[str]]:
    """Make a folder, and delete those of processes that were killed. A process locks its folder until it ends."""
    above = Path(tempfile.gettempdir()) / f"sac-bench-{os.getuid()}"
    above.mkdir(mode=0o700, exist_ok=True)
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
