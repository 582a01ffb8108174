"""A cohort on disk: its plan, its two newest checkpoints, and the replay rows that they need.

    plan.json                           its runs, in member order, and the most steps ever requested
    checkpoint-<t>.json                 what was saved after t vector steps: files and tables with their SHA-256, and
                                        what it adds to the runs' tables and statuses
    state-<t>.safetensors               the members' tensors at that point
    rows-<t0>-<t1>.safetensors          the replay's rows of one segment, written once
    speed.json                          how long the last segments took, for estimates (execution/calibration.py)

The .json commits a checkpoint for all members at once. It is created exclusively: if a cohort has two owners, because
one of them was paused until its lease ended (store/locks.py), only one can commit a segment. The other one stops. The
runs' tables are written after the commit, from what it holds, so that an owner that commits nothing changes nothing. A
file that exists with other content gets another name. A checkpoint with a damaged file is skipped in favour of the
previous one.
"""

from __future__ import annotations

import contextlib
import math
import os.path
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor
from typing_extensions import TypedDict  # pydantic requires it before Python 3.12

from sac_bench.errors import InputError
from sac_bench.store.atomic import (
    Fingerprint,
    check,
    create,
    create_json,
    fingerprint_of,
    parse_json,
    read_json,
    write_atomically,
    write_json,
)
from sac_bench.store.run import Addition, RunDirectory
from sac_bench.store.status import StatusChanges
from sac_bench.training.replay import rows_of
from sac_bench.training.trainer import Trainer

KEPT_CHECKPOINTS = 2


class TakenOver(Exception):
    """Another process has taken the cohort over."""


class Damaged(InputError):
    """Files that were sent are not those that were saved."""


class Record(TypedDict):
    """What a segment adds to a run: rows of its tables, by table, and entries of its status."""

    rows: dict[str, list[dict[str, Any]]]
    status: StatusChanges


