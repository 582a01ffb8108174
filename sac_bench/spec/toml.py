"""Input files: TOML read and checked, everything amiss told in one line with file and key."""

from __future__ import annotations

import codecs
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sac_bench.errors import InputError, nearest, one_line

MAX_BYTES = 2**17  # of a file: every seed of 10,000 written out fits


@contextmanager
def located(where: str) -> Iterator[None]:
    """An InputError from within says where the cause is."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def read(path: Path) -> dict[str, Any]:
    """A file's tables; InputError where it is none."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)  # what is no experiment may be endless
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else Path()
        hint = nearest(path.name, [p.name for p in folder.glob("*.toml")])
        raise InputError(f"{path}: no such file{hint}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a name with a NUL
        raise InputError(f"{one_line(str(path))}: cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: too large for an experiment file: more than {MAX_BYTES // 1024} KiB")
    text = _text(data, path)
    if not text.strip():
        raise InputError(f"{path}: the file is empty; it wants at least name, envs, steps and [variants.NAME]")
    try:
        return _parse(text)
    except ValueError as error:
        raise InputError(f"{path}: not valid TOML: {error}") from None


def _text(data: bytes, path: Path) -> str:
    """A file's UTF-8, without the byte order mark that some editors write."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise InputError(f"{path}: must be UTF-8 text; this is UTF-16 or no text: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: must be UTF-8 text; line {line} is not: save it as UTF-8") from None


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two files' tables as one: key by key, of both where both are tables, else the one above."""
    both = lambda key: isinstance(below.get(key), dict) and isinstance(above[key], dict)
    return {**below, **{key: merged(below[key], above[key]) if both(key) else above[key] for key in above}}


def _parse(text: str) -> dict[str, Any]:
    """TOML; ValueError for what is none."""
    try:
        table = tomllib.loads(text)
        _check_integers(table)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return table


def _check_integers(value: Any, key: str = "") -> None:
    """TOML's integers have 64 bits, but `tomllib` reads longer ones, which no float or tensor holds."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{key}: an integer of more than 64 bits")
    for name, part in value.items() if isinstance(value, dict) else ():
        _check_integers(part, f"{key}.{name}" if key else name)
    for part in value if isinstance(value, list) else ():
        _check_integers(part, key)


def setting(text: str, known: Collection[str]) -> tuple[str, Any]:
    """A command line's KEY=VALUE, the value as TOML has it or, a bare word, as a string."""
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign or not key:
        raise InputError(f"--set {text}: wants KEY=VALUE")
    if key not in known:
        raise InputError(f"--set {key}: unknown key{nearest(key, known)}")
    try:
        table = _parse(f"value = {value}")
    except ValueError:
        table = {}
    return key, table["value"] if list(table) == ["value"] else value.strip()  # a bare word is a string


def _key(location: Sequence[Any], values: Any) -> str:
    """The dotted key that pydantic's location leads to; beyond the keys of the input it names types."""
    parts: list[str] = []
    for part in location:
        if parts and not (isinstance(values, dict) and part in values):
            break
        parts.append(str(part))
        values = values.get(part) if isinstance(values, dict) else None
    return ".".join(parts)


def validate(model: type[Any], values: dict[str, Any], where: str, places: Mapping[str, str] | None = None) -> Any:
    """The model of these values; InputError for the first that it refuses.

    `where` they come from, and of single keys `places`.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        key = _key(first["loc"], values)
        where = (places or {}).get(key.partition(".")[0], where)
        if first["type"] == "extra_forbidden":
            raise InputError(f"{where}: {key}: unknown key{nearest(key, model.model_fields)}") from None
        if first["type"] == "missing":
            raise InputError(f"{where}: {key}: is missing") from None
        message = first["msg"].removeprefix("Value error, ")
        message = message[0].lower() + message[1:]
        given = f", not {first['input']!r}" if key and first["type"] != "value_error" else ""
        raise InputError(f"{where}: {key + ': ' if key else ''}{message}{given}") from None
