"""The one record of runs: run directories in, DataFrames out.

    results/runs/<run_id>/       spec.json, status.json, evaluations.csv, episodes.csv, training.csv,
                                 policy.safetensors, log.txt
    results/cohorts/<cohort>/    plan.json, the checkpoint and the rows it needs, log.txt
    results/environments/        what a random policy gets, measured once
    results/<experiment>/        made from the above for one experiment

A run's tables are appended to before its cohort's checkpoint is committed; a resumed cohort first drops the
rows that lie beyond its checkpoint. Files that are replaced are written beside and renamed.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import json
import os
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from sac_bench.errors import InputError, nearest
from sac_bench.experiment import Experiment, RunSpec

TABLES = ("evaluations", "episodes", "training")


class Results(NamedTuple):
    """One experiment's rows. Every table has run_id, variant, env and seed."""

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    episodes: pd.DataFrame
    training: pd.DataFrame


class Store:
    """A results folder."""

    def __init__(self, root: str | Path) -> None:
        self.root = Path(root)

    def run(self, run_id: str) -> RunDirectory:
        return RunDirectory(self.root / "runs" / run_id)

    def cohort(self, cohort_id: str) -> Path:
        return self.root / "cohorts" / cohort_id

    def experiment(self, name: str) -> Path:
        return self.root / name

    def environment(self, env_id: str) -> Path:
        return self.root / "environments" / (env_id.replace(":", "_").replace("/", "_") + ".json")

    def check_writable(self, name: str) -> None:
        """Refuse a folder that an experiment's results cannot be written to, before anything is trained."""
        try:
            existing = next(p for p in [self.root, *self.root.absolute().parents] if p.exists())
            if not existing.is_dir():
                raise InputError(f"--results {self.root}: {existing} is not a folder")
            if self.experiment(name).exists() and not self.experiment(name).is_dir():
                raise InputError(f"--results {self.root}: {self.experiment(name)} is not a folder")
            with tempfile.NamedTemporaryFile(dir=existing):
                pass
        except OSError as error:
            raise InputError(f"--results {self.root}: cannot be written to: {error.strerror}") from None

    @contextlib.contextmanager
    def training(self) -> Iterator[None]:
        """The right to train in this folder, held by one process at a time."""
        self.root.mkdir(parents=True, exist_ok=True)
        with open(self.root / ".training", "a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise InputError(
                    f"{self.root}: another sac-bench is training here; wait for it or use --results"
                ) from None
            yield


class RunDirectory:
    """One run's files."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def id(self) -> str:
        return self.path.name

    def spec(self) -> RunSpec:
        return RunSpec.from_dict(json.loads((self.path / "spec.json").read_text()))

    def status(self) -> dict[str, Any]:
        """Where the run stands; `{"status": "new", "steps": 0}` when it has never been started."""
        try:
            return json.loads((self.path / "status.json").read_text())
        except FileNotFoundError:
            return {"status": "new", "steps": 0}

    def create(self, spec: RunSpec) -> None:
        if not (self.path / "spec.json").exists():
            write_json(self.path / "spec.json", spec.as_dict())

    def update(self, **status: Any) -> None:
        write_json(self.path / "status.json", self.status() | status)

    def append(self, table: str, rows: Sequence[dict[str, Any]]) -> None:
        if not rows:
            return
        with open(self.path / f"{table}.csv", "a", newline="") as file:
            writer = csv.DictWriter(file, rows[0].keys(), lineterminator="\n")
            if file.tell() == 0:
                writer.writeheader()
            writer.writerows(rows)

    def drop_after(self, steps: int) -> None:
        """Forget rows beyond `steps`, and a last line that was cut."""
        for table in TABLES:
            path = self.path / f"{table}.csv"
            if not path.exists():
                continue
            header, *lines = path.read_text().splitlines(keepends=True) or [""]
            if not header.endswith("\n"):
                path.unlink()
                continue
            kept = [line for line in lines if line.endswith("\n") and int(line.split(",", 1)[0]) <= steps]
            write_atomically(path, (header + "".join(kept)).encode())

    def log(self, line: str) -> None:
        with open(self.path / "log.txt", "a") as file:
            file.write(line + "\n")

    def table(self, name: str) -> pd.DataFrame:
        try:
            return pd.read_csv(self.path / f"{name}.csv")
        except (FileNotFoundError, pd.errors.EmptyDataError):
            return pd.DataFrame()


def write_atomically(path: Path, data: bytes) -> None:
    """Replace a file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    with open(beside, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, (json.dumps(value, indent=1) + "\n").encode())


