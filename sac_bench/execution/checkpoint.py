"""A cohort on disk: its plan, its two newest checkpoints, and the replay rows that they need.

    plan.json                           its runs, in member order, and the most steps ever requested
    checkpoint-<t>.json                 what was saved after t vector steps: files and tables with their SHA-256
    state-<t>.safetensors               the members' tensors at that point
    rows-<t0>-<t1>.safetensors          the replay's rows of one segment, written once
    speed.json                          how long the last segments took, for estimates (execution/calibration.py)

Renaming the .json, last, commits a checkpoint for all members at once. A checkpoint with a damaged file is skipped in
favour of the previous one.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from sac_bench.errors import InputError
from sac_bench.store.atomic import Fingerprint, check, read_json, write_atomically, write_json
from sac_bench.store.run import RunDirectory
from sac_bench.training.replay import rows_of
from sac_bench.training.trainer import Trainer

GENERATIONS = 2


class CohortDirectory:
    """results/cohorts/<id>/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._restored: tuple[Path, dict[str, Any]]
        self._rows: dict[str, Fingerprint] = {}  # rows of the checkpoint saved or restored last

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

    def save(self, trainer: Trainer, runs: Sequence[RunDirectory]) -> None:
        """Commit the trainer's state, and the fingerprints of its runs' tables."""
        tensors, rows, progress = trainer.checkpoint()
        at = trainer.progress.vector_steps
        needed = trainer.rows_needed_from()
        files = {name: known for name, known in self._rows.items() if _stop(name) > needed}
        if rows:
            files |= self._write(f"rows-{at - rows['reward'].shape[1]:012d}-{at:012d}.safetensors", save(rows))
        files |= self._write(f"state-{at:012d}.safetensors", save(tensors))
        commit = {"progress": progress, "files": files, "tables": {run.id: run.fingerprints() for run in runs}}
        write_json(self.path / f"checkpoint-{at:012d}.json", commit)
        self._rows = {name: known for name, known in files.items() if name.startswith("rows-")}
        self._drop_unneeded()

    def restore(self, trainer: Trainer, runs: Sequence[RunDirectory]) -> list[str]:
        """Restore a new trainer from the newest intact checkpoint. Call `drop_later` afterwards.

        Return what is wrong with newer checkpoints, one line each. Raises InputError if no checkpoint is intact, or if
        the trainer cannot resume from it; `problems` returns the reason from then on.
        """
        problems: list[str] = []
        for path in reversed(self._checkpoints()):
            try:
                checkpoint = self._intact(path, runs)
            except InputError as error:
                problems.append(str(error))
                continue
            self._rows = {name: known for name, known in checkpoint["files"].items() if name.startswith("rows-")}
            (state,) = checkpoint["files"].keys() - self._rows.keys()
            chunks = [(_start(name), partial(load_file, self.path / name)) for name in sorted(self._rows)]
            try:
                trainer.restore(load_file(self.path / state), chunks, checkpoint["progress"])
            except InputError as error:
                write_json(self._unusable, {"reason": f"{path}: {error}"})
                raise InputError(f"{path}: {error}; --retrain trains its runs again") from error
            self._unusable.unlink(missing_ok=True)
            self._restored = path, checkpoint["tables"]
            return problems
        raise InputError(f"{'; '.join(problems)}: no checkpoint is intact; --retrain trains its runs again")

    def drop_later(self, runs: Sequence[RunDirectory]) -> None:
        """Drop what is later than the restored checkpoint: rows of the runs' tables, and checkpoints."""
        restored, tables = self._restored
        for run in runs:
            run.cut_back(tables[run.id])
        for later in self._checkpoints():
            if later > restored:
                later.unlink()
        self._drop_unneeded()

    def copy_members(self, members: Sequence[int], to: CohortDirectory, runs: Sequence[RunDirectory]) -> int:
        """Copy these members, ascending, of the newest intact checkpoint to a new cohort, and return its vector steps.

        `runs` are the members' runs. Raises InputError if no checkpoint is intact.
        """
        problems: list[str] = []
        for path in reversed(self._checkpoints()):
            try:
                old = self._intact(path, runs)
            except InputError as error:
                problems.append(str(error))
                continue
            stopped, files = old["progress"]["stopped"], dict[str, Fingerprint]()
            for name in old["files"]:
                tensors = load_file(self.path / name)
                chosen = (
                    rows_of(tensors, members) if name.startswith("rows-") else state_of(tensors, members, len(stopped))
                )
                files |= to._write(name, save(chosen))
            progress = old["progress"] | {"stopped": [stopped[m] for m in members]}
            tables = {run.id: old["tables"][run.id] for run in runs}
            write_json(to.path / path.name, {"progress": progress, "files": files, "tables": tables})
            return int(progress["vector_steps"])
        raise InputError(f"{'; '.join(problems)}: no checkpoint is intact; --retrain trains its runs again")

    def problems(self, runs: Sequence[RunDirectory]) -> list[str]:
        """Return why the cohort cannot be continued: what is wrong with each checkpoint. Empty if one is intact."""
        if self._unusable.exists():
            return [str(read_json(self._unusable).get("reason"))]
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
            path.unlink()
        self._drop_unneeded()

    def unneeded(self) -> list[Path]:
        """Return the files that no checkpoint needs."""
        needed: set[str] = set()
        for path in self._checkpoints():
            try:
                needed.update(read_json(path)["files"])
            except (InputError, KeyError, TypeError):
                continue
        return [path for path in self.path.glob("*.safetensors") if path.name not in needed]

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
                run.check_tables(checkpoint["tables"][run.id])
        except FileNotFoundError as error:
            raise InputError(f"{path}: missing") from error
        except (KeyError, TypeError, AttributeError) as error:  # KeyError: a run that it does not have
            raise InputError(f"{path}: damaged: {type(error).__name__}: {error}") from None
        return checkpoint

    def _write(self, name: str, data: bytes) -> dict[str, Fingerprint]:
        write_atomically(self.path / name, data)
        return {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}}

    def _drop_unneeded(self) -> None:
        for path in self._checkpoints()[:-GENERATIONS]:
            path.unlink()
        for path in self.unneeded():
            path.unlink()


def state_of(tensors: dict[str, Tensor], members: Sequence[int], width: int) -> dict[str, Tensor]:
    """Return these members' [M' * K, ...] of tensors {name: [M * K, ...]}. K is 1 except in tensors of environments."""
    keep = torch.tensor(members)
    return {name: leaf.unflatten(0, (width, -1))[keep].flatten(0, 1).contiguous() for name, leaf in tensors.items()}


def _are_strings(values: Any) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def _start(rows: str) -> int:
    return int(rows.split("-")[1])


def _stop(rows: str) -> int:
    return int(Path(rows).stem.split("-")[2])
