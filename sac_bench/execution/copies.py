"""A cohort on a machine that does not share the results folder: which files travel there, and which come back.

There, a worker trains in a results folder of its own, made from `Original.belongings`. It waits after each save until
`Copy.changes` has read what is new. `Original.take` writes this to the results folder in the order in which a worker
writes here: files of tensors, the checkpoint that commits them, tables, weights and policies, statuses. So a crash
between two of them leaves what a crash of a worker would leave.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sac_bench.errors import InputError
from sac_bench.execution.checkpoint import CohortDirectory, Damaged
from sac_bench.store.atomic import fingerprint_of, json_bytes, parse_json, read_json, write_atomically
from sac_bench.store.run import TABLES, RunDirectory
from sac_bench.store.status import ENDED
from sac_bench.store.store import LAYOUT, Store

OF_COHORT = ("speed.json", "unusable.json")
OF_RUN = ("weights.safetensors", "policy.safetensors", "status.json")
"""Files that are replaced as a whole, in the order in which they are written: a status has digests of the others."""
LOG = "log.txt"


@dataclass(frozen=True)
class Changes:
    """What a worker elsewhere has written since the last changes. Paths are relative to the results folder."""

    started: bool
    """Whether it has started, so what is later than its first checkpoint is void."""
    checkpoints: Mapping[str, bytes]
    """{name: content} of new checkpoints, the earliest first."""
    tensors: Mapping[str, bytes]
    """{name: content} of their files that are new."""
    replaced: Mapping[str, bytes]
    """{path: content} of other files, but tables, whose rows the checkpoints have."""
    logs: Mapping[str, bytes]
    """{path: text to append}."""


class Copy:
    """The files of a cohort in a results folder that only its worker uses. What exists when it is made is known."""

    def __init__(self, root: Path, cohort: str) -> None:
        self._root, self._cohort = root, root / "cohorts" / cohort
        self._known: dict[str, str] = {}  # digests of files that are replaced
        self._sizes: dict[Path, int] = {}  # of logs
        self._names = {path.name for path in self._cohort.glob("*")}  # of files of checkpoints
        self.changes(False)

    def changes(self, started: bool) -> Changes:
        """Return what is new. The worker must not write meanwhile."""
        checkpoints: dict[str, bytes] = {}
        tensors: dict[str, bytes] = {}
        for path in sorted(self._cohort.glob("checkpoint-*.json")):
            if path.name not in self._names:
                checkpoints[path.name] = path.read_bytes()
                for name in read_json(path)["files"]:
                    if name not in self._names:
                        tensors[name] = (self._cohort / name).read_bytes()
        self._names.update(checkpoints, tensors)
        runs = sorted(self._root.glob("runs/*"))
        paths = [self._cohort / name for name in OF_COHORT] + [run / name for run in runs for name in OF_RUN]
        replaced = {str(path.relative_to(self._root)): data for path in paths if (data := self._if_new(path))}
        logs = {str(path.relative_to(self._root)): self._added(path) for path in [self._cohort / LOG, *self._logs()]}
        return Changes(started, checkpoints, tensors, replaced, {path: text for path, text in logs.items() if text})

    def _logs(self) -> Iterator[Path]:
        return self._root.glob(f"runs/*/{LOG}")

    def _if_new(self, path: Path) -> bytes | None:
        """Return the content of a file if it was written since."""
        if not path.exists():
            return None
        data = path.read_bytes()
        digest = hashlib.sha256(data).hexdigest()
        if self._known.get(str(path)) == digest:
            return None
        self._known[str(path)] = digest
        return data

    def _added(self, path: Path) -> bytes:
        """Return what was appended to a log since."""
        if not path.exists():
            return b""
        with open(path, "rb") as file:
            file.seek(self._sizes.get(path, 0))
            text = file.read()
            self._sizes[path] = file.tell()
        return text


class Original:
    """The files of a cohort in the results folder, and what a worker elsewhere adds to them.

    lease: the token of the lease on the cohort. `take` and `finish` raise TakenOver once another process has taken the
    cohort over.
    """

    def __init__(self, store: Store, cohort: str, lease: str) -> None:
        self._store, self._cohort = store, cohort
        self._directory = CohortDirectory(store.cohort(cohort), store.lease_of(cohort, lease).renew)
        self._runs = [store.run(run_id) for run_id in self._directory.plan()["runs"]]
        self._own = [run for run in self._runs if run.status().get("cohort", cohort) == cohort]
        self._resumes = self._directory.saved()
        self._problems: list[str] = []
        self._is_started = False

    def belongings(self) -> Iterator[tuple[str, bytes]]:
        """Yield the path and content of every file that the worker needs: with its checkpoint and its runs' parents.

        The worker keeps its replay; `finish` decides whether the results folder does. Raises InputError if a plan is
        damaged, or no checkpoint is intact.
        """
        plan = self._directory.plan() | {"keep_replay": True}
        yield "store.json", json_bytes({"layout": LAYOUT})
        yield f"cohorts/{self._cohort}/plan.json", json_bytes(plan)
        files: list[Path] = []
        if self._resumes:
            files, self._problems = self._directory.choose(self._own)
        parents = {spec.start.run for spec in (run.spec() for run in self._own) if spec.start}
        for run in [*self._runs, *map(self._store.run, sorted(parents))]:
            files += [run.path / name for name in ("spec.json", *(f"{table}.csv" for table in TABLES), *OF_RUN)]
        for path in files:
            if path.exists():
                yield str(path.relative_to(self._store.root)), path.read_bytes()

    def take(self, changes: Changes) -> None:
        """Write to the results folder what the worker has written. Raises Damaged if it is not what it has saved."""
        self._verify(changes.replaced)
        if changes.started and not self._is_started:
            self._start()
        for name, content in changes.checkpoints.items():
            self._directory.adopt(_plain(name), content, changes.tensors)
            self._directory.write_tables(self._own)
        for path, content in changes.replaced.items():
            write_atomically(self._path(path, OF_COHORT, OF_RUN), content, self._directory.check_owner)
        for path, text in changes.logs.items():
            with open(self._path(path, (LOG,), (LOG,)), "ab") as file:
                file.write(text)

    def _verify(self, replaced: Mapping[str, bytes]) -> None:
        """Raise Damaged unless JSON files have their own digest, and ended runs the policy and weights of their status.

        Tensors and tables are verified with their checkpoint.
        """
        for path, content in replaced.items():
            if not path.endswith(".json"):
                continue
            try:
                written = parse_json(content, Path(path))
            except InputError as error:
                raise Damaged(str(error)) from None
            if not path.endswith("/status.json") or written.get("status") not in ENDED:
                continue
            for name in ("policy", "weights"):
                file = path.replace("status.json", f"{name}.safetensors")
                sent = replaced.get(file)
                if sent is not None and written.get(name) not in (None, fingerprint_of(sent)):
                    raise Damaged(f"{file} is not the file that was saved")

    def finish(self, steps: int) -> None:
        """Drop the replay of a cohort that has ended, unless its plan needs it."""
        with self._store.planning():
            self._directory.check_owner()
            if not self._directory.needs_replay(steps):
                self._store.check_planning()
                self._directory.check_owner()
                self._directory.drop_replay()

    def _start(self) -> None:
        """Drop what is later than the checkpoint that the worker has restored, as a worker here does."""
        self._is_started = True
        if not self._resumes:
            self._directory.cut_back(self._own)
            return
        self._directory.drop_later(self._own)
        now = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
        for run in self._own:
            for problem in self._problems:
                run.log(f"{now} {problem}; resumes from the previous checkpoint")

    def _path(self, relative: str, of_cohort: tuple[str, ...], of_run: tuple[str, ...]) -> Path:
        """Return the path of a file of the cohort or one of its runs. Raises InputError for any other."""
        kind, identifier, name = relative.split("/")
        own: dict[str, RunDirectory] = {run.id: run for run in self._own}
        if kind == "cohorts" and identifier == self._cohort and name in of_cohort:
            return self._directory.path / name
        if kind == "runs" and identifier in own and name in of_run:
            return own[identifier].path / name
        raise InputError(f"a worker sent {relative!r}, which is not a file of cohort {self._cohort}")


def _plain(name: str) -> str:
    """Return the name of a file; InputError if it leads to another folder."""
    if Path(name).name != name:
        raise InputError(f"a worker sent {name!r}, which is not the name of a file")
    return name