# -- experiments ----------------------------------------------------------------------------------------------


def collect(store: Store, experiment: Experiment, command: str = "") -> Results:
    """Gather an experiment's runs from the store and write them to results/<name>/."""
    folder = store.experiment(experiment.name)
    rows: list[dict[str, Any]] = []
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for variant, spec in experiment.runs():
        run = store.run(spec.id)
        status = run.status()
        labels = {"run_id": spec.id, "variant": variant.name, "env": spec.env, "seed": spec.seed}
        rows.append(
            labels
            | {
                "status": standing_at(status, variant.steps),
                "steps": min(status["steps"], variant.steps),
                "target_steps": variant.steps,
                "wall_seconds": status.get("wall_seconds"),
                "cohort_size": status.get("cohort_size"),
                "differences": json.dumps(variant.overrides),
                "backend": spec.as_dict()["backend"],
                "versions": status.get("versions"),
                "device": status.get("device"),
                "compiled": status.get("compiled"),
                "commit": status.get("commit"),
            }
        )
        for name in TABLES:
            table = run.table(name)
            if len(table):
                table = table[table["step"] <= variant.steps]
                table = pd.concat([pd.DataFrame(labels, index=table.index), table], axis=1)
                tables[name].append(table)
    results = Results(
        pd.DataFrame(rows),
        *(pd.concat(tables[name], ignore_index=True) if tables[name] else pd.DataFrame() for name in TABLES),
    )
    folder.mkdir(parents=True, exist_ok=True)
    for name, table in zip(Results._fields, results, strict=True):
        write_atomically(folder / f"{name}.csv", table.to_csv(index=False).encode())
    write_json(folder / "experiment.json", _describe(experiment, command, store))
    return results


def load_results(name: str, results: str | Path = "results") -> Results:
    """An experiment's tables; `results` is the folder that holds <name>/ ("results/record": the committed ones).

    Raises InputError if there is no such experiment there, or its files cannot be read.
    """
    folder = Path(results) / name
    if not (folder / "experiment.json").exists():
        known = [p.parent.name for p in Path(results).glob("*/experiment.json")]
        raise InputError(f"{results}: no results of {name!r}{nearest(name, known)}")
    return Results(*(_read_table(folder / f"{table}.csv") for table in Results._fields))


def _read_table(path: Path) -> pd.DataFrame:
    try:
        # A variant may be called "null": only an empty field is missing.
        return pd.read_csv(path, dtype={"run_id": str, "variant": str}, keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def standing_at(status: dict[str, Any], steps: int) -> str:
    """Where a run stands for who wants `steps` of it: it has ended there once it has them, whatever came after."""
    if status["status"] == "diverged":
        return "finished" if status["steps"] > steps else "diverged"
    if status["status"] != "new" and status["steps"] >= steps:
        return "finished"
    return "to be continued" if status["status"] == "finished" else status["status"]


def _describe(experiment: Experiment, command: str, store: Store) -> dict[str, Any]:
    random = {}
    for env in experiment.envs:
        with contextlib.suppress(FileNotFoundError):
            random[env] = json.loads(store.environment(env).read_text())
    return {
        "name": experiment.name,
        "question": experiment.question,
        "algorithm": experiment.algorithm,
        "envs": list(experiment.envs),
        "seeds": list(experiment.seeds),
        "reference": experiment.reference,
        "success_return": experiment.success_return,
        "command": command,
        "random": random,
        "variants": {
            v.name: {"overrides": v.overrides, "steps": v.steps, "swept": v.swept} for v in experiment.variants.values()
        },
        "config": {name: v.config.model_dump(mode="json") for name, v in experiment.variants.items()},
    }


def measure_random_policies(store: Store, envs: Iterable[str]) -> list[str]:
    """Measure what a random policy gets in each environment, once per backend version; what went wrong, in lines."""
    from sac_bench.training.envs import describe
    from sac_bench.training.evaluate import random_returns

    complaints = []
    for env in envs:
        path, spec = store.environment(env), describe(env)
        with contextlib.suppress(FileNotFoundError, json.JSONDecodeError, KeyError):
            if json.loads(path.read_text())["backend"] == spec.backend:
                continue
        try:
            returns = random_returns(spec)
        except Exception as error:  # a user's environment may raise anything, and the report matters more
            complaints.append(f"no random policy's return for {env}: {type(error).__name__}: {error}")
            continue
        write_json(
            path,
            {"env": env, "backend": spec.backend, "episodes": len(returns),
             "return_mean": float(returns.mean()), "return_std": float(returns.std(ddof=1))},
        )  # fmt: skip
    return complaints
