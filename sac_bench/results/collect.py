"""Gather an experiment's runs from the store into the CSV tables of results/<name>/."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.algorithms import ALGORITHMS
from sac_bench.errors import InputError
from sac_bench.evaluation.random_policy import random_policy
from sac_bench.evaluation.robustness import measurements
from sac_bench.results.load import Results, lock_of
from sac_bench.results.manifest import ClaimRecord, Manifest, RandomPolicy, VariantRecord, write_manifest
from sac_bench.results.schema import CONDITIONS, OPTIONAL, PACKAGES, TABLES, frame
from sac_bench.spec.claim import robustness_measures
from sac_bench.spec.experiment import Experiment, Plannable
from sac_bench.store import locks
from sac_bench.store.atomic import fingerprint, write_text
from sac_bench.store.run import TABLES as RUN_TABLES
from sac_bench.store.status import exploded_at, kind_of
from sac_bench.store.store import Store

RUN = ("run_id", "variant", "target_steps")
"""The columns of the table `runs` that say which runs an experiment asks for."""


def runs_of(store: Store, experiment: Plannable) -> pd.DataFrame:
    """Return the table `runs` from the runs' statuses alone: one row per variant and run, in the order of `runs`."""
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
                "start": spec.start.run if spec.start else None,
                "backend": spec.versions(),
                **conditions(status),
                "reason": status.get("reason"),
                "exploded": exploded_at(status, steps),
            }
        )
    return frame("runs", rows).astype({"reason": object, "start": object, "exploded": "Int64"})


def collect(store: Store, experiment: Experiment, command: str = "") -> Results:
    """Gather an experiment's runs, write them to results/<name>/ and return them."""
    results = gather(store, experiment, command)
    folder = store.experiment(experiment.name)
    with locks.locked(lock_of(folder, "tables")):
        _write(results, folder)
    return results


def list_runs(store: Store, experiment: Experiment, command: str = "") -> None:
    """Write the tables of an experiment before its training. They list its runs, so that nothing frees these.

    With a range of seeds, tables that list more runs are left: an earlier or another command has seen a later look.
    """
    results = gather(store, experiment, command, measured=False)
    folder = store.experiment(experiment.name)
    with locks.locked(lock_of(folder, "tables")):
        if not (experiment.seed_range and _runs_in(folder) > _runs_of(results.runs)):
            _write(results, folder)


def _runs_in(folder: Path) -> set[tuple[Any, ...]]:
    """Return the runs that an experiment's folder lists; none if its table cannot be read."""
    try:
        return _runs_of(pd.read_csv(folder / "runs.csv", usecols=list(RUN), dtype={"run_id": str}))
    except (OSError, ValueError):
        return set()


def _runs_of(runs: pd.DataFrame) -> set[tuple[Any, ...]]:
    return set(runs[list(RUN)].itertuples(index=False, name=None))


def gather(store: Store, experiment: Experiment, command: str = "", measured: bool = True) -> Results:
    """Return the results of an experiment's runs so far.

    `measured`: also measure the robustness of its trained policies, if a claim needs that.
    """
    runs = runs_of(store, experiment)
    tables: dict[str, list[pd.DataFrame]] = {name: [] for name in RUN_TABLES}
    for i, (variant, spec) in enumerate(experiment.runs()):
        run = store.run(spec.id)
        if run.status()["status"] in ("new", "planned", "damaged"):
            continue  # any tables there are those of an earlier training, or damaged
        labels = {"run_id": spec.id, "variant": variant.name, "env": spec.env, "seed": spec.seed}
        for name in RUN_TABLES:
            try:
                table = run.table(name)
            except InputError as error:  # the run has not ended: continuing it repairs the table, or reports it
                runs.loc[i, "reason"] = str(error)
                continue
            if len(table):
                table = table[table["step"] <= runs.loc[i, "steps"]]  # later rows are not saved yet
                if name != "training":  # the run may have been evaluated elsewhere, at the end of a shorter training
                    table = table[spec.evaluated_by(table["policy"], table["step"], variant.steps[spec.env])]
                table = pd.concat([pd.DataFrame(labels, index=table.index), table], axis=1)
                tables[name].append(table)
    joined = {name: pd.concat(rows, ignore_index=True) if rows else pd.DataFrame() for name, rows in tables.items()}
    robustness = _robustness(store, experiment, runs) if measured else pd.DataFrame()
    return Results(_manifest(experiment, command, store), runs=runs, robustness=robustness, **joined)


