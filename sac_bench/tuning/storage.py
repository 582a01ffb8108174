"""Where trials are kept: a journal in the study's folder, or a database; opened, named and complained of."""

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
"""Without a heartbeat in a database, for an owner in another folder."""
CONNECT_SECONDS = 10
DRIVERS = {"postgresql": ("psycopg2", "psycopg"), "mysql": ("MySQLdb", "pymysql")}
"""Modules that speak to a database, the one that its plain URL means first."""
ATTEMPTS = 4
_MAKING_TABLES = (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.InternalError)
"""What a new database tells of several processes that make its tables at once: all but one try again."""


class KernelLock(BaseJournalFileLock):
    """The journal's lock, which ends with its process; a line that one killed while writing left half is cut off."""

    def __init__(self, journal: Path) -> None:
        self._journal, self._path = journal, journal.with_name(f".{journal.name}.lock")
        self._held = contextlib.ExitStack()

    def acquire(self) -> bool:
        """Wait for it."""
        self._held.enter_context(locks.locked(self._path))
        with open(self._journal, "rb+") as file:
            whole = file.read().rfind(b"\n") + 1 if not _ends_a_line(file) else None
            if whole is not None:
                file.truncate(whole)
        return True

    def release(self) -> None:
        """Give it back."""
        self._held.close()


def _ends_a_line(file: Any) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    ended = size == 0 or file.read(1) == b"\n"
    file.seek(0)
    return bool(ended)


def open_storage(url: str | None, folder: Path) -> JournalStorage | RDBStorage:
    """A journal in the study's folder, or a database; InputError that names a host that cannot be reached, and never
    its password."""
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
            "--storage: wants a URL as sqlite:///FILE, postgresql://USER:PASSWORD@HOST:PORT/DATABASE or "
            "mysql://...; a journal in the study's folder is the default"
        ) from None
    parsed = _with_driver(parsed)
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise InputError("--storage sqlite://: is in memory, where nothing is left to go on from; sqlite:///FILE")
    waits = {"connect_timeout": CONNECT_SECONDS} if parsed.get_backend_name() in DRIVERS else {"timeout": 60}
    for left in reversed(range(ATTEMPTS)):
        try:
            return RDBStorage(
                parsed.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": waits, "pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=DEAD_AFTER_SECONDS,
            )
        except Exception as error:  # drivers raise what they like
            at_once = isinstance(error, _MAKING_TABLES) or "already exists" in str(error)  # the last: MySQL, SQLite
            if left and at_once:
                time.sleep(1.0)
                continue
            raise InputError(f"--storage {shown(parsed)}: cannot be used: {said(error, parsed)}") from None
    raise AssertionError


def shown(url: sqlalchemy.URL) -> str:
    """A URL without its password, wherever in it that stands."""
    hidden = {key: "***" if "pass" in key.lower() else value for key, value in url.query.items()}
    return url.set(query=hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def place(url: str | None) -> str:
    """What a storage is called where it is told of: "journal", or its URL with the driver that is used."""
    return "journal" if url is None else shown(_with_driver(sqlalchemy.make_url(url)))


def hidden_in(text: str, url: str | None) -> str:
    """A command line that names a storage, without its password."""
    if url is None:
        return text
    try:
        plain = shown(sqlalchemy.make_url(url))
    except (sqlalchemy.exc.ArgumentError, ValueError):
        plain = "URL"
    return text.replace(shlex.quote(url), plain).replace(url, plain)


@contextlib.contextmanager
def telling_of(url: str | None) -> Iterator[None]:
    """Tell what a database refuses in the midst of a study as InputError, in a line and without its password."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        if url is None:
            raise
        parsed = sqlalchemy.make_url(url)
        raise InputError(f"--storage {shown(parsed)}: {said(error, parsed)}; the same command continues") from None


def said(error: BaseException, url: sqlalchemy.URL) -> str:
    """What a driver says is amiss, in a line, without the password."""
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
    """With the driver that is installed, where the URL names none."""
    if url.drivername not in DRIVERS:
        return url
    for module in DRIVERS[url.drivername]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            return url.set(drivername=f"{url.drivername}+{module.lower()}")
    raise InputError(
        f"--storage {shown(url)}: no driver for {url.drivername}; pip install {DRIVERS[url.drivername][-1]}"
    )
