"""A cohort on disk: its plan, its two newest checkpoints, and the rows of the replay that they stand on.

    plan.json                           its runs, in member order; how far it was ever asked to go
    checkpoint-<t>.json                 what all is saved after t vector steps: files and tables with their SHA-256
    state-<t>.safetensors               the members' tensors then
    rows-<t0>-<t1>.safetensors          the replay's rows of one segment, written once

A checkpoint is committed by renaming its .json, last, for all members at once. One whose files are not what was
written is passed over for the one before.
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
from sac_bench.store.store import RunDirectory
from sac_bench.training.replay import rows_of
from sac_bench.training.trainer import Trainer

GENERATIONS = 2


class CohortDirectory:
    """results/cohorts/<id>/."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._restored: tuple[Path, dict[str, Any]]
        self._rows: dict[str, Fingerprint] = {}  # what the newest checkpoint stands on, as saved or restored here

    def plan(self) -> dict[str, Any]:
        """What a cohort is: {"runs": [ids, in member order], "furthest": the most steps ever asked for,
        "planners": the processes that have it in their plan, "keep_replay": whether one of them wants it kept}.

        Raises InputError when it is missing or damaged.
        """
        path = self.path / "plan.json"
        try:
            plan = read_json(path)
        except FileNotFoundError:
            raise InputError(f"{path}: missing") from None
        strings = lambda values: isinstance(values, list) and all(isinstance(value, str) for value in values)
        if not (
            plan.get("runs")
            and strings(plan["runs"])
            and isinstance(plan.get("furthest"), int)
            and strings(plan.setdefault("planners", []))
        ):
            raise InputError(f"{path}: damaged: it has no runs, furthest step or planners")
        return plan

    def write_plan(self, runs: Sequence[str], steps: int, keep_replay: bool, planners: Sequence[str]) -> None:
        """What to train, and how far; asking for fewer steps than before keeps what going on needs."""
        before = self.plan() if (self.path / "plan.json").exists() else {}
        wanted = {
            "runs": list(runs),
            "furthest": max(steps, before.get("furthest", 0)),
            "keep_replay": keep_replay or (len(planners) > 1 and before.get("keep_replay", False)),
            "planners": list(planners),
        }
        write_json(self.path / "plan.json", wanted)

    def saved(self) -> bool:
        """Whether there is a checkpoint, whole or not."""
        return bool(self._checkpoints())

    def save(self, trainer: Trainer, runs: Sequence[RunDirectory]) -> None:
        """Commit where the trainer stands, and what its runs' tables are."""
        tensors, rows, progress = trainer.checkpoint()
        at = trainer.progress.vector_steps
        needed = trainer.rows_needed_from()
        files = {name: was for name, was in self._rows.items() if _stop(name) > needed}
        if rows:
            files |= self._write(f"rows-{at - rows['reward'].shape[1]:012d}-{at:012d}.safetensors", save(rows))
        files |= self._write(f"state-{at:012d}.safetensors", save(tensors))
        commit = {"progress": progress, "files": files, "tables": {run.id: run.fingerprints() for run in runs}}
        write_json(self.path / f"checkpoint-{at:012d}.json", commit)
        self._rows = {name: was for name, was in files.items() if name.startswith("rows-")}
        self._drop_unneeded()

    def restore(self, trainer: Trainer, runs: Sequence[RunDirectory]) -> list[str]:
        """Bring a new trainer to the newest checkpoint that is whole; what was amiss, in lines. `go_on` follows.

        Raises InputError when none is, or the trainer cannot go on from it; then `complaints` knows.
        """
        complaints: list[str] = []
        for path in reversed(self._checkpoints()):
            try:
                checkpoint = self._whole(path, runs)
            except InputError as error:
                complaints.append(str(error))
                continue
            self._rows = {name: was for name, was in checkpoint["files"].items() if name.startswith("rows-")}
            (state,) = checkpoint["files"].keys() - self._rows.keys()
            chunks = [(_start(name), partial(load_file, self.path / name)) for name in sorted(self._rows)]
            try:
                trainer.restore(load_file(self.path / state), chunks, checkpoint["progress"])
            except InputError as error:
                write_json(self._unusable, {"reason": f"{path}: {error}"})
                raise InputError(f"{path}: {error}; --retrain trains its runs again") from error
            self._unusable.unlink(missing_ok=True)
            self._restored = path, checkpoint["tables"]
            return complaints
        raise InputError(f"{'; '.join(complaints)}: no checkpoint is whole; --retrain trains its runs again")

    def go_on(self, runs: Sequence[RunDirectory]) -> None:
        """Drop what is later than the checkpoint that was restored: rows of the runs' tables, and checkpoints."""
        restored, tables = self._restored
        for run in runs:
            run.cut_back(tables[run.id])
        for later in self._checkpoints():
            if later > restored:
                later.unlink()
        self._drop_unneeded()

    def copy_members(self, members: Sequence[int], to: CohortDirectory, runs: Sequence[RunDirectory]) -> int:
        """Make a narrower cohort of the newest whole checkpoint: these members, ascending; its vector steps.

        `runs` go on there. Raises InputError when no checkpoint is whole.
        """
        complaints: list[str] = []
        for path in reversed(self._checkpoints()):
            try:
                old = self._whole(path, runs)
            except InputError as error:
                complaints.append(str(error))
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
        raise InputError(f"{'; '.join(complaints)}: no checkpoint is whole; --retrain trains its runs again")

    def complaints(self, runs: Sequence[RunDirectory]) -> list[str]:
        """Why it cannot be continued: what is amiss with the checkpoints, where none is whole; empty when one is."""
        if self._unusable.exists():
            return [str(read_json(self._unusable).get("reason"))]
        found = []
        for path in reversed(self._checkpoints()):
            try:
                self._whole(path, runs)
                return []
            except InputError as error:
                found.append(str(error))
        return found or [f"{self.path}: no checkpoint"]

    def start_anew(self) -> None:
        """Forget everything."""
        self.drop_replay()
        for path in (self._unusable, self.path / "plan.json"):
            path.unlink(missing_ok=True)

    def drop_replay(self) -> None:
        """Free what only continuing would need."""
        for path in self._checkpoints():  # first, so that none is believed without its files
            path.unlink()
        self._drop_unneeded()

    def unneeded(self) -> list[Path]:
        """Files that no checkpoint stands on, those of older layouts included."""
        needed: set[str] = set()
        for path in self._checkpoints():
            try:
                needed.update(read_json(path)["files"])
            except (InputError, KeyError, TypeError):
                continue
        return [path for path in self.path.glob("*.safetensors") if path.name not in needed]

    def size(self) -> int:
        """Bytes on disk."""
        return sum(path.stat().st_size for path in self.path.glob("*") if path.is_file())

    @property
    def _unusable(self) -> Path:
        return self.path / "unusable.json"

    def _checkpoints(self) -> list[Path]:
        return sorted(self.path.glob("checkpoint-*.json"))

    def _whole(self, path: Path, runs: Sequence[RunDirectory]) -> dict[str, Any]:
        """A checkpoint; InputError unless all that it stands on is as it was written."""
        try:
            checkpoint = read_json(path)
            for name, fingerprint in checkpoint["files"].items():
                if Path(name).name != name:
                    raise InputError(f"{path}: damaged: {name!r} is not a name of a file here")
                check(self.path / name, fingerprint)
            for run in runs:
                run.check_tables(checkpoint["tables"][run.id])
        except FileNotFoundError as error:
            raise InputError(f"{path}: missing") from error
        except (KeyError, TypeError, AttributeError) as error:  # KeyError: a run that it does not know
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
    """Of tensors {name: [M * K, ...]} these members' [M' * K, ...]; K is 1 but for what environments have."""
    keep = torch.tensor(members)
    return {name: leaf.unflatten(0, (width, -1))[keep].flatten(0, 1).contiguous() for name, leaf in tensors.items()}


def _start(rows: str) -> int:
    return int(rows.split("-")[1])


def _stop(rows: str) -> int:
    return int(Path(rows).stem.split("-")[2])
