"""A run directory: its spec, status, tables, policy and log."""

from __future__ import annotations

import csv
import hashlib
import io
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Unpack, cast

import pandas as pd
from typing_extensions import TypedDict  # pydantic requires it before Python 3.12

from sac_bench.errors import InputError
from sac_bench.spec.run import RunSpec
from sac_bench.store.atomic import Fingerprint, check, fingerprint, json_bytes, read_json, write_atomically, write_json
from sac_bench.store.status import ENDED, RunStatus, StatusChanges, Word

TABLES = ("evaluations", "episodes", "training")


class Addition(TypedDict):
    """Text to add to a table, and the fingerprint of the table before; None for a table that does not exist."""

    before: Fingerprint | None
    text: str


class RunDirectory:
    """One run's files. `check` is called before its status, policy or weights are replaced, and may raise."""

    def __init__(self, path: Path, check: Callable[[], object] = lambda: None) -> None:
        self.path, self._check = path, check
        self._known: RunStatus | None = None  # what this object wrote, in case the file is damaged

    @property
    def id(self) -> str:
        """The run's id, which names its directory."""
        return self.path.name

    @property
    def policy(self) -> Path:
        """File with the parameters that acting needs, from the last checkpoint."""
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

    def status(self) -> RunStatus:
        """Return the run's status.

        A run is damaged if this file was changed or, after its end, a table, the policy or the weights; "reason" names
        the file.
        """
        path = self.path / "status.json"
        try:
            status = cast(RunStatus, read_json(path))
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
                for path, file in ((self.policy, status.get("policy")), (self.weights, status.get("weights"))):
                    if file:
                        check(path, file)
        except (InputError, AttributeError) as error:
            return status | {"status": "damaged", "reason": str(error)}
        return status

    def plan(self, spec: RunSpec, cohort: str) -> None:
        """Write the spec and status of a run to be trained from the start."""
        write_json(self.path / "spec.json", spec.as_dict())
        write_json(self.path / "status.json", {"status": "planned", "steps": 0, "cohort": cohort})

    def update(self, **changes: Unpack[StatusChanges]) -> None:
        """Change these entries of the status. Raises InputError if a run that this object knew to go on was ended."""
        if self._known and self._known["status"] not in ENDED and self._has_ended():
            raise InputError(f"{self.path}: another process has ended this run")
        self._known = (self._known or self.status()) | changes
        self.replace(self.path / "status.json", json_bytes(dict(self._known)))

    def replace(self, path: Path, data: bytes) -> None:
        """Replace one of the run's files."""
        write_atomically(path, data, self._check)

    def end(self, status: Word, tables: Mapping[str, Fingerprint] | None = None, **more: Any) -> None:
        """Set the status to finished or diverged, with fingerprints of the tables, the policy and the weights.

        Raises InputError unless the tables are those of `tables`, if these are given.
        """
        for name, expected in (tables or {}).items():
            check(self.path / f"{name}.csv", expected)
        policy, weights = (fingerprint(path) if path.exists() else None for path in (self.policy, self.weights))
        self.update(status=status, tables=tables or self.fingerprints(), policy=policy, weights=weights, **more)

    def _has_ended(self) -> bool:
        """Return whether the run has ended, by its file."""
        try:
            return read_json(self.path / "status.json").get("status") in ENDED
        except (InputError, FileNotFoundError):
            return False

    def append(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        """Append rows to a table and sync it. A table keeps the columns of its first row."""
        if rows:
            path = self.path / f"{table}.csv"
            self.put(table, self.added(table, rows, fingerprint(path) if path.exists() else None)[0])

    def added(
        self, table: str, rows: Sequence[dict[str, Any]], before: Fingerprint | None
    ) -> tuple[Addition, Fingerprint]:
        """Return the text that adds rows to the part of a table with the fingerprint `before`, and the new fingerprint.

        Nothing is written. A table keeps the columns of its first row.
        """
        start, text = b"", io.StringIO()
        if before:
            with open(self.path / f"{table}.csv", "rb") as file:
                start = file.read(before["bytes"])
        header = next(csv.reader(io.StringIO(start.decode(), newline="")), None)
        columns = header or list(rows[0])
        writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
        if header is None:
            writer.writeheader()
        writer.writerows(rows)
        whole = start + text.getvalue().encode()
        after: Fingerprint = {"bytes": len(whole), "sha256": hashlib.sha256(whole).hexdigest()}
        return {"before": before, "text": text.getvalue()}, after

    def put(self, table: str, addition: Addition) -> None:
        """Write an addition at its place and sync it. To write it again changes nothing.

        Raises InputError if the table ends before that place.
        """
        path, start = self.path / f"{table}.csv", addition["before"]["bytes"] if addition["before"] else 0
        with path.open("r+b") if path.exists() else path.open("xb") as file:
            _require(path, file.seek(0, os.SEEK_END), start)
            file.seek(start)
            file.write(addition["text"].encode())
            file.flush()
            os.fsync(file.fileno())

    def fingerprints(self) -> dict[str, Fingerprint]:
        """Return the tables' fingerprints."""
        return {name: fingerprint(path) for name in TABLES if (path := self.path / f"{name}.csv").exists()}

    def check_tables(self, tables: Mapping[str, Fingerprint], additions: Mapping[str, Addition] | None = None) -> None:
        """Raise InputError unless the tables start with content of these fingerprints, without additions to them."""
        for name in TABLES:
            addition = (additions or {}).get(name)
            expected = addition["before"] if addition else tables.get(name)
            if expected:
                check(self.path / f"{name}.csv", expected, grown=True)

    def cut_back(self, tables: Mapping[str, Fingerprint]) -> None:
        """Drop what was written to the tables after these fingerprints were taken. InputError if they are shorter."""
        for name in TABLES:
            path = self.path / f"{name}.csv"
            if name in tables:
                _require(path, path.stat().st_size, tables[name]["bytes"])
                os.truncate(path, tables[name]["bytes"])
            else:
                path.unlink(missing_ok=True)

    def log(self, line: str) -> None:
        """Append a line to the run's log."""
        with open(self.path / "log.txt", "a", encoding="utf-8") as file:
            file.write(line + "\n")

    def lines(self, name: str) -> bytes:
        """Return the text of a table without a last line that is incomplete; b"" if there is no table."""
        try:
            return (self.path / f"{name}.csv").read_bytes().rpartition(b"\n")[0]
        except FileNotFoundError:
            return b""

    def table(self, name: str) -> pd.DataFrame:
        """Return a table without a last line that is incomplete; InputError if the file is damaged."""
        try:
            table = pd.read_csv(io.BytesIO(self.lines(name)))
            if not pd.api.types.is_integer_dtype(table["step"]):
                raise ValueError("its steps are not integers")
            return table
        except pd.errors.EmptyDataError:
            return pd.DataFrame()
        except (ValueError, KeyError) as error:
            raise InputError(f"{self.path / name}.csv: damaged: {error}") from None


def _require(path: Path, size: int, least: int) -> None:
    """Raise InputError for a table with fewer than `least` bytes: to write or cut there would fill it with zeros."""
    if size < least:
        raise InputError(f"{path}: damaged: cut to {size} of {least} bytes")
