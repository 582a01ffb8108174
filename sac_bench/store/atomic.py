"""Crash-safe files: written atomically, and verified by SHA-256."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic requires it before Python 3.12

from sac_bench.errors import InputError

FULL_DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT)
"""Errors of a disk that is full, or full for this user."""
STORAGE_FAULTS = (*FULL_DISK_ERRORS, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)
"""Errors of writing that another try does not help."""
TEMPORARY_PREFIX = ".tmp-"
"""Prefix of the names of temporary files; one that remains was left by a crash."""


class Fingerprint(TypedDict):
    """Length in bytes and hexadecimal SHA-256 of a file, or of its beginning."""

    bytes: int
    sha256: str


_PLAIN = re.compile(r"(?!(?i:gymnasium_))(gymnasium:)?[A-Za-z0-9][A-Za-z0-9._+=-]{0,79}")


def file_name(text: str, among: Iterable[str] = ()) -> str:
    """Return a part of a file name for an id or name. Different texts get different names.

    Plain names are kept, with "_" for the colon of "gymnasium:". All others get "~" and a digest, and so do names that
    equal one in `among` except for case, because some file systems ignore case.
    """
    ambiguous = any(other != text and other.casefold() == text.casefold() for other in among)
    if _PLAIN.fullmatch(text) and not ambiguous:
        return text.replace(":", "_")
    return f"{re.sub(r'[^A-Za-z0-9.-]', '_', text)[:60].lstrip('.')}~{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def write_atomically(path: Path, data: bytes, check: Callable[[], object] = lambda: None) -> None:
    """Replace a file atomically and durably: a crash leaves the old or the new content.

    `check` is called as late as possible, and may raise.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        check()
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def create(path: Path, data: bytes, durably: bool = True) -> bool:
    """Create a file with its whole content, and return True; return False if a file of this name exists.

    Of several processes, also on several machines, one succeeds. Where the file system has no hard links, a crash may
    leave the file without its content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{TEMPORARY_PREFIX}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        with open(beside, "wb") as file:
            _fill(file.fileno(), data, durably)
        try:
            os.link(beside, path)
        except FileExistsError:
            return beside.stat().st_nlink == 2  # NFS may repeat a request that had succeeded
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EMLINK):
                raise
            try:
                descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
            except FileExistsError:
                return False
            with contextlib.closing(os.fdopen(descriptor, "wb")):
                _fill(descriptor, data, durably)
    finally:
        beside.unlink(missing_ok=True)
    if durably:
        sync_folder(path.parent)
    return True


def _fill(descriptor: int, data: bytes, durably: bool) -> None:
    """Write data to an open file."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    if durably:
        os.fsync(descriptor)


def write_text(path: Path, text: str) -> None:
    """Replace a file atomically with UTF-8 text, in any locale. Undecodable bytes of file names are escaped."""
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def sync_folder(folder: Path) -> None:
    """Sync a folder's entries to disk, where the file system supports it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network file systems refuse to sync folders
    finally:
        os.close(descriptor)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write an object with the SHA-256 of its content, for `read_json`. NaN and infinity become null."""
    write_atomically(path, json_bytes(value))


def create_json(path: Path, value: dict[str, Any]) -> bool:
    """Create a file as `write_json` writes it, and return True; return False if a file of this name exists."""
    return create(path, json_bytes(value))


def json_bytes(value: dict[str, Any]) -> bytes:
    """Return what `write_json` writes."""
    value = finite(value)
    text = json.dumps(value | {"sha256": _digest(value)}, indent=1, allow_nan=False)
    return f"{text}\n".encode()


def finite(value: Any) -> Any:
    """Return the value with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON object and verify its SHA-256; an object without one (written by hand) is accepted.

    Raises InputError if the file is not a JSON object or was changed, and FileNotFoundError.
    """
    return parse_json(path.read_bytes(), path)


def parse_json(content: bytes, path: Path) -> dict[str, Any]:
    """Return the JSON object that a file with this content has. See `read_json`."""
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        raise InputError(f"{path}: damaged: not JSON") from None
    if not isinstance(value, dict):
        raise InputError(f"{path}: damaged: not a JSON object")
    if value.pop("sha256", None) not in (None, _digest(value)):
        raise InputError(f"{path}: damaged: its contents are not those that were written")
    return value


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def fingerprint(path: Path) -> Fingerprint:
    """Return the fingerprint of a whole file."""
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def fingerprint_of(data: bytes) -> Fingerprint:
    """Return the fingerprint of a file with this content."""
    return {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def check(path: Path, expected: Fingerprint, grown: bool = False) -> None:
    """Raise InputError unless the file has this fingerprint, or with `grown` starts with content that has it."""
    try:
        size = path.stat().st_size
        if size < expected["bytes"]:
            raise InputError(f"{path}: damaged: cut to {size} of {expected['bytes']} bytes")
        if grown and size > expected["bytes"]:
            with open(path, "rb") as file:
                digest = hashlib.sha256(file.read(expected["bytes"])).hexdigest()
        else:
            digest = fingerprint(path)["sha256"]
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except (TypeError, KeyError):
        raise InputError(f"{path}: cannot be verified: its length and SHA-256 were not recorded") from None
    if digest != expected["sha256"]:
        raise InputError(f"{path}: damaged: its bytes are not those that were written")
