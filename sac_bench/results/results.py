"""An experiment's results: gathered from the runs it lists, and read back as DataFrames."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from sac_bench.algorithms import ALGORITHMS
from sac_bench.envs.pool import describe
from sac_bench.errors import InputError, nearest
from sac_bench.evaluation.robustness import examine
from sac_bench.spec.claim import as_plain, examinations_of
from sac_bench.spec.experiment import Experiment, Plannable
from sac_bench.store import locks
from sac_bench.store.atomic import check, fingerprint, read_json, write_json, write_text
from sac_bench.store.store import TABLES, Store


class Results(NamedTuple):
    """One experiment's rows. Every table has run_id, variant, env and seed."""

    runs: pd.DataFrame
    evaluations: pd.DataFrame
    episodes: pd.DataFrame
    training: pd.DataFrame
    examinations: pd.DataFrame = pd.DataFrame()
    """What examinations found of the trained policies (evaluation/robustness.py): a row a run and examination."""


def lock_of(folder: Path, what: str) -> Path:
    """What the process holds that writes an experiment's tables, or its report."""
    return folder.parent / ".locks" / "experiments" / f"{folder.name}.{what}"


def runs_of(store: Store, experiment: Plannable) -> pd.DataFrame:
    """Where runs stand, from their statuses alone: a row a variant and run, in the order of `runs`."""
    rows = []
    for variant, spec in experiment.runs():
        status, steps = store.run(spec.id).status(), variant.steps[spec.env]
        rows.append(
            {
                "run_id": spec.id,
                "variant": variant.name,
                "env": spec.env,
                "seed": spec.seed,
                "status": store.standing(status, steps),
                "steps": min(status["steps"], steps),
                "target_steps": steps,
                "wall_seconds": status.get("wall_seconds"),
                "cohort_size": status.get("cohort_size"),
                "algorithm": variant.algorithm,
                "differences": json.dumps(variant.overrides),
                "start": spec.start.run if spec.start else None,
                "backend": spec.versions(),
                **conditions(status),
                "reason": status.get("reason"),
                "untrusted": status["status"] in ("new", "planned", "damaged"),
            }
        )
    return pd.DataFrame(rows).astype({"reason": object, "start": object})


def collect(store: Store, experiment: Experiment, command: str = "", examined: bool = True) -> Results:
    """Gather an experiment's runs from the store and write them to results/<name>/; its policies are `examined`."""
    folder = store.experiment(experiment.name)
    runs = runs_of(store, experiment)
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in TABLES}
    for i, (variant, spec) in enumerate(experiment.runs()):
        if runs.loc[i, "untrusted"]:
            continue  # what may lie there is of an earlier training, or damaged
        labels = {"run_id": spec.id, "variant": variant.name, "env": spec.env, "seed": spec.seed}
        for name in TABLES:
            try:
                table = store.run(spec.id).table(name)
            except InputError as error:  # of a run that has not ended: continuing it mends that, or tells
                runs.loc[i, "reason"] = str(error)
                continue
            if len(table):
                table = table[table["step"] <= runs.loc[i, "steps"]]  # beyond are rows that are not saved yet
                if name != "training":  # it may have ended elsewhere before: that evaluation is not of this training
                    due = (table["step"] % spec.config.eval_every == 0) | (table["step"] == runs.loc[i, "target_steps"])
                    table = table[due]
                table = pd.concat([pd.DataFrame(labels, index=table.index), table], axis=1)
                tables[name].append(table)
    joined = {name: pd.concat(rows, ignore_index=True) if rows else pd.DataFrame() for name, rows in tables.items()}
    found = _examined(store, experiment, runs) if examined else pd.DataFrame()
    results = Results(runs=runs.drop(columns="untrusted"), examinations=found, **joined)
    about = _describe(experiment, command, store)
    with locks.locked(lock_of(folder, "tables")):
        about["tables"] = {}
        for name, table in zip(Results._fields, results, strict=True):
            path = folder / f"{name}.csv"
            if name in Results._field_defaults and not len(table):
                path.unlink(missing_ok=True)
                continue
            write_text(path, table.to_csv(index=False))
            about["tables"][name] = fingerprint(path)
        write_json(folder / "experiment.json", about)
    return results


def _examined(store: Store, experiment: Experiment, runs: pd.DataFrame) -> pd.DataFrame:
    """What the claim's examinations found of the finished runs; measured now where it is not known.

    Of a run that has gone on since, nothing: its policy is another's now.
    """
    wanted = examinations_of(experiment.claim)
    rows = []
    for run in runs[runs["status"] == "finished"].to_dict("records"):
        status = store.run(run["run_id"]).status()
        as_asked = (status["status"], status["steps"]) == ("finished", run["target_steps"])
        if as_asked and (names := wanted.get(run["variant"])):
            labels = {name: run[name] for name in ("run_id", "variant", "env", "seed")}
            found = examine(store, run["run_id"], names)
            rows += [labels | {"examination": name, "value": value} for name, value in found.items()]
    return pd.DataFrame(rows)


