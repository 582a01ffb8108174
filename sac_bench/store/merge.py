"""Joins results folders of machines that were never connected. Nothing that exists is overwritten."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from sac_bench.errors import InputError
from sac_bench.store.atomic import BESIDE, create, sync_folder
from sac_bench.store.run import TABLES, RunDirectory
from sac_bench.store.status import ENDED
from sac_bench.store.store import Store

CLOCK = "wall_seconds"
"""The only column in which equal trainings differ."""


@dataclass
class Merged:
    """What came of the runs of one folder, by id: each run is in one of these."""

    source: Path
    copied: list[str] = field(default_factory=list)
    equal: list[str] = field(default_factory=list)
    different: dict[str, list[str]] = field(default_factory=dict)
    """Ended in both folders, with these files of different bytes."""
    kept: dict[str, str] = field(default_factory=dict)
    """Not copied because the run exists without having ended; its status."""
    left: dict[str, str] = field(default_factory=dict)
    """Not copied because the run has not ended in the source, or is damaged; its status, and the reason if it has one.
    """
    environments: list[str] = field(default_factory=list)
    """Files of random policies that differ."""


def merge(source: Store, into: Store) -> Merged:
    """Copy the ended runs of a folder that another one lacks, and compare those that both have.

    Raises InputError if the source has no runs, is the same folder, or is of a newer layout.
    """
    source.check_layout()
    if not (source.root / "runs").is_dir():
        raise InputError(f"{source.root}: no runs there")
    if into.root.exists() and into.root.samefile(source.root):
        raise InputError(f"{source.root}: is the folder to merge into")
    merged = Merged(source.root)
    with into.planning():
        for run in map(source.run, source.run_ids()):
            _merge_run(run, into, merged)
        for path in sorted((source.root / "environments").glob("*.json")):
            target = into.root / "environments" / path.name
            if not create(target, path.read_bytes()) and target.read_bytes() != path.read_bytes():
                merged.environments.append(path.name)
    return merged


def differences(one: RunDirectory, other: RunDirectory) -> list[str]:
    """Return the files of two ended runs of one id whose bytes differ. Tables are compared without the clock."""
    tables = [
        f"{name}.csv"
        for name in TABLES
        if one.table(name).drop(columns=CLOCK, errors="ignore").to_csv()
        != other.table(name).drop(columns=CLOCK, errors="ignore").to_csv()
    ]
    pairs = ((one.policy, other.policy), (one.weights, other.weights))
    return tables + [a.name for a, b in pairs if a.exists() and b.exists() and a.read_bytes() != b.read_bytes()]


def _merge_run(run: RunDirectory, into: Store, merged: Merged) -> None:
    status, target = run.status(), into.run(run.id)
    if status["status"] not in ENDED:
        reason = f": {status['reason']}" if status.get("reason") else ""
        merged.left[run.id] = f"{status['status']}{reason}"
    elif not target.path.exists():
        _copy(run.path, target.path, into.root)
        merged.copied.append(run.id)
    elif (own := target.status())["status"] not in ENDED:
        merged.kept[run.id] = own["status"]
    elif own["steps"] != status["steps"]:
        merged.different[run.id] = [f"{status['steps']} steps there, {own['steps']} here"]
    elif found := differences(run, target):
        merged.different[run.id] = found
    else:
        merged.equal.append(run.id)


def _copy(folder: Path, to: Path, root: Path) -> None:
    """Copy a folder as a whole: it appears with all of its files. An existing one is never replaced."""
    to.parent.mkdir(parents=True, exist_ok=True)
    with _beside(root) as temporary:
        copied = temporary / to.name
        shutil.copytree(folder, copied, ignore=shutil.ignore_patterns(f"{BESIDE}*"))
        for path in copied.iterdir():
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        os.rename(copied, to)
    sync_folder(to.parent)


@contextlib.contextmanager
def _beside(root: Path) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix=BESIDE, dir=root) as name:
        yield Path(name)
