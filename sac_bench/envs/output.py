"""What environments print goes to a log: the terminal belongs to the command.

It is captured at the file descriptors, so C libraries and child processes are captured too.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_LIBC = ctypes.CDLL(None)
_log: _Log | None = None


class _Log:
    """A file that is made once there is something to write, in the temporary folder unless `keep_in` names another."""

    def __init__(self) -> None:
        self.wanted: Path | None = None
        self.path: Path | None = None
        self.is_open = False

    def add(self, title: str, text: BinaryIO) -> None:
        if not text.read(1):
            return
        text.seek(0)
        if self.path is None:
            self.path = self.wanted or _temporary()
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            file.write(f"--- {title}\n".encode())
            shutil.copyfileobj(text, file)

    def keep_in(self, path: Path) -> None:
        before, self.wanted, self.path = self.path, path, None
        if before is not None:
            with open(before, "rb") as text:
                self.add("before the plan", text)
            before.unlink()


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """For a command: what is captured meanwhile goes to a log, whose name is printed at the end."""
    global _log
    _log = log = _Log()
    try:
        yield
    finally:
        _log = None
        if log.path is not None:
            print(f"output of environments: {log.path}", flush=True)


def keep_in(path: Path) -> None:
    """Use this file as the command's log, also for what was captured before."""
    if _log is not None:
        _log.keep_in(path)


@contextlib.contextmanager
def captured(title: str) -> Iterator[None]:
    """Send what is written to standard output and standard error meanwhile to the command's log.

    Standard input is empty meanwhile, because nobody would see the question. A crash of the process is shown on the
    terminal. Does nothing where no command runs: a worker's output goes to its own log, a library's user sees it.
    """
    log = _log
    if log is None or log.is_open:
        yield
        return
    _flush()
    had_faulthandler = faulthandler.is_enabled()
    terminal = {}
    for number in (0, 1, 2):
        with contextlib.suppress(OSError):  # one may be closed
            terminal[number] = os.dup(number)
    with tempfile.TemporaryFile() as file, open(os.devnull, "rb") as nothing:
        try:
            for number in terminal:
                os.dup2((file if number else nothing).fileno(), number)
            if 2 in terminal:
                faulthandler.enable(terminal[2])
            log.is_open = True
            yield
        finally:
            log.is_open = False
            faulthandler.disable()
            if had_faulthandler:
                faulthandler.enable()
            try:
                _flush()
            finally:
                for number, copy in terminal.items():
                    os.dup2(copy, number)
                    os.close(copy)
            file.seek(0)
            log.add(title, file)


def _flush() -> None:
    for stream in filter(None, (sys.stdout, sys.stderr)):
        stream.flush()
    _LIBC.fflush(None)


def _temporary() -> Path:
    number, name = tempfile.mkstemp(prefix="sac-bench-", suffix=".txt")
    os.close(number)
    return Path(name)