def load_results(name: str, results: str | Path = "results") -> Results:
    """An experiment's tables; `results` is the folder that holds <name>/ ("results/record": the committed ones).

    Raises InputError if there is no such experiment there, or its files cannot be read.
    """
    folder = Path(results) / name
    if not (folder / "experiment.json").exists():
        known = [p.parent.name for p in Path(results).glob("*/experiment.json")]
        raise InputError(f"{results}: no results of {name!r}{nearest(name, known)}")
    with locks.settled(lock_of(folder, "tables")):
        try:
            for table, expected in read_json(folder / "experiment.json").get("tables", {}).items():
                if table in Results._fields:
                    check(folder / f"{table}.csv", expected)
        except (InputError, AttributeError) as error:
            raise InputError(f"{folder}: {error}; sac-bench run with its experiment file writes it again") from None
        there = [name for name in Results._fields if name not in Results._field_defaults]
        there += [name for name in Results._field_defaults if (folder / f"{name}.csv").exists()]
        return Results(**{name: _read_table(folder / f"{name}.csv") for name in there})


def _read_table(path: Path) -> pd.DataFrame:
    try:
        # A variant may be called "null": only an empty field is missing.
        return pd.read_csv(path, dtype={"run_id": str, "variant": str}, keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


CONDITIONS = ("device", "compiled", "threads", "products", "versions", "commit")
"""What a run's bytes depend on beside its spec and its cohort, and so is written down with it."""


def conditions(status: Mapping[str, Any]) -> dict[str, Any]:
    """Under what a run was trained; where that changed on the way, all of it in order."""
    stages = status.get("conditions") or [status]
    joined = {}
    for name in CONDITIONS:
        values = dict.fromkeys(stage[name] for stage in stages if stage.get(name) is not None)
        joined[name] = next(iter(values), None) if len(values) < 2 else "; then ".join(map(str, values))
    return joined


def about(folder: Path) -> dict[str, Any]:
    """What experiment.json says; also as it was while an experiment had one algorithm, the same everywhere.

    A random policy's return that is not finite is NaN.
    """
    found = read_json(folder / "experiment.json")
    if "algorithm" in found:
        everywhere = lambda value: dict.fromkeys(found["envs"], value)
        for variant in found["variants"].values():
            variant |= {"algorithm": found["algorithm"], "steps": everywhere(variant["steps"])}
        found["config"] = {name: everywhere(config) for name, config in found["config"].items()}
    number = lambda value: math.nan if value is None else value  # as JSON has it
    found["random"] = {env: {key: number(x) for key, x in of.items()} for env, of in found["random"].items()}
    return found


def superseded(about: Mapping[str, Any]) -> str:
    """Which versions of algorithms, other than this code's, trained an experiment or a study; empty where none did.

    By what it describes itself with (`about`, a study's file); of algorithms that are not registered nothing is known.
    """
    trained = {of["algorithm"]: of.get("semantics") for of in about.get("variants", {"": about}).values()}
    older = {
        name: "an unrecorded version" if version is None else f"version {version}"
        for name, version in trained.items()
        if name in ALGORITHMS and version != ALGORITHMS[name].version
    }
    said = [f"{version} of {name} (this is version {ALGORITHMS[name].version})" for name, version in older.items()]
    return f"superseded: trained by {', '.join(said)}" if said else ""


def _describe(experiment: Experiment, command: str, store: Store) -> dict[str, Any]:
    random = {}
    for env in experiment.envs:
        if found := _random_policy(store, env):
            random[env] = found
    return {
        "name": experiment.name,
        "question": experiment.question,
        "envs": list(experiment.envs),
        "seeds": list(experiment.seeds),
        "reference": experiment.reference,
        "success_return": experiment.success_return,
        "claim": as_plain(experiment.claim),
        "command": command,
        "random": random,
        "variants": {
            v.name: {
                "algorithm": v.algorithm,
                "semantics": ALGORITHMS[v.algorithm].version,
                "scored_by": ALGORITHMS[v.algorithm].scored_by,
                "overrides": v.overrides,
                "steps": v.steps,
                "swept": v.swept,
            }
            for v in experiment.variants.values()
        },
        "config": {
            v.name: {env: config.model_dump(mode="json") for env, config in v.configs.items()}
            for v in experiment.variants.values()
        },
    }


def measure_random_policies(store: Store, envs: Iterable[str]) -> list[str]:
    """Measure what a random policy gets in each environment, once per version of it; what went wrong, in lines."""
    from sac_bench.training.evaluate import random_returns

    complaints = []
    for env in envs:
        if _random_policy(store, env):
            continue
        spec = describe(env)
        try:
            returns = random_returns(spec)
        except Exception as error:  # a user's environment may raise anything, and the report matters more
            complaints.append(f"no random policy's return for {env}: {type(error).__name__}: {error}")
            continue
        if not np.isfinite(returns).all():
            complaints.append(f"no random policy's return for {env}: its rewards are not finite")
        write_json(
            store.environment(env),
            _version_of(env)
            | {
                "episodes": len(returns),
                "return_mean": float(returns.mean()),
                "return_std": float(returns.std(ddof=1)),
            },
        )
    return complaints


def _random_policy(store: Store, env: str) -> dict[str, Any] | None:
    """What a random policy gets in an environment as it is now, if that was measured."""
    with contextlib.suppress(FileNotFoundError, InputError):
        found = read_json(store.environment(env))
        if found.items() >= _version_of(env).items():
            return found
    return None


def _version_of(env: str) -> dict[str, Any]:
    spec = describe(env)
    return {"env": env, "backend": spec.backend} | ({"definition": spec.definition} if spec.definition else {})
