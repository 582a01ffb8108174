"""Finds and deletes files of a results folder that nothing refers to."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sac_bench.errors import InputError
from sac_bench.execution import plan as planning
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.store.atomic import TEMPORARY_PREFIX
from sac_bench.store.status import standing_at
from sac_bench.store.store import Store


class Garbage(NamedTuple):
    """A file or folder, its size in bytes, and why it is not needed."""

    path: Path
    bytes: int
    why: str


TRAINING_FOLDERS = ("runs", "cohorts")
UNLISTED = "runs that no experiment here lists"
TEMPORARY = "temporary files left by a crash"


def find(store: Store) -> list[Garbage]:
    """Return all garbage; runs that no experiment lists are `UNLISTED`. Call it while `store.planning()` is held."""
    cohort_of = {run_id: store.run(run_id).status().get("cohort") for run_id in store.run_ids()}
    needed = _with_parents(store, _listed(store))
    garbage = []
    for cohort_id in store.cohort_ids():
        if planning.is_in_use(store, cohort_id):
            continue
        folder = store.cohort(cohort_id)
        directory = CohortDirectory(folder)
        unknown = [run_id for run_id in planning.members(directory) if cohort_of.get(run_id, "") is None]
        own = [run_id for run_id, of in cohort_of.items() if of == cohort_id] + unknown
        if needed.intersection(own):
            needed.update(planning.members(directory))  # they can only continue together
        if not own:
            garbage.append(Garbage(folder, _size(folder), "cohorts that no run belongs to"))
            continue
        if _is_done(store, directory, own):
            replay = [*folder.glob("checkpoint-*"), *folder.glob("*.safetensors")]
            garbage += [Garbage(p, _size(p), "replays of finished runs") for p in replay]
        else:
            garbage += [Garbage(p, _size(p), "files that no checkpoint needs") for p in directory.unneeded()]
        garbage += [Garbage(p, _size(p), TEMPORARY) for p in folder.glob(f"{TEMPORARY_PREFIX}*")]
    for run_id, cohort in cohort_of.items():
        folder = store.run(run_id).path
        if cohort and planning.is_in_use(store, cohort):
            continue
        if run_id not in needed:
            garbage.append(Garbage(folder, _size(folder), UNLISTED))
        else:
            garbage += [Garbage(p, _size(p), TEMPORARY) for p in folder.glob(f"{TEMPORARY_PREFIX}*")]
    if not any(map(store.is_alive, store.planner_names())):  # no process is writing other files
        temporary = [(p, p.relative_to(store.root).parts[0]) for p in store.root.rglob(f"{TEMPORARY_PREFIX}*")]
        garbage += [Garbage(p, _size(p), TEMPORARY) for p, top in temporary if top not in TRAINING_FOLDERS]
    return garbage


def free(store: Store, garbage: list[Garbage]) -> None:
    """Delete these files and folders. Call it while `store.planning()` is held."""
    for path in (item.path for item in garbage):
        store.check_planning()
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _listed(store: Store) -> set[str]:
    """Return the ids of the runs of every experiment in the folder, and of their parents."""
    listed: set[str] = set()
    for path in store.root.glob("*/runs.csv"):
        try:
            table = pd.read_csv(path, usecols=lambda column: column in ("run_id", "start"), dtype=str)
            listed.update(table["run_id"])
            listed.update(table["start"].dropna())
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: cannot be read, so its runs are unknown: {error}") from None
    return listed


def _with_parents(store: Store, listed: set[str]) -> set[str]:
    """Return these runs and, recursively, their parents as far as they are in the store."""
    run_ids = list(listed)
    for run_id in run_ids:  # the list grows in the loop
        with contextlib.suppress(InputError):
            if (start := store.run(run_id).spec().start) and start.run not in listed:
                run_ids.append(start.run)
    return set(run_ids)


def _is_done(store: Store, directory: CohortDirectory, members: list[str]) -> bool:
    """Return whether all of a cohort has ended and its replay is not to be kept."""
    try:
        plan = directory.plan()
    except InputError:
        return False
    ended = (
        standing_at(store.run(run_id).status(), plan["furthest"]) in ("finished", "diverged") for run_id in members
    )
    return not plan["keep_replay"] and all(ended)


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in [path, *path.rglob("*")] if p.is_file())
