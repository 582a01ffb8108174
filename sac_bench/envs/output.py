"""Redirect the output of environments to a log, so that the terminal shows only the command's output.

Capturing file descriptors includes the output of C libraries and child processes.
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
    """A file that is created when there is output, in the temporary folder unless `keep_in` sets a path."""

    def __init__(self) -> None:
        self.requested: Path | None = None
        self.path: Path | None = None
        self.is_open = False

    def add(self, title: str, text: BinaryIO) -> None:
        if not text.read(1):
            return
        text.seek(0)
        if self.path is None:
            self.path = self.requested or _temporary()
            self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab") as file:
            file.write(f"--- {title}\n".encode())
            shutil.copyfileobj(text, file)

    def keep_in(self, path: Path) -> None:
        before, self.requested, self.path = self.path, path, None
        if before is not None:
            with open(before, "rb") as text:
                self.add("before the plan", text)
            before.unlink()


@contextlib.contextmanager
def logged() -> Iterator[None]:
    """Write captured output to a log during a command, and print the log's name at the end."""
    global _log
    _log = log = _Log()
    try:
        yield
    finally:
        _log = None
        if log.path is not None:
            print(f"output of environments: {log.path}", flush=True)


def keep_in(path: Path) -> None:
    """Use this file as the command's log, including for output captured before."""
    if _log is not None:
        _log.keep_in(path)


@contextlib.contextmanager
def captured(title: str) -> Iterator[None]:
    """Redirect standard output and standard error to the command's log, and keep the working folder.

    Standard input is empty, because a prompt would not be seen. A crash of the process is shown on the terminal.
    Outside a command this does nothing: a worker has its own log, and a library's user sees the output.
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
            with contextlib.chdir(os.curdir):  # restored at the end: an environment may change it
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
