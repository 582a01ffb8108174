"""Opens the storage of trials, a journal in the study's folder or a database, and reports its errors."""

from __future__ import annotations

import contextlib
import importlib
import os
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock

from sac_bench.errors import InputError, one_line
from sac_bench.store import locks

JOURNAL = "journal.log"
HEARTBEAT_SECONDS = 30
DEAD_AFTER_SECONDS = 180
"""Time without a heartbeat in a database after which an owner in another folder is considered dead."""
CONNECT_SECONDS = 10
DRIVERS = {"postgresql": ("psycopg2", "psycopg"), "mysql": ("MySQLdb", "pymysql")}
"""Drivers of databases; the first is SQLAlchemy's default."""
MAX_ATTEMPTS = 4
_CONCURRENT_CREATION_ERRORS = (
    sqlalchemy.exc.IntegrityError,
    sqlalchemy.exc.ProgrammingError,
    sqlalchemy.exc.InternalError,
)
"""Raised if several processes create the tables of a new database at once: all but one must retry."""


class KernelLock(BaseJournalFileLock):
    """The journal's lock, which ends with its process. It cuts off an incomplete line that a killed process left."""

    def __init__(self, journal: Path) -> None:
        self._journal, self._path = journal, journal.with_name(f".{journal.name}.lock")
        self._held = contextlib.ExitStack()

    def acquire(self) -> bool:
        """Wait for the lock."""
        self._held.enter_context(locks.locked(self._path))
        with open(self._journal, "rb+") as file:
            complete = file.read().rfind(b"\n") + 1 if not _ends_a_line(file) else None
            if complete is not None:
                file.truncate(complete)
        return True

    def release(self) -> None:
        """Release the lock."""
        self._held.close()


def _ends_a_line(file: Any) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    complete = size == 0 or file.read(1) == b"\n"
    file.seek(0)
    return bool(complete)


def open_storage(url: str | None, folder: Path) -> JournalStorage | RDBStorage:
    """Open the database of a URL, or a journal in the study's folder; InputError without password if that fails."""
    if url is None:
        path = folder / JOURNAL
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path)))
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise InputError(f"{path}: damaged: {type(error).__name__}: {error}") from None
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise InputError(
            "--storage: must be a URL such as sqlite:///FILE, postgresql://USER:PASSWORD@HOST:PORT/DATABASE or "
            "mysql://...; the default is a journal in the study's folder"
        ) from None
    parsed = _with_driver(parsed)
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise InputError("--storage sqlite://: is in memory and would be lost; use sqlite:///FILE")
    timeouts = {"connect_timeout": CONNECT_SECONDS} if parsed.get_backend_name() in DRIVERS else {"timeout": 60}
    for attempts_left in reversed(range(MAX_ATTEMPTS)):
        try:
            return RDBStorage(
                parsed.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": timeouts, "pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=DEAD_AFTER_SECONDS,
            )
        except Exception as error:  # drivers raise any exception
            concurrent = isinstance(error, _CONCURRENT_CREATION_ERRORS) or "already exists" in str(
                error
            )  # the last: MySQL, SQLite
            if attempts_left and concurrent:
                time.sleep(1.0)
                continue
            raise InputError(f"--storage {shown(parsed)}: cannot be used: {reason(error, parsed)}") from None
    raise AssertionError


def shown(url: sqlalchemy.URL) -> str:
    """Return a URL without its password, also if that is an argument."""
    hidden = {key: "***" if "pass" in key.lower() else value for key, value in url.query.items()}
    return url.set(query=hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def place(url: str | None) -> str:
    """Return the name of a storage for reports: "journal", or the URL with its driver and without password."""
    return "journal" if url is None else shown(_with_driver(sqlalchemy.make_url(url)))


def hidden_in(text: str, url: str | None) -> str:
    """Return a command line without the password of its storage URL."""
    if url is None:
        return text
    try:
        plain = shown(sqlalchemy.make_url(url))
    except (sqlalchemy.exc.ArgumentError, ValueError):
        plain = "URL"
    return text.replace(shlex.quote(url), plain).replace(url, plain)


@contextlib.contextmanager
def database_errors(url: str | None) -> Iterator[None]:
    """Convert database errors in the block to an InputError of one line without the password."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        if url is None:
            raise
        parsed = sqlalchemy.make_url(url)
        raise InputError(
            f"--storage {shown(parsed)}: {reason(error, parsed)}; run the same command to continue"
        ) from None


def reason(error: BaseException, url: sqlalchemy.URL) -> str:
    """Return a driver's error message in one line, without the password."""
    if isinstance(error, ImportError) and error.name:
        return f"the package {error.name} is not installed"
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    text = " ".join(str(cause).split())
    secrets = [str(value) for key, value in url.query.items() if "pass" in key.lower()]
    for secret in [str(url.password or ""), *secrets]:
        for form in {secret, quote(secret, safe=""), unquote(secret)} - {""}:
            text = text.replace(form, "***")
    return one_line(text, 400)


def _with_driver(url: sqlalchemy.URL) -> sqlalchemy.URL:
    """Return the URL with an installed driver if it names none; InputError if none is installed."""
    if url.drivername not in DRIVERS:
        return url
    for module in DRIVERS[url.drivername]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            return url.set(drivername=f"{url.drivername}+{module.lower()}")
    raise InputError(
        f"--storage {shown(url)}: no driver for {url.drivername}; pip install {DRIVERS[url.drivername][-1]}"
    )
