"""The one record of runs: a results folder and its run directories.

    results/store.json           the layout of this folder
    results/runs/<run_id>/       spec.json, status.json, evaluations.csv, episodes.csv, training.csv,
                                 policy.safetensors, weights.safetensors once it finished, log.txt,
                                 robustness.json (evaluation/robustness.py)
    results/cohorts/<cohort>/    plan.json, checkpoints and the rows they stand on, log.txt (execution/checkpoint.py)
    results/.locks/              who plans, trains and writes here (store/locks.py)
    results/environments/        what a random policy gets, measured once; log.txt: what environments printed then
    results/<experiment>/        made from the above for one experiment (results/collect.py)

A run's tables are appended to before its cohort's checkpoint is committed; the checkpoint knows what they were, and a
resumed cohort cuts them back to that.
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
"""Of the folder. In 1, cohorts had one checkpoint without checksums: its ended runs are read, its checkpoints not."""
ENDED = ("finished", "diverged")
_ID = re.compile(r"[0-9a-f]{16}")


class Store:
    """A results folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def run(self, run_id: str) -> RunDirectory:
        return RunDirectory(self.root / "runs" / _plain(run_id))

    def run_ids(self) -> list[str]:
        """Every run there is a directory of."""
        return sorted(path.name for path in (self.root / "runs").glob("*") if _ID.fullmatch(path.name))

    def cohort(self, cohort_id: str) -> Path:
        return self.root / "cohorts" / _plain(cohort_id)

    def cohort_ids(self) -> list[str]:
        """Every cohort there is a directory of."""
        return sorted(path.name for path in (self.root / "cohorts").glob("*") if _ID.fullmatch(path.name))

    @property
    def locks(self) -> Path:
        return self.root / ".locks"

    def cohort_lock(self, cohort_id: str) -> Path:
        """The lock that the process which trains a cohort holds."""
        return self.locks / "cohorts" / _plain(cohort_id)

    def experiment(self, name: str) -> Path:
        return self.root / name

    def environment(self, env_id: str) -> Path:
        return self.root / "environments" / f"{file_name(env_id)}.json"

    @property
    def environment_log(self) -> Path:
        """What environments print in commands; in training it goes to the cohort's log.txt."""
        return self.root / "environments" / "log.txt"

    def standing(self, status: Mapping[str, Any], steps: int) -> str:
        """`standing_at`, and of a run that has not ended whether a process trains it at this moment."""
        standing = standing_at(status, steps)
        if standing in (*ENDED, "damaged") or has_raised(status):
            return standing
        return "running" if "cohort" in status and locks.is_taken(self.cohort_lock(status["cohort"])) else standing

    def check_writable(self, name: str) -> None:
        """Refuse a folder that an experiment's results cannot be written to, before anything is trained."""
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
        """A name under which this process plans cohorts to be trained; `is_alive` until it ends, however it does."""
        folder = self.locks / "planners"
        with contextlib.ExitStack() as life:
            with self.planning():
                folder.mkdir(exist_ok=True)
                for name in self.planner_names():
                    if not self.is_alive(name):
                        (folder / name).unlink()
                path = folder / uuid.uuid4().hex
                life.callback(path.unlink, missing_ok=True)
                locks.hold(life.enter_context(open(path, "a", encoding="utf-8")))
            yield path.name

    def planner_names(self) -> list[str]:
        """Those that planned here, dead ones included."""
        folder = self.locks / "planners"
        return os.listdir(folder) if folder.exists() else []

    def is_alive(self, planner: str) -> bool:
        """Whether the process that goes by this name still runs."""
        return locks.is_taken(self.locks / "planners" / Path(planner).name)

    def identity(self) -> str:
        """A name that this folder has wherever it is mounted. Call it while `planning()` is held."""
        path = self.locks / "identity"
        if not path.exists():
            write_text(path, uuid.uuid4().hex)
        return path.read_text(encoding="utf-8")

    @contextlib.contextmanager
    def planning(self) -> Iterator[None]:
        """The right to decide who trains what here, and to drop what a plan may count on; held for moments."""
        with locks.locked(self.locks / "planning"):
            if self.check_layout() != LAYOUT:
                write_json(self.root / "store.json", {"layout": LAYOUT})
            yield

    def check_layout(self) -> int | None:
        """The folder's layout, if it says; InputError when it is one that this version does not know."""
        path = self.root / "store.json"
        try:
            layout = read_json(path).get("layout") if path.exists() else None
        except InputError as error:
            raise InputError(f"{error}; delete it, and it is written again") from None
        if isinstance(layout, int) and layout > LAYOUT:
            raise InputError(
                f"{path}: written by a newer sac_bench (layout {layout}; this one knows {LAYOUT}); "
                "upgrade, or use another --results"
            )
        return layout


