"""A results folder and its run directories: the only record of runs.

    results/store.json           the version of the folder's layout
    results/runs/<run_id>/       spec.json, status.json, evaluations.csv, episodes.csv, training.csv,
                                 policy.safetensors, weights.safetensors once it has finished, log.txt,
                                 robustness.json (evaluation/robustness.py)
    results/cohorts/<cohort>/    plan.json, speed.json, checkpoints and their rows, log.txt (execution/checkpoint.py)
    results/.locks/              locks of processes that plan, train or write here (store/locks.py)
    results/environments/        a random policy's returns and observations, measured once; log.txt: what environments
                                 printed then
    results/<experiment>/        made from the above for one experiment (results/collect.py)

A run's tables are extended after its cohort's checkpoint is committed, by the rows that it contains. It also contains
the tables' fingerprints, and a resumed cohort writes these rows again and cuts the tables back accordingly.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from sac_bench.errors import InputError
from sac_bench.store.atomic import file_name, read_json, write_json, write_text
from sac_bench.store.leases import Lease, leases_of
from sac_bench.store.locks import HERE, Held, Locks, remove
from sac_bench.store.run import RunDirectory
from sac_bench.store.status import ENDED, RunStatus, has_raised, standing_at

LAYOUT = 3
"""Version of the folder's layout. A folder with a newer one is refused."""
_ID = re.compile(r"[0-9a-f]{16}")


