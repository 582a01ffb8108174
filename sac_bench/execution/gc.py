"""What in a results folder nothing refers to, and freeing it."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from sac_bench.errors import InputError
from sac_bench.execution import plan as planning
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.store.atomic import BESIDE
from sac_bench.store.store import Store, standing_at


class Garbage(NamedTuple):
    """A file or folder, its bytes, and why it is not needed."""

    path: Path
    bytes: int
    why: str


_TRAINED = ("runs", "cohorts")
UNLISTED = "runs that no experiment here lists"


def find(store: Store) -> list[Garbage]:
    """All of it, with runs that no experiment lists as `UNLISTED`. Call it while `store.planning()` is held."""
    cohort_of = {run_id: store.run(run_id).status().get("cohort") for run_id in store.run_ids()}
    referred = _with_starts(store, _listed(store))
    found = []
    for cohort_id in store.cohort_ids():
        if planning.is_wanted(store, cohort_id):
            continue
        folder = store.cohort(cohort_id)
        directory = CohortDirectory(folder)
        unknown = [run_id for run_id in planning.members(directory) if cohort_of.get(run_id, "") is None]
        own = [run_id for run_id, of in cohort_of.items() if of == cohort_id] + unknown
        if referred.intersection(own):
            referred.update(planning.members(directory))  # they continue together or not at all
        if not own:
            found.append(Garbage(folder, _size(folder), "cohorts that no run belongs to"))
            continue
        if _is_done(store, directory, own):
            why = "replays of finished runs that were not to be kept"
            found += [Garbage(p, _size(p), why) for p in [*folder.glob("checkpoint-*"), *folder.glob("*.safetensors")]]
        else:
            found += [Garbage(p, _size(p), "files that no checkpoint stands on") for p in directory.unneeded()]
        found += [Garbage(p, _size(p), "files cut short by a crash") for p in folder.glob(f"{BESIDE}*")]
    for run_id, cohort in cohort_of.items():
        folder = store.run(run_id).path
        if cohort and planning.is_wanted(store, cohort):
            continue
        if run_id not in referred:
            found.append(Garbage(folder, _size(folder), UNLISTED))
        else:
            found += [Garbage(p, _size(p), "files cut short by a crash") for p in folder.glob(f"{BESIDE}*")]
    if not any(map(store.is_alive, store.planner_names())):  # nobody writes anything else meanwhile
        elsewhere = [p for p in store.root.rglob(f"{BESIDE}*") if p.relative_to(store.root).parts[0] not in _TRAINED]
        found += [Garbage(p, _size(p), "files cut short by a crash") for p in elsewhere]
    return found


def free(found: list[Garbage]) -> None:
    """Delete it."""
    for path in (item.path for item in found):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _listed(store: Store) -> set[str]:
    """The runs of every experiment in the folder, and what they start from."""
    listed: set[str] = set()
    for path in store.root.glob("*/runs.csv"):
        try:
            table = pd.read_csv(path, usecols=lambda column: column in ("run_id", "start"), dtype=str)
            listed.update(table["run_id"])
            listed.update(table.get("start", table["run_id"]).dropna())
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: cannot be read, so which runs it needs is not known: {error}") from None
    return listed


def _with_starts(store: Store, listed: set[str]) -> set[str]:
    """These runs, and what of those that are there they start from, and so on."""
    todo = list(listed)
    for run_id in todo:  # which grows
        with contextlib.suppress(InputError):
            if (start := store.run(run_id).spec().start) and start.run not in listed:
                todo.append(start.run)
    return set(todo)


def _is_done(store: Store, directory: CohortDirectory, members: list[str]) -> bool:
    """Whether all of a cohort has ended and nothing asked for its replay to be kept."""
    try:
        plan = directory.plan()
    except InputError:
        return False
    ended = (
        standing_at(store.run(run_id).status(), plan["furthest"]) in ("finished", "diverged") for run_id in members
    )
    return not plan.get("keep_replay", False) and all(ended)


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in [path, *path.rglob("*")] if p.is_file())