def standing_at(status: Mapping[str, Any], steps: int) -> str:
    """Where a run stands for who wants `steps` of it: it has ended there once it has them, whatever came after.

    "not started", "interrupted", "failed", "to be continued" (it finished at fewer steps), "damaged", "finished",
    "diverged".
    """
    known = status["status"]
    if known in ("new", "planned"):
        return "not started"
    if known == "diverged":
        return "finished" if status["steps"] > steps else "diverged"
    if known != "damaged" and status["steps"] >= steps:
        return "finished"
    return {"finished": "to be continued", "failed": "failed", "damaged": "damaged"}.get(known, "interrupted")


def has_raised(status: Mapping[str, Any]) -> bool:
    """Whether a run failed because its environment raised, alone in its cohort: it is trained again only when asked."""
    return status["status"] == "failed" and status.get("raised_at") is not None


class RunDirectory:
    """One run's files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known: dict[str, Any] = {}  # what this object wrote: its owner's word, whatever befalls the file

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def policy(self) -> Path:
        return self.path / "policy.safetensors"

    @property
    def weights(self) -> Path:
        """What runs that start from this one begin with: its parameters at the last steps at which it finished."""
        return self.path / "weights.safetensors"

    def spec(self) -> RunSpec:
        """What the run is; InputError when that is missing or damaged."""
        path = self.path / "spec.json"
        try:
            return RunSpec.from_dict(read_json(path))
        except (OSError, KeyError, TypeError, ValueError, AttributeError) as error:
            raise InputError(f"{path}: damaged: {type(error).__name__}: {error}".splitlines()[0]) from None

    def differences(self) -> list[str]:
        """How what trained this run differs from what would train its spec now: versions, sources (spec/run.py)."""
        return self.spec().differences_from(read_json(self.path / "spec.json"))

    def status(self) -> dict[str, Any]:
        """Where the run stands: {"status": ..., "steps": how many are saved, ...}.

        "new" (never planned), "planned", "started", "failed", "finished", "diverged"; "damaged" when this file or, of
        a run that has ended, a table, the policy or the weights are not what was written: "reason" names it.
        """
        path = self.path / "status.json"
        try:
            status = read_json(path)
            if not (isinstance(status.get("status"), str) and isinstance(status.get("steps"), int)):
                raise InputError(f"{path}: damaged: it has no status or no steps")
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
        """A run to be trained from the start."""
        write_json(self.path / "spec.json", spec.as_dict())
        write_json(self.path / "status.json", {"status": "planned", "steps": 0, "cohort": cohort})

    def update(self, **status: Any) -> None:
        """Change these entries of the status."""
        self._known = (self._known or self.status()) | status
        write_json(self.path / "status.json", self._known)

    def end(self, status: str, **more: Any) -> None:
        """Finished or diverged: from now on the tables, the policy and the weights are what they are."""
        policy, weights = (fingerprint(path) if path.exists() else None for path in (self.policy, self.weights))
        self.update(status=status, tables=self.fingerprints(), policy=policy, weights=weights, **more)

    def append(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        if not rows:
            return
        with open(self.path / f"{table}.csv", "a+", newline="", encoding="utf-8") as file:
            # One that an earlier version began keeps the columns that it has.
            file.seek(0)
            known = next(csv.reader(file), None)
            file.seek(0, os.SEEK_END)
            columns = known or list(rows[0])
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore", lineterminator="\n")
            if known is None:
                writer.writeheader()
            writer.writerows(rows)
            file.flush()
            os.fsync(file.fileno())

    def fingerprints(self) -> dict[str, Fingerprint]:
        """What the tables are now."""
        return {name: fingerprint(path) for name in TABLES if (path := self.path / f"{name}.csv").exists()}

    def check_tables(self, tables: Mapping[str, Fingerprint]) -> None:
        """InputError unless the tables begin with what they were then."""
        for name in TABLES:
            if name in tables:
                check(self.path / f"{name}.csv", tables[name], grown=True)

    def cut_back(self, tables: Mapping[str, Fingerprint]) -> None:
        """Drop what was written to the tables since they were so."""
        for name in TABLES:
            path = self.path / f"{name}.csv"
            if name in tables:
                os.truncate(path, tables[name]["bytes"])
            else:
                path.unlink(missing_ok=True)

    def log(self, line: str) -> None:
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def table(self, name: str) -> pd.DataFrame:
        """A table's whole lines: one without its end is being written, or was cut. InputError when it is none."""
        try:
            lines, _, _ = (self.path / f"{name}.csv").read_bytes().rpartition(b"\n")
            table = pd.read_csv(io.BytesIO(lines))
            if not pd.api.types.is_integer_dtype(table["step"]):
                raise ValueError("its steps are not whole numbers")
            return table
        except (FileNotFoundError, pd.errors.EmptyDataError):
            return pd.DataFrame()
        except (ValueError, KeyError) as error:
            raise InputError(f"{self.path / name}.csv: damaged: {error}") from None


def _plain(identifier: Any) -> str:
    """An id, from a file or a command line, which must not lead out of the folder."""
    if not (isinstance(identifier, str) and _ID.fullmatch(identifier)):
        raise InputError(f"{identifier!r} is not an id, which is 16 hexadecimal digits")
    return identifier
