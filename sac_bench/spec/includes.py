"""Lists experiment files in folders, and merges a file's tables with its `common` files and its [quick] table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sac_bench.errors import InputError
from sac_bench.spec.toml import merged, read


def files(paths: Iterable[Path]) -> list[Path]:
    """Return experiment files without duplicates: the given files, and all in the given folders.

    Files in folders whose names start with "_" are left out: other files include them.
    """
    all_files: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.glob("*.toml") if not p.name.startswith("_")) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: no experiment files in this folder")
        all_files += inside
    return list(dict.fromkeys(all_files))


def needed(path: Path) -> list[Path]:
    """Return the files that a file includes, and the experiment that a study searches, with what that includes."""
    files = _included_files(path)
    if isinstance(experiment := read(path).get("experiment"), str):
        files += [path.parent / experiment, *_included_files(path.parent / experiment)]
    return files


def _included_files(path: Path) -> list[Path]:
    return [path.parent / name for name in _common(path, read(path).get("common", []))]


def tables(path: Path, quick: bool) -> tuple[dict[str, Any], list[str]]:
    """Return a file's tables, merged over those of its `common` files and, with `quick`, overridden by [quick].

    Of several common files, later ones take precedence; variants keep the order of this file. Also return every
    environment that `envs` names in one of these places: [on.ENV] may name any of them. Raises InputError for `quick`
    without a [quick] table. A [quick] of common files that has nothing but variants is not enough: these are settings
    of variants for files that have their own [quick].
    """
    own = dict(read(path))
    included = [_included(path, name) for name in _common(path, own.pop("common", []))]
    table: dict[str, Any] = {}
    for part in (*included, own):
        table = _over(table, part)
    known = [env for part in (*included, own) for env in _envs(part)]
    if isinstance(variants := own.get("variants"), dict):  # in this file's order
        table["variants"] = {name: table["variants"][name] for name in (*variants, *table["variants"])}
    fast = table.pop("quick", None)
    if not quick:
        return table, known
    if not isinstance(fast, dict) or not ("quick" in own or set(fast) - {"variants"}):
        raise InputError(f"{path}: --quick requires a [quick] table{_quick_file(path)}")
    table = _over(table, fast)
    if isinstance(table.get("name"), str):
        table["name"] += "-quick"
    return table, known + _envs(fast)


def _quick_file(path: Path) -> str:
    """Return a hint to the file whose name is that of `path` with "-quick", or ""."""
    name = f"{path.stem}-quick"
    return f"; the quick form is an experiment of its own: {name}" if path.with_stem(name).exists() else ""


def _over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """Return tables merged over others. A sweep's list of values keeps the label and group of the sweep below."""
    return merged(
        lower, {key: _values(lower.get(key), part) if key == "sweep" else part for key, part in upper.items()}
    )


def _values(lower: Any, upper: Any) -> Any:
    """Return sweeps with {"values": list} for every list that replaces a table."""
    if isinstance(lower, dict) and isinstance(upper, dict):
        return {key: _values(lower.get(key), part) for key, part in upper.items()}
    return {"values": upper} if isinstance(lower, dict) and isinstance(upper, list) else upper


def _common(path: Path, common: Any) -> list[str]:
    """Return the names of the files that a file includes."""
    names = [common] if isinstance(common, str) else common
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path}: common: must be the name of a file, relative to this one, or a list, not {common!r}")
    return names


def _included(path: Path, name: str) -> dict[str, Any]:
    included = read(path.parent / name)
    if "common" in included:
        raise InputError(f"{path.parent / name}: common: an included file cannot include another")
    return included


def _envs(table: dict[str, Any]) -> list[str]:
    envs = table.get("envs")
    return [env for env in envs if isinstance(env, str)] if isinstance(envs, list) else []
