"""A cohort on disk: its plan, its newest checkpoint, and the rows that the checkpoint stands on.

A checkpoint is committed by one rename, for all members at once. Rows are written before it, a file a
segment; those that no restore would read are removed after it.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file, save

from sac_bench.errors import InputError
from sac_bench.store import write_atomically, write_json
from sac_bench.training.trainer import Trainer


class CohortDirectory:
    """results/cohorts/<id>/."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def plan(self) -> dict[str, Any]:
        """{"runs": [run ids, in member order], "steps": where to train to, "furthest": the most ever asked for}."""
        return json.loads((self.path / "plan.json").read_text())

    def write_plan(self, runs: list[str], steps: int) -> None:
        """What to train, and how far; asking for fewer steps than before keeps what going on needs."""
        furthest = max(steps, self.plan()["furthest"]) if self.saved() else steps
        write_json(self.path / "plan.json", {"runs": runs, "steps": steps, "furthest": furthest})

    @contextlib.contextmanager
    def owned(self) -> Iterator[None]:
        """The right to train this cohort. Waits: a worker whose supervisor was killed ends at its next report."""
        with open(self.path / ".owner", "a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def saved(self) -> bool:
        """Whether there is a checkpoint to continue from."""
        return self._state.exists()

    def save(self, trainer: Trainer) -> None:
        """Commit where the trainer stands."""
        tensors, rows, progress = trainer.checkpoint()
        if rows:
            stop = trainer.progress.vector_steps
            start = stop - rows["reward"].shape[1]
            write_atomically(self.path / f"rows-{start:012d}-{stop:012d}.safetensors", save(rows))
        write_atomically(self._state, save(tensors, metadata={"progress": progress}))
        needed = trainer.rows_needed_from()
        for (_, stop), path in self._rows():
            if stop <= needed:
                path.unlink()

    def restore(self, trainer: Trainer) -> None:
        """Bring a new trainer to the last commit; rows written after it are dropped."""
        with safe_open(self._state, "pt") as file:
            progress = file.metadata()["progress"]
        committed = json.loads(progress)["vector_steps"]
        chunks = []
        for (start, stop), path in self._rows():
            if stop > committed:
                path.unlink()
            else:
                chunks.append((start, partial(load_file, path)))
        try:
            trainer.restore(load_file(self._state), chunks, progress)
        except InputError as error:
            raise InputError(f"{self._state}: {error}; --retrain trains its runs again") from error

    def drop_replay(self) -> None:
        """Free what only continuing would need."""
        for path in [self._state, *(path for _, path in self._rows())]:
            path.unlink(missing_ok=True)

    def size(self) -> int:
        """Bytes on disk."""
        return sum(entry.stat().st_size for entry in os.scandir(self.path) if entry.is_file())

    @property
    def _state(self) -> Path:
        return self.path / "checkpoint.safetensors"

    def _rows(self) -> list[tuple[tuple[int, int], Path]]:
        found = []
        for path in sorted(self.path.glob("rows-*.safetensors")):
            _, start, stop = path.stem.split("-")
            found.append(((int(start), int(stop)), path))
        return found
