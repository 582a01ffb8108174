"""Files that outlive crashes: replaced whole and synced, or found to be damaged."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from typing_extensions import TypedDict  # pydantic requires it before Python 3.12

from sac_bench.errors import InputError

BESIDE = ".tmp-"
"""How the name of a file begins that is being written; one that is left was cut short by a crash."""


class Fingerprint(TypedDict):
    """What a file, or its beginning, was: length and SHA-256 in hexadecimal."""

    bytes: int
    sha256: str


_PLAIN = re.compile(r"(?!(?i:gymnasium_))(gymnasium:)?[A-Za-z0-9][A-Za-z0-9._+=-]{0,79}")


def file_name(text: str, among: Iterable[str] = ()) -> str:
    """An id or name as part of a file's name, another one for every text.

    A plain one stays as it is, with "_" for the colon of "gymnasium:". Others end in "~" and a digest, as do those that
    differ from another `among` these in upper and lower case alone, which some file systems do not tell apart.
    """
    alike = any(other != text and other.casefold() == text.casefold() for other in among)
    if _PLAIN.fullmatch(text) and not alike:
        return text.replace(":", "_")
    return f"{re.sub(r'[^A-Za-z0-9.-]', '_', text)[:60].lstrip('.')}~{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file whole, or not at all, whatever happens to the process or the machine."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{BESIDE}{uuid.uuid4().hex[:8]}-{path.name}")
    try:
        with open(beside, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """Replace a file with UTF-8 text in every locale. Bytes of file names that are not text are escaped."""
    write_atomically(path, text.encode("utf-8", "backslashreplace"))


def sync_folder(folder: Path) -> None:
    """Make the names in a folder outlive a power failure, where the system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some network filesystems refuse to sync folders
    finally:
        os.close(descriptor)


def write_json(path: Path, value: dict[str, Any]) -> None:
    """An object for `read_json`, with the SHA-256 of its contents among them; null for NaN and infinity."""
    value = finite(value)
    text = json.dumps(value | {"sha256": _digest(value)}, indent=1, allow_nan=False)
    write_text(path, text + "\n")


def finite(value: Any) -> Any:
    """The same with None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object, as it was written; InputError when the file holds none or another, FileNotFoundError without it.

    One without a SHA-256 (written by hand, or by an older version) is taken as it is.
    """
    try:
        value = json.loads(path.read_bytes())
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
    """Of a whole file."""
    with open(path, "rb") as file:
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def check(path: Path, expected: Fingerprint, grown: bool = False) -> None:
    """InputError unless the file is, or with `grown` begins with, what it was when its fingerprint was taken."""
    try:
        size = path.stat().st_size
        if size < expected["bytes"]:
            raise InputError(f"{path}: damaged: cut to {size} of {expected['bytes']} bytes")
        if grown and size > expected["bytes"]:
            with open(path, "rb") as file:
                found = hashlib.sha256(file.read(expected["bytes"])).hexdigest()
        else:
            found = fingerprint(path)["sha256"]
    except FileNotFoundError:
        raise InputError(f"{path}: missing") from None
    except (TypeError, KeyError):
        raise InputError(f"{path}: what it must be is not known: no length and SHA-256") from None
    if found != expected["sha256"]:
        raise InputError(f"{path}: damaged: its bytes are not those that were written")
