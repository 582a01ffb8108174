"""Finds the line numbers of errors in files. `tomllib` gives no positions, so keys are searched in the text."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sac_bench.errors import InputError, several
from sac_bench.spec.includes import needed
from sac_bench.spec.toml import contents, shown

Key = tuple[str, ...]
_TOKEN = re.compile(
    r'"""(?:\\.|[^\\])*?"""|' + r"'''.*?'''|" + r'"(?:\\.|[^"\\\n])*"|' + r"'[^'\n]*'|#[^\n]*|.", re.DOTALL
)
_PLACE = re.compile(r"\[(?P<table>.+?)\](?::? (?P<key>[^\s:]+):)?|(?P<top>[^\s:\[\]]+):")
"""How messages begin: "[table] key: ", "[table]: key: ", "[table]: " or "key: "."""


@contextmanager
def with_lines(path: Path, quick: bool = False, given: Collection[str] = ()) -> Iterator[None]:
    """Add the line to every error of the block that is about a key of a file, or of a file that it includes.

    quick: whether the file's table [quick] applies; given: keys that the command line overrides, whose lines are right.
    """
    try:
        yield
    except InputError as error:
        numbered = [_with_line(part, path, quick, given) for part in error.parts]
        raise several(part for _, part in sorted(numbered, key=lambda one: one[0])) from None


def _with_line(error: InputError, path: Path, quick: bool, given: Collection[str]) -> tuple[int, InputError]:
    """Return the line that an error is about, 0 if it is about none, and the error with it."""
    place = str(error).removeprefix(f"{path}: ")
    key = _key_of(place)
    if place == str(error) or not key or key.partition(".")[0] in given:
        return 0, error
    try:
        texts = {one: contents(one) for one in (path, *reversed(needed(path)))}
        lines = {one: key_lines(text) for one, text in texts.items()}
    except (OSError, ValueError):  # the error is about one of these files
        return 0, error
    for name in _prefixes(key):
        for table in ("quick.", "") if quick else ("",):
            for file, known in lines.items():
                if (line := known.get(table + name)) is not None:
                    line = _line_of_element(place, texts[file], line, known.values())
                    return line, InputError(f"{file}:{line}: {place}", shown(texts[file], line))
    return 0, error


def _line_of_element(message: str, text: str, line: int, lines: Iterable[int]) -> int:
    """Return the line of a value of several lines that has what the message quotes first; `line` if none has it."""
    quoted = re.search(r"'([^']+)'", message)
    end = min((other for other in lines if other > line), default=text.count("\n") + 2)
    within = enumerate(text.split("\n")[line - 1 : end - 1], line)
    return next((number for number, part in within if quoted and quoted[1] in part), line)


def _key_of(message: str) -> str:
    """Return the dotted key that a message begins with, "" if it begins with none."""
    if (match := _PLACE.match(message)) is None:
        return ""
    return match["top"] or ".".join(part for part in (match["table"], match["key"]) if part)


def _prefixes(key: str) -> list[str]:
    """Return "a.b.c", "a.b" and "a" of "a.b.c"."""
    parts = key.split(".")
    return [".".join(parts[:n]) for n in range(len(parts), 0, -1)]


def key_lines(text: str) -> dict[str, int]:
    """Return {dotted key: the line, from 1, of its table or value} of valid TOML; without those in inline tables."""
    lines: dict[str, int] = {}
    table: Key = ()
    for line, statement in _statements(text):
        is_table = statement.startswith("[")
        key = _parts(statement.strip("[]")) if is_table else (*table, *_parts(statement))
        table = key if is_table else table
        lines.setdefault(".".join(key), line)
    return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Yield (line, header of a table, or key without its value) of every statement."""
    line, depth, start, statement, in_value = 1, 0, 1, "", False
    for token in [*_TOKEN.findall(text), "\n"]:
        if token == "\n" and (depth == 0 or not in_value):
            if statement.strip():
                yield start, statement.strip()
            statement, in_value, depth = "", False, 0
        elif token.startswith("#"):
            pass
        elif token == "=" and not in_value and depth == 0:
            in_value = True
        else:
            depth += (token in "[{") - (token in "]}") if len(token) == 1 else 0
            if not in_value:
                start = start if statement.strip() else line
                statement += token
        line += token.count("\n")


def _parts(key: str) -> Key:
    """Return the parts of a key as TOML writes it: ("on", "Hopper-v5") for `on."Hopper-v5"`."""
    parts: list[str] = []
    table = tomllib.loads(f"{key} = 0")
    while isinstance(table, dict):
        ((name, table),) = table.items()
        parts.append(name)
    return tuple(parts)
