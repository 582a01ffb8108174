"""Joins results folders of machines that were never connected. No training that exists is overwritten."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sac_bench.errors import InputError
from sac_bench.store.atomic import BESIDE, create, read_json, sync_folder
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
    """Not copied because the run exists, with steps or in use, and has not ended; its status."""
    left: dict[str, str] = field(default_factory=dict)
    """Not copied because the run has not ended in the source, or is damaged; its status, and the reason if it has one.
    """
    environments: list[str] = field(default_factory=list)
    """Files of random policies that differ."""


def merge(source: Store, into: Store) -> Merged:
    """Copy the ended runs of a folder that another one lacks, and compare those that both have.

    Files are copied beside their place first, without a lock; they are put into place while nobody plans. Raises
    InputError if the source has no runs, is the same folder, or is of a newer layout.
    """
    source.check_layout()
    if not (source.root / "runs").is_dir():
        raise InputError(f"{source.root}: no runs there")
    if into.root.exists() and into.root.samefile(source.root):
        raise InputError(f"{source.root}: is the folder to merge into")
    merged = Merged(source.root)
    into.root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=BESIDE, dir=into.root) as name:
        beside = Path(name)
        copies = [run for run in map(source.run, source.run_ids()) if _is_to_be_copied(run, into.run(run.id), merged)]
        for run in copies:
            _copy(run.path, beside / run.id)
        with into.planning():
            for run in copies:
                _put(beside / run.id, into.run(run.id), into, merged)
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


def _is_to_be_copied(run: RunDirectory, target: RunDirectory, merged: Merged) -> bool:
    """Return whether a run has ended, and its target has not; otherwise note what came of it."""
    status, own = run.status(), target.status()
    if status["status"] not in ENDED:
        reason = f": {status['reason']}" if status.get("reason") else ""
        merged.left[run.id] = f"{status['status']}{reason}"
    elif own["status"] not in ENDED:
        return True
    elif own["steps"] != status["steps"]:
        merged.different[run.id] = [f"{status['steps']} steps there, {own['steps']} here"]
    elif found := differences(run, target):
        merged.different[run.id] = found
    else:
        merged.equal.append(run.id)
    return False


def _copy(folder: Path, to: Path) -> None:
    """Copy a folder and sync it."""
    shutil.copytree(folder, to, ignore=shutil.ignore_patterns(f"{BESIDE}*"))
    for path in to.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())
    sync_folder(to)


def _put(copy: Path, target: RunDirectory, into: Store, merged: Merged) -> None:
    """Move a copied run to its place, with all of its files at once. Call it while planning.

    A run that is there is kept if it has steps or may be trained.
    """
    own = target.status()
    if target.path.exists():
        if own["status"] not in ("new", "planned", "failed") or own["steps"] or _may_be_trained(own, into):
            merged.kept[target.id] = own["status"]
            return
        os.rename(target.path, copy.with_name(f"{copy.name}.replaced"))
    target.path.parent.mkdir(parents=True, exist_ok=True)
    os.rename(copy, target.path)
    sync_folder(target.path.parent)
    merged.copied.append(target.id)


def _may_be_trained(status: dict[str, Any], store: Store) -> bool:
    """Return whether a process trains a run's cohort, or a living command has planned it."""
    cohort = status.get("cohort")
    if not cohort:
        return False
    try:
        planners = read_json(store.cohort(cohort) / "plan.json").get("planners", [])
    except (FileNotFoundError, InputError):
        planners = []
    return store.is_trained(cohort) or any(map(store.is_alive, planners))