class Store:
    """A results folder."""

    def __init__(self, root: str | Path, locking: Locks = HERE) -> None:
        self.root = Path(root)
        self._locking = locking
        self._planning: Lease | None = None  # while `planning()` is held

    def run(self, run_id: str, check: Callable[[], object] = lambda: None) -> RunDirectory:
        """Return a run's directory, which need not exist; InputError if the id is malformed. See RunDirectory."""
        return RunDirectory(self.root / "runs" / _plain(run_id), check)

    def run_ids(self) -> list[str]:
        """Return the ids of all runs that have a directory."""
        return sorted(path.name for path in (self.root / "runs").glob("*") if _ID.fullmatch(path.name))

    def cohort(self, cohort_id: str) -> Path:
        """Return a cohort's folder; InputError if the id is malformed."""
        return self.root / "cohorts" / _plain(cohort_id)

    def cohort_ids(self) -> list[str]:
        """Return the ids of all cohorts that have a directory."""
        return sorted(path.name for path in (self.root / "cohorts").glob("*") if _ID.fullmatch(path.name))

    @property
    def locks(self) -> Path:
        """Folder of the locks of cohorts, planners, planning and the folder's identity."""
        return self.root / ".locks"

    def cohort_lock(self, cohort_id: str) -> Path:
        """Return the path of the lock that the process training a cohort holds."""
        return self.locks / "cohorts" / _plain(cohort_id)

    def take_cohort(self, cohort_id: str) -> Held | None:
        """Take the lock of a cohort; None if another process holds it, or may hold it on another machine."""
        return self._locking.take(self.cohort_lock(cohort_id))

    def is_trained(self, cohort_id: str) -> bool:
        """Return whether a process holds the lock of a cohort, or may hold it on another machine."""
        return self._locking.is_taken(self.cohort_lock(cohort_id))

    def lease_of(self, cohort_id: str, token: str) -> Lease:
        """Return the lease on a cohort that the process with this token has taken."""
        folder = leases_of(self.cohort_lock(cohort_id))
        return Lease(folder, token, self._locking.process(), self._locking.length, self._locking.clock)

    def experiment(self, name: str) -> Path:
        """Return an experiment's folder."""
        return self.root / name

    def environment(self, env_id: str) -> Path:
        """Return the file with a random policy's returns in an environment."""
        return self.root / "environments" / f"{file_name(env_id)}.json"

    @property
    def environment_log(self) -> Path:
        """File for what environments print in commands. In training it goes to the cohort's log.txt."""
        return self.root / "environments" / "log.txt"

    def standing(self, status: RunStatus, steps: int) -> str:
        """Return `standing_at`, or "running" for a run that has not ended and that a process is training."""
        standing = standing_at(status, steps)
        if standing in (*ENDED, "damaged") or has_raised(status):
            return standing
        return "running" if "cohort" in status and self.is_trained(status["cohort"]) else standing

    def check_writable(self, name: str) -> None:
        """Raise InputError if an experiment's results cannot be written to the folder."""
        for folder in (self.root, self.root / "runs", self.root / "cohorts", self.experiment(name)):
            try:
                existing = next(p for p in [folder, *folder.absolute().parents] if p.exists())
                if not existing.is_dir():
                    raise InputError(f"--results {self.root}: {existing} is not a folder")
                with tempfile.NamedTemporaryFile(dir=existing):
                    pass
            except OSError as error:
                raise InputError(f"--results {self.root}: cannot be written to: {error.strerror} ({folder})") from None

    @contextlib.contextmanager
    def planner(self) -> Iterator[str]:
        """Yield a name under which this process plans cohorts. It is alive (`is_alive`) until the process ends."""
        folder = self.locks / "planners"
        with contextlib.ExitStack() as stack:
            with self.planning():
                folder.mkdir(exist_ok=True)
                self._forget_dead(others := self.planner_names())
                path = folder / uuid.uuid4().hex
                held = self._locking.take(path)
                assert held, "the name is new"
                stack.callback(remove, path)
                stack.enter_context(held)
            stack.callback(self._forget_dead, others)  # by now, it may be known that their machines are lost
            yield path.name

    def _forget_dead(self, planners: Iterable[str]) -> None:
        """Delete the locks of those of these planners that are dead."""
        with contextlib.suppress(OSError):
            for name in planners:
                if not self.is_alive(name):
                    remove(self.locks / "planners" / name)

    def planner_names(self) -> list[str]:
        """Return the names of all planners, dead ones included."""
        folder = self.locks / "planners"
        return [name for name in os.listdir(folder) if "." not in name] if folder.exists() else []

    def is_alive(self, planner: str) -> bool:
        """Return whether the process that planned under this name is running, or may be on another machine."""
        return self._locking.is_taken(self.locks / "planners" / Path(planner).name)

    def identity(self) -> str:
        """Return a name of this folder that is the same on every mount. Call it while `planning()` is held."""
        path = self.locks / "identity"
        if not path.exists():
            write_text(path, uuid.uuid4().hex)
        return path.read_text(encoding="utf-8")

    @contextlib.contextmanager
    def planning(self) -> Iterator[None]:
        """Hold the lock for planning, and for deleting files that a plan may need. Hold it only briefly.

        Call `check_planning` before each file that is deleted or reset.
        """
        with self._locking.locked(self.locks / "planning") as lease:
            if (layout := self.check_layout()) != LAYOUT:
                if layout and any(map(self.is_alive, self.planner_names())):
                    raise InputError(f"{self.root}: a command of an older sac_bench is running here; wait for its end")
                write_json(self.root / "store.json", {"layout": LAYOUT})
            self._planning = lease
            try:
                yield
            finally:
                self._planning = None

    def check_planning(self) -> None:
        """Raise InputError if this process was paused while it held `planning()`, and another one holds it now."""
        if self._planning and not self._planning.is_held():
            raise InputError(f"{self.root}: this command was paused, and another one has planned: run it again")

    def check_layout(self) -> int | None:
        """Return the version of the folder's layout, None for a new folder; InputError if it is newer than LAYOUT."""
        path = self.root / "store.json"
        try:
            layout = read_json(path).get("layout") if path.exists() else None
        except InputError as error:
            raise InputError(f"{error}; delete the file, and it is written again") from None
        if isinstance(layout, int) and layout > LAYOUT:
            raise InputError(
                f"{path}: written by a newer sac_bench (layout {layout}; this version supports {LAYOUT}); "
                "upgrade, or use another --results"
            )
        return layout


def _plain(identifier: Any) -> str:
    """Return an id from a file or a command line; InputError if it is malformed and could lead out of the folder."""
    if not (isinstance(identifier, str) and _ID.fullmatch(identifier)):
        raise InputError(f"{identifier!r} is not an id (16 hexadecimal digits)")
    return identifier
