"""A results folder and its run directories: the only record of runs.

    results/store.json           the version of the folder's layout
    results/runs/<run_id>/       spec.json, status.json, evaluations.csv, episodes.csv, training.csv,
                                 policy.safetensors, weights.safetensors once it has finished, log.txt,
                                 robustness.json (evaluation/robustness.py)
    results/cohorts/<cohort>/    plan.json, checkpoints and their rows, log.txt (execution/checkpoint.py)
    results/.locks/              locks of processes that plan, train or write here (store/locks.py)
    results/environments/        returns of a random policy, measured once; log.txt: what environments printed then
    results/<experiment>/        made from the above for one experiment (results/collect.py)

A run's tables are extended before its cohort's checkpoint is committed. The checkpoint contains their fingerprints, and
a resumed cohort cuts them back accordingly.
"""

from __future__ import annotations

import contextlib
import csv
import io
import os
import re
import tempfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.errors import InputError
from sac_bench.spec.run import RunSpec
from sac_bench.store import locks
from sac_bench.store.atomic import Fingerprint, check, file_name, fingerprint, read_json, write_json, write_text

TABLES = ("evaluations", "episodes", "training")
LAYOUT = 2
"""Version of the folder's layout. A folder with a newer one is refused."""
ENDED = ("finished", "diverged")
_ID = re.compile(r"[0-9a-f]{16}")


class Store:
    """A results folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def run(self, run_id: str) -> RunDirectory:
        """Return a run's directory, which need not exist; InputError if the id is malformed."""
        return RunDirectory(self.root / "runs" / _plain(run_id))

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
        return self.root / ".locks"

    def cohort_lock(self, cohort_id: str) -> Path:
        """Return the path of the lock that the process training a cohort holds."""
        return self.locks / "cohorts" / _plain(cohort_id)

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

    def standing(self, status: Mapping[str, Any], steps: int) -> str:
        """Return `standing_at`, or "running" for a run that has not ended and that a process is training."""
        standing = standing_at(status, steps)
        if standing in (*ENDED, "damaged") or has_raised(status):
            return standing
        return "running" if "cohort" in status and locks.is_taken(self.cohort_lock(status["cohort"])) else standing

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
                for name in self.planner_names():
                    if not self.is_alive(name):
                        (folder / name).unlink()
                path = folder / uuid.uuid4().hex
                stack.callback(path.unlink, missing_ok=True)
                locks.hold(stack.enter_context(open(path, "a", encoding="utf-8")))
            yield path.name

    def planner_names(self) -> list[str]:
        """Return the names of all planners, dead ones included."""
        folder = self.locks / "planners"
        return os.listdir(folder) if folder.exists() else []

    def is_alive(self, planner: str) -> bool:
        """Return whether the process that planned under this name is running."""
        return locks.is_taken(self.locks / "planners" / Path(planner).name)

    def identity(self) -> str:
        """Return a name of this folder that is the same on every mount. Call it while `planning()` is held."""
        path = self.locks / "identity"
        if not path.exists():
            write_text(path, uuid.uuid4().hex)
        return path.read_text(encoding="utf-8")

    @contextlib.contextmanager
    def planning(self) -> Iterator[None]:
        """Hold the lock for planning, and for deleting files that a plan may need. Hold it only briefly."""
        with locks.locked(self.locks / "planning"):
            if self.check_layout() != LAYOUT:
                write_json(self.root / "store.json", {"layout": LAYOUT})
            yield

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


def standing_at(status: Mapping[str, Any], steps: int) -> str:
    """Return a run's status with respect to `steps`: a run with that many steps has ended, even if it was continued.

    One of "not started", "interrupted", "failed", "to be continued" (it finished with fewer steps), "damaged",
    "finished", "diverged".
    """
    name = status["status"]
    if name in ("new", "planned"):
        return "not started"
    if name == "diverged":
        return "finished" if status["steps"] > steps else "diverged"
    if name != "damaged" and status["steps"] >= steps:
        return "finished"
    return {"finished": "to be continued", "failed": "failed", "damaged": "damaged"}.get(name, "interrupted")


def has_raised(status: Mapping[str, Any]) -> bool:
    """Return whether a run failed because its own environment raised. It is retrained only on request."""
    return status["status"] == "failed" and status.get("raised_at") is not None


