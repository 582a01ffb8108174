"""Finds experiments and studies by name: in experiments/ of the working folder, then among those of this package."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sac_bench.errors import InputError, nearest

SHIPPED_FOLDER = (Path(__file__).resolve().parents[1] / "experiments").resolve()
"""The experiments of this package. In a clone, sac_bench/experiments is a link to experiments/."""
LOCAL_FOLDER = Path("experiments")


def folders() -> list[Path]:
    """Return the folders that names are looked up in, without duplicates: the working folder's comes first."""
    return [LOCAL_FOLDER, *([] if LOCAL_FOLDER.resolve() == SHIPPED_FOLDER else [SHIPPED_FOLDER])]


def named(folder: Path) -> dict[str, Path]:
    """Return {name: file} of a folder: "claims/two-qs" for claims/two-qs.toml, without files that others include."""
    files = sorted(path for path in folder.rglob("*.toml") if not path.name.startswith("_"))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in files}


def known() -> dict[str, Path]:
    """Return {name: file} of all experiments and studies that can be named."""
    return {name: path for folder in reversed(folders()) for name, path in named(folder).items()}


def typed(path: str | Path) -> str:
    """Return what to type for a file: the name of one of this package's, such as "claims/two-qs", or else its path."""
    file = Path(path).resolve()
    return (
        file.relative_to(SHIPPED_FOLDER).with_suffix("").as_posix()
        if file.is_relative_to(SHIPPED_FOLDER)
        else str(path)
    )


def groups() -> list[str]:
    """Return the names of the folders of experiments, such as "claims"."""
    parts = (name.rpartition("/")[0] for name in known())
    return sorted({part for part in parts if part})


def find(experiment: str | Path, results: Path | None = None, others: Iterable[str] = ()) -> Path:
    """Return an experiment's file, from its path or name ("ablation-quick", "claims/two-qs", "two-qs").

    Raises InputError if there is no such file; for the message, `results` was searched, too, and contains `others`.
    """
    path = Path(experiment)
    if path.suffix == ".toml" and path.exists():
        return path
    if file := lookup(path):
        return file
    where = f" or result in {results}" if results else ""
    raise _unknown(experiment, f"no such experiment{where}", others)


def find_all(given: Iterable[str | Path]) -> list[Path]:
    """Return the file or folder of each path, or the files of each name; a path that exists takes precedence.

    Raises InputError for what is neither.
    """
    return [path for one in given for path in _paths(Path(one))]


def _paths(path: Path) -> list[Path]:
    if path.exists() and not (path.is_dir() and not any(path.glob("*.toml"))):
        return [path]
    if file := lookup(path):
        return [file]
    if group := _group(path):
        return group
    if path.exists():
        return [path]  # a folder without experiments
    raise _unknown(path, "no such file or experiment", (file.name for file in _beside(path)))


def lookup(path: str | Path) -> Path | None:
    """Return the file with this name, which may lack its folders; None if there is none.

    Raises InputError if several files have it.
    """
    path = Path(path)
    name = path.with_suffix("") if path.suffix == ".toml" else path
    wanted = name.as_posix().removeprefix(f"{LOCAL_FOLDER}/")
    files = known()
    if wanted in files:
        return files[wanted]
    ends = sorted(one for one in files if one.endswith(f"/{wanted}"))
    if len(ends) > 1:
        raise InputError(f"{path}: names several experiments: {', '.join(ends)}; name one of them")
    return files[ends[0]] if ends else None


def _group(path: Path) -> list[Path]:
    """Return the files of the folders with this name, if any; those of the working folder replace the package's."""
    wanted = path.as_posix().removeprefix(f"{LOCAL_FOLDER}/")
    return [file for name, file in known().items() if name.rpartition("/")[0] == wanted]


def _beside(path: Path) -> list[Path]:
    return list(path.parent.glob("*.toml")) if path.parent.is_dir() else []


def _unknown(name: str | Path, what: str, others: Iterable[str]) -> InputError:
    """Return the error for an unknown name, with the closest known ones; each may be given without its folders."""
    short = {one.rpartition("/")[2] for one in known()}
    all_names = {*others, *(known() if "/" in str(name) else short), *groups()}
    near = nearest(str(name), all_names, places=2)
    return InputError(f"{name}: {what}{near}; sac-bench list shows all experiments")
