"""Reads and validates TOML input files. Every error names file and key; spec/lines.py adds the line."""

from __future__ import annotations

import codecs
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from sac_bench.errors import InputError, Problems, nearest, one_line, several

MAX_BYTES = 2**17  # of a file: room for a list of 10,000 seeds


@contextmanager
def located(where: str) -> Iterator[None]:
    """Prefix the messages of an InputError from the block with `where`."""
    try:
        yield
    except InputError as error:
        raise several(InputError(f"{where}: {part}", part.shown) for part in error.parts) from None


def read(path: Path) -> dict[str, Any]:
    """Return a file's tables; InputError if it cannot be read or is not valid TOML."""
    try:
        with open(path, "rb") as file:
            data = file.read(MAX_BYTES + 1)  # other files may be endless
    except FileNotFoundError:
        folder = path.parent if path.parent.is_dir() else Path()
        hint = nearest(path.name, [p.name for p in folder.glob("*.toml")])
        raise InputError(f"{path}: no such file{hint}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError as error:  # a NUL in the name
        raise InputError(f"{one_line(str(path))}: cannot be read: {error}") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path}: too large for an experiment file: more than {MAX_BYTES // 1024} KiB")
    text = _text(data, path)
    if not text.strip():
        raise InputError(f"{path}: the file is empty; it requires at least name, envs, steps and [variants.NAME]")
    try:
        return _parse(text)
    except ValueError as error:
        match = re.search(r"^(.*) \(at line (\d+), column \d+\)$", str(error), re.DOTALL)
        if match is None:
            raise InputError(f"{path}: not valid TOML: {error}") from None
        line = int(match[2])
        raise InputError(f"{path}:{line}: not valid TOML: {match[1]}", shown(text, line)) from None


def shown(text: str, line: int) -> str:
    """Return a line of a text as errors show it: "  12 | critics = 0"."""
    lines = text.split("\n")  # not `splitlines`, for which there are more ends of lines than for TOML
    return f"{line:>5} | {lines[line - 1].rstrip()[:200]}"


def contents(path: Path) -> str:
    """Return a file's text, which `read` accepts."""
    return _text(path.read_bytes(), path)


def _text(data: bytes, path: Path) -> str:
    """Decode a file's UTF-8, without the byte order mark that some editors write."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) or b"\0" in data:
        raise InputError(f"{path}: must be UTF-8 text; this is UTF-16 or binary: save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}: must be UTF-8 text; line {line} is not: save it as UTF-8") from None


def merged(lower: Mapping[str, Any], upper: Mapping[str, Any]) -> dict[str, Any]:
    """Merge tables recursively; values of `upper` take precedence."""
    result = {**lower, **upper}
    for key in lower.keys() & upper.keys():
        if isinstance(lower[key], dict) and isinstance(upper[key], dict):
            result[key] = merged(lower[key], upper[key])
    return result


def _parse(text: str) -> dict[str, Any]:
    """Parse TOML; ValueError if it is invalid."""
    try:
        table = tomllib.loads(text, parse_float=_number)
        _check_integers(table)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return table


def _number(text: str) -> float:
    """Return a TOML float; as an integer if it has an exponent and is whole: people write 1e6 for a number of steps."""
    value = float(text)
    return int(value) if "e" in text.lower() and value.is_integer() and abs(value) < 2**53 else value


def _check_integers(value: Any, key: str = "") -> None:
    """Raise ValueError for integers of more than 64 bits. TOML forbids them, but `tomllib` reads them."""
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise ValueError(f"{key}: an integer of more than 64 bits")
    for name, part in value.items() if isinstance(value, dict) else ():
        _check_integers(part, f"{key}.{name}" if key else name)
    for part in value if isinstance(value, list) else ():
        _check_integers(part, key)


def setting(text: str, known: Collection[str]) -> tuple[str, Any]:
    """Parse KEY=VALUE of the command line. The value is parsed as TOML; "64,64" is a list; a bare word is a string."""
    key, sign, value = text.partition("=")
    key = key.strip()
    if not sign or not key:
        raise InputError(f"--set {text}: must be KEY=VALUE")
    if key not in known:
        raise InputError(f"--set {key}: unknown key{nearest(key, known)}")
    for written in (value, f"[{value}]") if "," in value else (value,):
        try:
            table = _parse(f"value = {written}")
        except ValueError:
            continue
        if list(table) == ["value"]:
            return key, table["value"]
    return key, value.strip()


def _key(location: Sequence[Any], values: Any) -> str:
    """Return the dotted key of pydantic's location, without the names of types that pydantic appends to it."""
    parts: list[str] = []
    for part in location:
        if parts and not (isinstance(values, dict) and part in values):
            break
        parts.append(str(part))
        values = values.get(part) if isinstance(values, dict) else None
    return ".".join(parts)


def validate(model: type[Any], values: dict[str, Any], where: str, places: Mapping[str, str] | None = None) -> Any:
    """Return a pydantic model of the values; InputError for all invalid ones.

    where: the origin of the values, for messages; places: the origins of single keys.
    """
    try:
        return model.model_validate(values)
    except ValidationError as error:
        by_key = {_key(one["loc"], values): one for one in reversed(error.errors())}  # a union has an error per type
    at = places or {}
    errors = [_error(key, one, at.get(key.partition(".")[0], where), model) for key, one in reversed(by_key.items())]
    raise several(errors)


def validate_known(
    model: type[Any],
    values: dict[str, Any],
    where: str,
    problems: Problems,
    stand_ins: Mapping[str, Any] | None = None,
) -> Any:
    """Return a model as `validate`, but note unknown keys of the highest level, and go on without them.

    stand_ins: {key: a valid value}. An invalid value of these keys is also noted, and replaced, so that the caller can
    check the rest of the file.
    """
    unknown = {key: value for key, value in values.items() if key not in model.model_fields}
    for key in unknown:
        problems.errors.append(InputError(f"{where}: {key}: unknown key{nearest(key, model.model_fields)}"))
    known = {key: value for key, value in values.items() if key not in unknown}
    try:
        return validate(model, known, where)
    except InputError as error:
        problems.errors.append(error)
    replaced = {key: (stand_ins or {}).get(key, known[key]) for key in _invalid(model, known) if key in known}
    try:
        return validate(model, known | replaced, where)
    except InputError:
        raise several(problems.errors) from None


def _invalid(model: type[Any], values: dict[str, Any]) -> set[str]:
    """Return the keys of the highest level that are invalid or missing."""
    try:
        model.model_validate(values)
    except ValidationError as error:
        return {str(one["loc"][0]) for one in error.errors() if one["loc"]}
    return set()


def _error(key: str, error: Mapping[str, Any], where: str, model: type[Any]) -> InputError:
    """Return pydantic's error about a key in this project's words."""
    if error["type"] == "extra_forbidden":
        return InputError(f"{where}: {key}: unknown key{nearest(key, model.model_fields)}")
    if error["type"] == "missing":
        return InputError(f"{where}: {key}: is required")
    if error["type"] == "too_short":
        least = error["ctx"]["min_length"]
        return InputError(f"{where}: {key}: must {'not be empty' if least == 1 else f'have at least {least} items'}")
    message = error["msg"].removeprefix("Value error, ")
    message = message[0].lower() + message[1:]
    given = f", not {error['input']!r}" if key and error["type"] != "value_error" else ""
    return InputError(f"{where}: {key + ': ' if key else ''}{message}{given}")
