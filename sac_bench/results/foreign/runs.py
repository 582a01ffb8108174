"""What every reader of a foreign format returns: runs with their returns, and what the files say of the protocol."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.errors import InputError

LABELS = ("variant", "env", "seed")
_PARTS = {"variant": r"(?P<variant>[^/]+?)", "env": r"(?P<env>[^/]+?)", "seed": r"(?P<seed>[0-9]+)"}


@dataclass(frozen=True)
class ForeignRun:
    """One run of another program."""

    where: Path
    """Its folder or file."""
    returns: pd.DataFrame
    """Columns step and return, and length if it is known: a row per evaluation or, as `ForeignResult` says, episode."""
    variant: str | None = None
    env: str | None = None
    seed: int | None = None
    card: Mapping[str, Any] = field(default_factory=dict)
    """The fields of the protocol card that its files state."""


@dataclass(frozen=True)
class ForeignResult:
    """All runs of a path, and whether a row of returns is one episode (else the mean of an evaluation)."""

    runs: Sequence[ForeignRun]
    rows_are_episodes: bool


Reader = Callable[[Path], ForeignResult]


def files_in(path: Path, pattern: str, what: str) -> list[Path]:
    """Return the file at a path, or all files in a folder, at any depth, that match a pattern; InputError for none."""
    found = [path] if path.is_file() else sorted(file for file in path.rglob(pattern) if file.is_file())
    if not found:
        reason = f"no {what} ({pattern}) in it" if path.is_dir() else "no such file or folder"
        raise InputError(f"{path}: {reason}; give the folder that holds the runs")
    return found


def csv_table(path: Path, needed: Iterable[str], **options: Any) -> pd.DataFrame:
    """Read a CSV file. Raises InputError if it cannot be read or lacks a column."""
    try:
        table: pd.DataFrame = pd.read_csv(path, **options)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None
    if missing := [name for name in needed if name not in table]:
        columns = ", ".join(map(str, table.columns))
        raise InputError(f"{path}: column {missing[0]!r} is missing; it has {columns}")
    return table


def json_object(file: Path) -> dict[str, Any]:
    """Return a JSON object, {} if there is no such file. Raises InputError if it is something else."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except ValueError as error:
        raise InputError(f"{file}: is not JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"{file}: is not a JSON object")
    return found


def agreed(cards: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the fields that all cards state, and state equally: what runs disagree about is unknown."""
    first, *others = cards
    return {name: value for name, value in first.items() if all(card.get(name) == value for card in others)}


def labelled(result: ForeignResult, root: Path, template: str | None) -> ForeignResult:
    """Return a result whose runs have the labels that a template finds in the paths of their folders below `root`.

    template: such as "{variant}/{env}_{seed}"; None: none. Raises InputError if a path does not match it.
    """
    if template is None:
        return result
    pattern = _pattern(template)
    return replace(result, runs=[_with_labels(run, root, template, pattern) for run in result.runs])


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{[^}]*\})", template)
    names = [part[1:-1] for part in parts[1::2]]
    if not names or any(name not in LABELS for name in names) or len(set(names)) < len(names):
        raise InputError(f"--paths {template}: must contain some of {{variant}}, {{env}} and {{seed}}, each once")
    between = [re.escape(part) if i % 2 == 0 else _PARTS[part[1:-1]] for i, part in enumerate(parts)]
    return re.compile("(?:.*/)?" + "".join(between))


def _with_labels(run: ForeignRun, root: Path, template: str, pattern: re.Pattern[str]) -> ForeignRun:
    folder = run.where.parent if run.where.is_file() else run.where
    below = folder.relative_to(root).as_posix() if folder.is_relative_to(root) else folder.as_posix()
    match = pattern.fullmatch(below)
    if match is None:
        raise InputError(f"{run.where}: its folder {below!r} does not match --paths {template}")
    found: dict[str, Any] = match.groupdict()
    return replace(run, **found | ({"seed": int(found["seed"])} if "seed" in found else {}))
