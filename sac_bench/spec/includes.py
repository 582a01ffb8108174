"""Which files are experiments, and a file's tables with the part that it shares with others and its quick setting."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sac_bench.errors import InputError, nearest
from sac_bench.spec.toml import merged, read


def files(paths: Iterable[Path]) -> list[Path]:
    """Experiment files, each once: those given and, of a folder, all in it.

    But for those that begin with "_": they are parts of others.
    """
    found: list[Path] = []
    for path in paths:
        inside = sorted(p for p in path.glob("*.toml") if not p.name.startswith("_")) if path.is_dir() else [path]
        if not inside:
            raise InputError(f"{path}: no experiment files there")
        found += inside
    return list(dict.fromkeys(found))


def tables(path: Path, quick: bool) -> tuple[dict[str, Any], list[str]]:
    """A file's tables over those of the file that it names as `common`, and with `quick` over both their [quick].

    With them every environment that `envs` names in one of these places: [on.ENV] may be of any.
    """
    table = dict(read(path))
    common = table.pop("common", None)
    if common is not None:
        if not isinstance(common, str):
            raise InputError(f"{path}: common: wants the name of a file beside this one, not {common!r}")
        below = read(path.parent / common)
        if "common" in below:
            raise InputError(f"{path.parent / common}: common: is one itself, and cannot have another")
        known = [*_envs(below), *_envs(table)]
        table = merged(below, table)
    else:
        known = _envs(table)
    fast = table.pop("quick", None)
    if not quick:
        return table, known
    if not isinstance(fast, dict):
        raise InputError(f"{path}: has no [quick] table, so there is no --quick of it")
    table = merged(table, fast)
    if isinstance(table.get("name"), str):
        table["name"] += "-quick"
    return table, known + _envs(fast)


def _envs(table: dict[str, Any]) -> list[str]:
    envs = table.get("envs")
    return [env for env in envs if isinstance(env, str)] if isinstance(envs, list) else []


def find(experiment: str | Path) -> Path:
    """Return an experiment's file, from a path or the name of a file below experiments/.

    experiments/ is looked up in the working folder, then in the checkout that this package is installed from. Raises
    InputError if there is no such file.
    """
    path = Path(experiment)
    if path.suffix == ".toml" and path.exists():
        return path
    folders = [Path("experiments"), Path(__file__).resolve().parents[2] / "experiments"]
    for folder in folders:
        if found := sorted(folder.rglob(f"{path.name}.toml")):
            return found[0]
    known = {file.stem for folder in folders for file in folder.rglob("*.toml")}
    raise InputError(f"{experiment}: no such experiment file{nearest(path.name, known)}")