class RunDirectory:
    """One run's files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Any] = {}  # what this object wrote, in case the file is damaged

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def policy(self) -> Path:
        return self.path / "policy.safetensors"

    @property
    def weights(self) -> Path:
        """File with the parameters at the end of training, from which other runs can start."""
        return self.path / "weights.safetensors"

    def spec(self) -> RunSpec:
        """Return the run's spec; InputError if it is missing or damaged."""
        path = self.path / "spec.json"
        try:
            return RunSpec.from_dict(read_json(path))
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: damaged: {type(error).__name__}: {error}".splitlines()[0]) from None

    def differences(self) -> list[str]:
        """Return how versions and sources differ between the training of this run and now (spec/run.py)."""
        return self.spec().differences_from(read_json(self.path / "spec.json"))

    def status(self) -> dict[str, Any]:
        """Return the run's status: {"status": ..., "steps": number of saved steps, ...}.

        "status" is "new" (never planned), "planned", "started", "failed", "finished", "diverged" or "damaged". A run
        is damaged if this file was changed or, after its end, a table, the policy or the weights; "reason" names the
        file.
        """
        path = self.path / "status.json"
        try:
            status = read_json(path)
            if not (isinstance(status.get("status"), str) and isinstance(status.get("steps"), int)):
                raise InputError(f"{path}: damaged: status or steps is missing")
        except FileNotFoundError:
            if not (self.path / "evaluations.csv").exists():
                return {"status": "new", "steps": 0}
            return {"status": "damaged", "steps": 0, "reason": f"{path}: missing"}
        except InputError as error:
            return {"status": "damaged", "steps": 0, "reason": str(error)}
        try:
            if status["status"] in ENDED:
                for name, expected in status.get("tables", {}).items():
                    check(self.path / f"{Path(name).name}.csv", expected)
                for path, name in ((self.policy, "policy"), (self.weights, "weights")):
                    if status.get(name):
                        check(path, status[name])
        except (InputError, AttributeError) as error:
            return status | {"status": "damaged", "reason": str(error)}
        return status

    def plan(self, spec: RunSpec, cohort: str) -> None:
        """Write the spec and status of a run to be trained from the start."""
        write_json(self.path / "spec.json", spec.as_dict())
        write_json(self.path / "status.json", {"status": "planned", "steps": 0, "cohort": cohort})

    def update(self, **status: Any) -> None:
        """Change these entries of the status."""
        self._known = (self._known or self.status()) | status
        write_json(self.path / "status.json", self._known)

    def end(self, status: str, **more: Any) -> None:
        """Set the status to finished or diverged, with fingerprints of the tables, the policy and the weights."""
        policy, weights = (fingerprint(path) if path.exists() else None for path in (self.policy, self.weights))
        self.update(status=status, tables=self.fingerprints(), policy=policy, weights=weights, **more)

    def append(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows to a table and sync it. A table keeps the columns of its first row."""
        if not rows:
            return
        with open(self.path / f"{table}.csv", "a+", newline="", encoding="utf-8") as file:
            file.seek(0)
            header = next(csv.reader(file), None)
            file.seek(0, os.SEEK_END)
            columns = header or list(rows[0])
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
            if header is None:
                writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return the tables' fingerprints."""
        return {name: fingerprint(path) for name in TABLES if (path := self.path / f"{name}.csv").exists()}

    def check_tables(self, tables: Mapping[str, Fingerprint]) -> None:
        """Raise InputError unless the tables start with content of these fingerprints."""
        for name in TABLES:
            if name in tables:
                check(self.path / f"{name}.csv", tables[name], grown=True)

    def cut_back(self, tables: Mapping[str, Fingerprint]) -> None:
        """Drop what was written to the tables after these fingerprints were taken."""
        for name in TABLES:
            path = self.path / f"{name}.csv"
            if name in tables:
                os.truncate(path, tables[name]["bytes"])
            else:
                path.unlink(missing_ok=True)

    def log(self, line: str) -> None:
        """Append a line to the run's log."""
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def table(self, name: str) -> pd.DataFrame:
        """Return a table without a last line that is incomplete; InputError if the file is damaged."""
        try:
            lines, _, _ = (self.path / f"{name}.csv").read_bytes().rpartition(b"\n")
            table = pd.read_csv(io.BytesIO(lines))
            if not pd.api.types.is_integer_dtype(table["step"]):
                raise ValueError("its steps are not integers")
            return table
        except (FileNotFoundError, pd.errors.EmptyDataError):
            return pd.DataFrame()
        except (ValueError, KeyError) as error:
            raise InputError(f"{self.path / name}.csv: damaged: {error}") from None


def _plain(identifier: Any) -> str:
    """Return an id from a file or a command line; InputError if it is malformed and could lead out of the folder."""
    if not (isinstance(identifier, str) and _ID.fullmatch(identifier)):
        raise InputError(f"{identifier!r} is not an id (16 hexadecimal digits)")
    return identifier