def _write(results: Results, folder: Path) -> None:
    """Write the tables and then the manifest. Call it while the folder's lock of tables is held."""
    fingerprints = {}
    for name in TABLES:
        path, table = folder / f"{name}.csv", getattr(results, name)
        if name in OPTIONAL and not len(table):
            path.unlink(missing_ok=True)
            continue
        write_text(path, table.to_csv(index=False))
        fingerprints[name] = fingerprint(path)
    write_manifest(folder, results.manifest.model_copy(update={"tables": fingerprints}))


def conditions(status: Mapping[str, Any]) -> dict[str, Any]:
    """Return the conditions a run was trained under; if they changed on the way, all values in order."""
    stages = [_plain(stage) for stage in status.get("conditions") or [status]]
    joined = {}
    for name in CONDITIONS:
        values = dict.fromkeys(stage[name] for stage in stages if stage.get(name) is not None)
        joined[name] = next(iter(values), None) if len(values) < 2 else "; then ".join(map(str, values))
    return joined


def _plain(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Split "torch 2.13.0, numpy 2.4.6" into one entry per package, and add what earlier versions did not record."""
    versions = dict(part.split(" ", 1) for part in (stage.get("versions") or "").split(", ") if " " in part)
    return dict(stage) | {name: versions.get(name) for name in PACKAGES} | {"device_kind": kind_of(stage)}


def _robustness(store: Store, experiment: Experiment, runs: pd.DataFrame) -> pd.DataFrame:
    """Return the robustness measures that the claim needs of finished runs, measured now if they are missing.

    A run that was trained further has another policy, so it has none.
    """
    needed = robustness_measures(experiment.claim)
    rows = []
    for run in runs[runs["status"] == "finished"].to_dict("records"):
        status = store.run(run["run_id"]).status()
        ended_here = (status["status"], status["steps"]) == ("finished", run["target_steps"])
        if ended_here and (names := needed.get(run["variant"])):
            labels = {name: run[name] for name in ("run_id", "variant", "env", "seed")}
            values = measurements(store, run["run_id"], names)
            rows += [
                labels | {"measure": name, "value": one.value, "reason": one.reason or None}
                for name, one in values.items()
            ]
    return frame("robustness", rows)


def _manifest(experiment: Experiment, command: str, store: Store) -> Manifest:
    claim = experiment.claim
    return Manifest(
        name=experiment.name,
        question=experiment.question,
        envs=experiment.envs,
        seeds=experiment.seeds,
        seed_range=str(experiment.seed_range) if experiment.seed_range else None,
        reference=experiment.reference,
        success_return=experiment.success_return,
        margin=experiment.margin,
        reference_factor=experiment.reference_factor,
        score_last=experiment.score_last,
        claim=ClaimRecord.model_validate(claim.as_plain()) if claim else None,
        choices=experiment.choices,
        command=command,
        mix_devices=experiment.mix_devices,
        random={
            env: RandomPolicy.model_validate(measured)
            for env in experiment.envs
            if (measured := random_policy(store, env))
        },
        variants={
            variant.name: VariantRecord(
                algorithm=variant.algorithm,
                version=ALGORITHMS[variant.algorithm].version,
                option_versions={
                    option: version
                    for config in variant.configs.values()
                    for option, version in config.option_versions.items()
                },
                scored_by=ALGORITHMS[variant.algorithm].scored_by,
                overrides=variant.overrides,
                seeds={env: n for (env, name), n in experiment.allotment.items() if name == variant.name},
                steps=variant.steps,
                configs={env: config.model_dump(mode="json") for env, config in variant.configs.items()},
                swept=variant.swept,
                sweep_of=variant.sweep_of,
                label=variant.shown.label,
                group=variant.shown.group,
            )
            for variant in experiment.variants.values()
        },
    )