class CohortDirectory:
    """results/cohorts/<id>/. `is_owner` returns whether the cohort is still this process's."""

    def __init__(self, path: Path, is_owner: Callable[[], bool] = lambda: True) -> None:
        self.path, self._is_owner = path, is_owner
        self._last: tuple[Path, dict[str, Any]] | None = None  # the checkpoint saved or restored last
        self._renamed: dict[str, str] = {}  # files of adopted checkpoints that have another name here

    def plan(self) -> dict[str, Any]:
        """Return the cohort's plan.

        {"runs": [ids, in member order], "furthest": the most steps ever requested, "planners": the processes that
        planned it, "keep_replay": whether one of them keeps the replay}.

        Raises InputError if it is missing or damaged.
        """
        path = self.path / "plan.json"
        try:
            plan = read_json(path)
        except FileNotFoundError:
            raise InputError(f"{path}: missing") from None
        lists = plan.get("runs") and _are_strings(plan["runs"]) and _are_strings(plan.get("planners"))
        if not (lists and isinstance(plan.get("furthest"), int) and isinstance(plan.get("keep_replay"), bool)):
            raise InputError(f"{path}: damaged: runs, furthest, planners or keep_replay is missing")
        return plan

    def write_plan(self, runs: Sequence[str], steps: int, keep_replay: bool, planners: Sequence[str]) -> None:
        """Write what to train and how far. Fewer steps than before do not lower "furthest", so the replay is kept."""
        previous = self.plan() if (self.path / "plan.json").exists() else {}
        plan = {
            "runs": list(runs),
            "furthest": max(steps, previous.get("furthest", 0)),
            "keep_replay": keep_replay or (len(planners) > 1 and previous.get("keep_replay", False)),
            "planners": list(planners),
        }
        write_json(self.path / "plan.json", plan)

    def write_speed(self, speed: dict[str, Any]) -> None:
        """Write how long the last segments took."""
        write_json(self.path / "speed.json", speed)

    def speed(self) -> dict[str, Any]:
        """Return how long the last segments took; nothing if it is not known."""
        try:
            return read_json(self.path / "speed.json")
        except (InputError, OSError):
            return {}

    def saved(self) -> bool:
        """Return whether there is a checkpoint, intact or not."""
        return bool(self._checkpoints())

    def save(self, trainer: Trainer, runs: Sequence[RunDirectory], records: Mapping[str, Record] | None = None) -> None:
        """Commit the trainer's state, its runs' tables, and what the segment adds to them by `records`: {run id: ...}.

        Raises TakenOver if another process has committed this segment, or has taken the cohort over.
        """
        tensors, rows, progress = trainer.checkpoint()
        at = trainer.progress.vector_steps
        needed = trainer.rows_needed_from()
        files = {name: known for name, known in self._rows().items() if _stop(name) > needed}
        if rows:
            files |= self._write(f"rows-{at - rows['reward'].shape[1]:012d}-{at:012d}", save(rows))
        files |= self._write(f"state-{at:012d}", save(tensors))
        tables, added = self._additions(runs, records or {})
        statuses = {run_id: record["status"] for run_id, record in (records or {}).items()}
        commit = {"progress": progress, "files": files, "tables": tables, "added": added, "statuses": statuses}
        self._commit(self.path / f"checkpoint-{at:012d}.json", commit)
        self._drop_unneeded()

    def check_owner(self) -> None:
        """Raise TakenOver if another process has taken the cohort over."""
        if not self._is_owner():
            raise TakenOver("another process has taken the cohort over: stopped")

    def tables(self) -> dict[str, dict[str, Fingerprint]]:
        """Return the fingerprints of the runs' tables, {run id: {table: ...}}, by the last checkpoint."""
        return self._last[1]["tables"] if self._last else {}

    def write_tables(self, runs: Sequence[RunDirectory]) -> None:
        """Write what the last checkpoint adds to the runs' tables. To write it again changes nothing."""
        if self._last:
            for run in runs:
                for table, addition in _added(self._last[1], run).items():
                    run.put(table, addition)

    def _additions(
        self, runs: Sequence[RunDirectory], records: Mapping[str, Record]
    ) -> tuple[dict[str, dict[str, Fingerprint]], dict[str, dict[str, Addition]]]:
        """Return the tables' fingerprints once the rows of `records` are added, and these additions, by run."""
        tables, added = {}, {}
        for run in runs:
            known = self._last[1]["tables"].get(run.id) if self._last and records else None
            before = run.fingerprints() if known is None else known
            changes = {
                table: run.added(table, rows, before.get(table))
                for table, rows in (records[run.id]["rows"] if run.id in records else {}).items()
            }
            tables[run.id] = before | {table: after for table, (_, after) in changes.items()}
            added[run.id] = {table: addition for table, (addition, _) in changes.items()}
        return tables, added

    def _commit(self, path: Path, commit: dict[str, Any]) -> None:
        """Create a checkpoint's file; raise TakenOver unless it is this process's to create."""
        if not create_json(path, commit):
            rival: dict[str, Any] = {}
            with contextlib.suppress(InputError, FileNotFoundError):  # it may be withdrawn by now
                rival = read_json(path)
            bytes_ = "the same" if rival.get("files") == commit["files"] else "other"
            raise TakenOver(f"another process has saved {path.name} with {bytes_} bytes: stopped")
        if not self._is_owner():  # who takes it over from here on finds this checkpoint
            path.unlink(missing_ok=True)
            raise TakenOver(f"another process has taken the cohort over: stopped, and {path.name} is not saved")
        self._last = path, commit

    def _rows(self) -> dict[str, Fingerprint]:
        """Return the replay's rows of the checkpoint saved or restored last."""
        return _rows_in(self._last[1]) if self._last else {}

    def restore(self, trainer: Trainer, runs: Sequence[RunDirectory]) -> list[str]:
        """Restore a new trainer from the newest intact checkpoint. Call `drop_later` afterwards.

        Return what is wrong with newer checkpoints, one line each. Raises InputError if no checkpoint is intact, or if
        the trainer cannot resume from it; `problems` returns the reason from then on.
        """
        path, checkpoint, problems = self._newest(runs)
        rows = _rows_in(checkpoint)
        (state,) = checkpoint["files"].keys() - rows.keys()
        chunks = [(_start(name), partial(load_file, self.path / name)) for name in sorted(rows)]
        try:
            trainer.restore(load_file(self.path / state), chunks, checkpoint["progress"])
        except InputError as error:
            write_json(self._unusable, {"reason": f"{path.name}: {error}"})  # another machine may have written it
            raise InputError(f"{path}: {error}; --retrain trains its runs again") from error
        self._last = path, checkpoint
        return problems

    def choose(self, runs: Sequence[RunDirectory]) -> tuple[list[Path], list[str]]:
        """Return the files of the newest intact checkpoint, to be restored elsewhere, and problems as `restore` does.

        Once it is restored there, call `drop_later`. Raises InputError if no checkpoint is intact.
        """
        path, checkpoint, problems = self._newest(runs)
        self._last = path, checkpoint
        return [*(self.path / name for name in checkpoint["files"]), path], problems

    def adopt(self, name: str, content: bytes, tensors: Mapping[str, bytes]) -> None:
        """Commit a checkpoint that was saved elsewhere, with those of its files that are not here yet: {name: bytes}.

        Raises TakenOver as `save` does, and Damaged, before it writes, if a file is not as the checkpoint has it. Call
        `write_tables` afterwards.
        """
        commit = self._verified(name, content, tensors)
        for file in commit["files"].keys() & tensors.keys():
            (self._renamed[file],) = self._write(Path(file).stem, tensors[file])
        files = {self._renamed.get(file, file): known for file, known in commit["files"].items()}
        self._commit(self.path / name, commit | {"files": files})
        self._drop_unneeded()

    def _verified(self, name: str, content: bytes, tensors: Mapping[str, bytes]) -> dict[str, Any]:
        """Return the checkpoint that was sent; Damaged unless its files are sent with it, or are here."""
        try:
            commit = parse_json(content, Path(name))
        except InputError as error:
            raise Damaged(str(error)) from None
        known = self._rows()
        for file, expected in commit["files"].items():
            found = fingerprint_of(tensors[file]) if file in tensors else known.get(self._renamed.get(file, file))
            if found != expected:
                raise Damaged(f"{name}: {file} is {'missing' if found is None else 'not the file that was saved'}")
        return commit

    def _newest(self, runs: Sequence[RunDirectory]) -> tuple[Path, dict[str, Any], list[str]]:
        """Return the newest intact checkpoint, and what is wrong with newer ones; InputError if none is intact."""
        problems: list[str] = []
        for path in reversed(self._checkpoints()):
            try:
                return path, self._intact(path, runs), problems
            except InputError as error:
                problems.append(str(error))
        raise InputError(f"{'; '.join(problems)}: no checkpoint is intact; --retrain trains its runs again")

    def drop_later(self, runs: Sequence[RunDirectory]) -> dict[str, StatusChanges]:
        """Drop what is later than the restored checkpoint: rows of the runs' tables, and checkpoints.

        Write the rows that it adds, in case the process that saved it did not. Return what it adds to statuses, by run.
        Raises TakenOver if another process has taken the cohort over, or if the one that saved the checkpoint has
        withdrawn it.
        """
        assert self._last, "restored"
        restored, checkpoint = self._last
        self._require_restored()
        self._unusable.unlink(missing_ok=True)
        self.write_tables(runs)
        self.cut_back(runs)
        for later in self._checkpoints():
            if later > restored:
                self.check_owner()
                later.unlink(missing_ok=True)
        self._drop_unneeded()
        self._require_restored()
        statuses = checkpoint.get("statuses", {})
        return {run.id: statuses[run.id] for run in runs if run.id in statuses}

    def cut_back(self, runs: Sequence[RunDirectory]) -> None:
        """Drop the rows of the runs' tables that the restored checkpoint does not have; all if there is none.

        Raises TakenOver if another process has taken the cohort over.
        """
        for run in runs:
            self.check_owner()
            run.cut_back(self._last[1]["tables"][run.id] if self._last else {})

    def _require_restored(self) -> None:
        """Raise TakenOver unless the cohort is still this process's, and the checkpoint restored exists."""
        self.check_owner()
        if self._last and not self._last[0].exists():
            raise TakenOver(f"another process has withdrawn {self._last[0].name}: stopped")

    def copy_members(self, members: Sequence[int], to: CohortDirectory, runs: Sequence[RunDirectory]) -> int:
        """Copy these members, ascending, of the newest intact checkpoint to a new cohort, and return its vector steps.

        `runs` are the members' runs. Raises InputError if no checkpoint is intact.
        """
        path, old, _ = self._newest(runs)
        stopped, files = old["progress"]["stopped"], dict[str, Fingerprint]()
        for name in old["files"]:
            tensors = load_file(self.path / name)
            chosen = rows_of(tensors, members) if name.startswith("rows-") else state_of(tensors, members, len(stopped))
            files |= to._write(Path(name).stem, save(chosen))
        own = {
            part: {run.id: old[part][run.id] for run in runs if run.id in old.get(part, {})}
            for part in ("tables", "added", "statuses")
        }
        progress = old["progress"] | {"stopped": [stopped[m] for m in members]}
        write_json(to.path / path.name, {"progress": progress, "files": files, **own})
        return int(progress["vector_steps"])

    def problems(self, runs: Sequence[RunDirectory]) -> list[str]:
        """Return why the cohort cannot be continued: what is wrong with each checkpoint. Empty if one is intact."""
        if self._unusable.exists():
            return [os.path.join(self.path, str(read_json(self._unusable).get("reason")))]
        problems = []
        for path in reversed(self._checkpoints()):
            try:
                self._intact(path, runs)
                return []
            except InputError as error:
                problems.append(str(error))
        return problems or [f"{self.path}: no checkpoint"]

    def clear(self) -> None:
        """Delete the plan and the checkpoints."""
        self.drop_replay()
        for path in (self._unusable, self.path / "plan.json"):
            path.unlink(missing_ok=True)

    def drop_replay(self) -> None:
        """Delete the checkpoints, which are only needed to continue."""
        for path in self._checkpoints():  # first, so no checkpoint is left without its files
            path.unlink(missing_ok=True)
        self._last = None
        self._drop_unneeded()

    def unneeded(self) -> list[Path]:
        """Return the files that no checkpoint needs, the one saved or restored last included."""
        needed = set(self._last[1]["files"]) if self._last else set[str]()
        for path in self._checkpoints():
            try:
                needed.update(read_json(path)["files"])
            except (InputError, KeyError, TypeError):
                continue
        return [path for path in self.path.glob("*.safetensors") if path.name not in needed]

    def needs_replay(self, steps: int) -> bool:
        """Return whether its plan needs the checkpoints once all of its runs have ended, at most at `steps`."""
        plan = self.plan()
        return bool(plan["keep_replay"] or steps < plan["furthest"])

    def size(self) -> int:
        """Return the size on disk in bytes."""
        return sum(path.stat().st_size for path in self.path.glob("*") if path.is_file())

    @property
    def _unusable(self) -> Path:
        return self.path / "unusable.json"

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob("checkpoint-*.json"))

    def _intact(self, path: Path, runs: Sequence[RunDirectory]) -> dict[str, Any]:
        """Return a checkpoint; InputError unless all files that it needs are as they were written."""
        try:
            checkpoint = read_json(path)
            for name, fingerprint in checkpoint["files"].items():
                if Path(name).name != name:
                    raise InputError(f"{path}: damaged: {name!r} is not the name of a file in this folder")
                check(self.path / name, fingerprint)
            for run in runs:
                run.check_tables(checkpoint["tables"][run.id], _added(checkpoint, run))
        except FileNotFoundError as error:
            raise InputError(f"{path}: missing") from error
        except (KeyError, TypeError, AttributeError) as error:  # KeyError: a run that it does not have
            raise InputError(f"{path}: damaged: {type(error).__name__}: {error}") from None
        return checkpoint

    def _write(self, stem: str, data: bytes) -> dict[str, Fingerprint]:
        """Write a file of tensors, under another name if one with other content exists; return {name: fingerprint}."""
        known = fingerprint_of(data)
        for name in (f"{stem}.safetensors", f"{stem}-{known['sha256'][:8]}.safetensors"):
            if create(self.path / name, data) or _is(self.path / name, known):
                return {name: known}
        write_atomically(self.path / name, data)  # what is there is damaged
        return {name: known}

    def _drop_unneeded(self) -> None:
        """Drop old checkpoints and files that no checkpoint needs. Later files may be those of another owner."""
        for path in self._checkpoints()[:-KEPT_CHECKPOINTS]:
            path.unlink(missing_ok=True)
        latest = _step(self._last[0]) if self._last else math.inf
        for path in self.unneeded():
            if _step(path) <= latest:
                path.unlink(missing_ok=True)


