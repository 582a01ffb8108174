"""Joins results folders of machines that were never connected. No training that exists is overwritten."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from sac_bench.errors import InputError
from sac_bench.store.atomic import TEMPORARY_PREFIX, create, read_json, sync_folder
from sac_bench.store.run import TABLES, RunDirectory
from sac_bench.store.status import ENDED, RunStatus
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
    damaged: dict[str, str] = field(default_factory=dict)
    """Not copied because the run exists and is damaged; the reason."""
    left: dict[str, str] = field(default_factory=dict)
    """Not copied because the run has not ended in the source, or is damaged; its status, and the reason if it has one.
    """
    environments: list[str] = field(default_factory=list)
    """Files of random policies that differ."""


def merge(source: Store, into: Store) -> Merged:
    """Copy the ended runs of a folder that another one lacks, and compare those that both have.

    Files are copied beside their place first; others can plan meanwhile, and gc leaves the copies alone. They are put
    into place while no command plans, if they are intact. Raises InputError if the source has no runs, is the same
    folder, or is of a newer layout.
    """
    source.check_layout()
    if not (source.root / "runs").is_dir():
        raise InputError(f"{source.root}: no runs there")
    if into.root.exists() and into.root.samefile(source.root):
        raise InputError(f"{source.root}: is the folder to merge into")
    merged = Merged(source.root)
    into.root.mkdir(parents=True, exist_ok=True)
    with into.planner(), tempfile.TemporaryDirectory(prefix=TEMPORARY_PREFIX, dir=into.root) as name:
        copies = []
        for run in map(source.run, source.run_ids()):
            if _has_ended(run, merged) and not _is_kept(run, into.run(run.id), into, merged):
                copy = RunDirectory(Path(name) / run.id)
                _copy(run.path, copy.path)
                if _has_ended(copy, merged):  # a process may have continued it meanwhile
                    copies.append(copy)
        with into.planning():
            for copy in copies:
                if not _is_kept(copy, into.run(copy.id), into, merged):
                    _put(copy.path, into.run(copy.id))
                    merged.copied.append(copy.id)
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


def _has_ended(run: RunDirectory, merged: Merged) -> bool:
    """Return whether a run has ended, is intact and is the one that its folder is named after; otherwise note why."""
    status = run.status()
    if status["status"] not in ENDED:
        merged.left[run.id] = _in_words(status)
        return False
    try:
        if (stored_id := run.spec().id) == run.id:
            return True
        merged.left[run.id] = f"damaged: spec.json is that of run {stored_id}"
    except InputError as error:
        merged.left[run.id] = f"damaged: {error}"
    return False


def _is_kept(run: RunDirectory, target: RunDirectory, into: Store, merged: Merged) -> bool:
    """Return whether what exists at the target of an ended run is kept, and note how it compares.

    A target is replaced only if it has no steps, and neither is trained nor may be.
    """
    if not target.path.exists():
        return False
    status, own = run.status(), target.status()
    if own["status"] == "damaged":
        merged.damaged[run.id] = str(own["reason"])
    elif own["status"] not in ENDED:
        if own["status"] in ("new", "planned", "failed") and not own["steps"] and not _may_be_trained(own, into):
            return False
        merged.kept[run.id] = _in_words(own)
    elif own["steps"] != status["steps"]:
        merged.different[run.id] = [f"{status['steps']} steps there, {own['steps']} here"]
    elif different := differences(run, target):
        merged.different[run.id] = different
    else:
        merged.equal.append(run.id)
    return True


def _in_words(status: RunStatus) -> str:
    """Return "started at 100 steps", or "damaged: why"."""
    at = f" at {status['steps']} steps" if status["steps"] else ""
    return f"{status['status']}{at}" + (f": {status['reason']}" if status.get("reason") else "")


def _copy(folder: Path, to: Path) -> None:
    """Copy a folder and sync it. The copy has the modes of new files, so it can be moved and continued.

    Files that vanish meanwhile are left out.
    """
    for path, _, names in os.walk(folder):
        target = to / Path(path).relative_to(folder)
        target.mkdir()
        for name in names:
            if name.startswith(TEMPORARY_PREFIX):
                continue
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(Path(path) / name, target / name)
                with open(target / name, "rb") as file:
                    os.fsync(file.fileno())
        sync_folder(target)


def _put(copy: Path, target: RunDirectory) -> None:
    """Move a copied run to its place, with all of its files at once. Call it while planning."""
    if target.path.exists():
        os.rename(target.path, copy.with_name(f"{copy.name}.replaced"))
    target.path.parent.mkdir(parents=True, exist_ok=True)
    os.rename(copy, target.path)
    sync_folder(target.path.parent)


def _may_be_trained(status: RunStatus, store: Store) -> bool:
    """Return whether a process trains a run's cohort, or a living command has planned it."""
    cohort = status.get("cohort")
    if not cohort:
        return False
    try:
        planners = read_json(store.cohort(cohort) / "plan.json").get("planners", [])
    except (FileNotFoundError, InputError):
        planners = []
    return store.is_trained(cohort) or any(map(store.is_alive, planners))
