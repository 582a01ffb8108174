"""Finds experiment files, and merges a file's tables with its `common` file and its [quick] table."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sac_bench.errors import InputError, nearest
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


def tables(path: Path, quick: bool) -> tuple[dict[str, Any], list[str]]:
    """Return a file's tables, merged over those of its `common` file and, with `quick`, overridden by [quick].

    Also return every environment that `envs` names in one of these places: [on.ENV] may name any of them.
    """
    table = dict(read(path))
    common = table.pop("common", None)
    if common is not None:
        if not isinstance(common, str):
            raise InputError(f"{path}: common: must be the name of a file in the same folder, not {common!r}")
        included = read(path.parent / common)
        if "common" in included:
            raise InputError(f"{path.parent / common}: common: an included file cannot include another")
        known = [*_envs(included), *_envs(table)]
        table = merged(included, table)
    else:
        known = _envs(table)
    fast = table.pop("quick", None)
    if not quick:
        return table, known
    if not isinstance(fast, dict):
        raise InputError(f"{path}: --quick requires a [quick] table")
    table = merged(table, fast)
    if isinstance(table.get("name"), str):
        table["name"] += "-quick"
    return table, known + _envs(fast)


def _envs(table: dict[str, Any]) -> list[str]:
    envs = table.get("envs")
    return [env for env in envs if isinstance(env, str)] if isinstance(envs, list) else []


def find(experiment: str | Path, results: Path | None = None, known: Iterable[str] = ()) -> Path:
    """Return an experiment's file, from a path or the name of a file below experiments/.

    experiments/ is looked up in the working folder, then in the checkout that this package is installed from. Raises
    InputError if there is no such file; for the message, `results` was searched, too, and contains `known`.
    """
    path = Path(experiment)
    if path.suffix == ".toml" and path.exists():
        return path
    name = path.stem if path.suffix == ".toml" else path.name
    folders = [Path("experiments"), Path(__file__).resolve().parents[2] / "experiments"]
    for folder in folders:
        if found := sorted(file for file in folder.rglob("*.toml") if file.stem == name):
            return found[0]
    known = {*known, *(file.stem for folder in folders for file in folder.rglob("*.toml"))}
    where = f"{results} or experiments" if results else "experiments"
    raise InputError(f"{experiment}: no such experiment in {where}{nearest(name, known)}")