def state_of(tensors: dict[str, Tensor], members: Sequence[int], width: int) -> dict[str, Tensor]:
    """Return these members' [M' * K, ...] of tensors {name: [M * K, ...]}. K is 1 except in tensors of environments."""
    keep = torch.tensor(members)
    return {name: leaf.unflatten(0, (width, -1))[keep].flatten(0, 1).contiguous() for name, leaf in tensors.items()}


def _added(checkpoint: Mapping[str, Any], run: RunDirectory) -> dict[str, Addition]:
    """Return what a checkpoint adds to a run's tables. Earlier versions wrote tables before their checkpoint."""
    added: dict[str, Addition] = checkpoint.get("added", {}).get(run.id, {})
    return added


def _rows_in(checkpoint: Mapping[str, Any]) -> dict[str, Fingerprint]:
    return {name: known for name, known in checkpoint["files"].items() if name.startswith("rows-")}


def _is(path: Path, expected: Fingerprint) -> bool:
    try:
        check(path, expected)
        return True
    except InputError:
        return False


def _are_strings(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _start(rows: str) -> int:
    return int(rows.split("-")[1])


def _stop(rows: str) -> int:
    return int(Path(rows).stem.split("-")[2])


def _step(path: Path) -> int:
    """Return the vector step of a checkpoint's file: checkpoint-<t>, state-<t> or rows-<t0>-<t>."""
    kind, *steps = path.stem.split("-")
    return int(steps[1 if kind == "rows" else 0])
