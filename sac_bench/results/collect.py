"""Gather an experiment's runs from the store into the CSV tables of results/<name>/."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.algorithms import ALGORITHMS
from sac_bench.errors import InputError
from sac_bench.evaluation.random_policy import random_policy
from sac_bench.options.config import TrainingConfig
from sac_bench.results.load import Results, load_results, lock_of, read_results
from sac_bench.results.manifest import (
    ClaimRecord,
    FactorialRecord,
    Manifest,
    RandomPolicy,
    VariantRecord,
    write_manifest,
)
from sac_bench.results.schema import CONDITIONS, OPTIONAL_TABLES, PACKAGES, TABLES, frame
from sac_bench.spec.claim import robustness_measures
from sac_bench.spec.experiment import Experiment, Plannable
from sac_bench.store import locks
from sac_bench.store.atomic import fingerprint, write_text
from sac_bench.store.run import TABLES as RUN_TABLES
from sac_bench.store.run import RunDirectory
from sac_bench.store.status import ENDED, RunStatus, exploded_at, stages_of
from sac_bench.store.store import Store

Evaluated = Callable[[Any, Any, Any], Any]
"""Whether a run that ends at the last steps is evaluated: given policies, steps and the last ones."""
RUN_COLUMNS = ("run_id", "variant", "target_steps")
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
                "target_steps": steps,
                "algorithm": variant.algorithm,
                "start": spec.start.run if spec.start else None,
                "backend": spec.versions(),
                **_standing(store, status, steps),
            }
        )
    return _typed(frame("runs", rows))


def _standing(store: Store, status: RunStatus, steps: int) -> dict[str, Any]:
    """Return the columns of the table `runs` that change while a run is trained."""
    return {
        "status": store.standing(status, steps),
        "steps": min(status["steps"], steps),
        "wall_seconds": status.get("wall_seconds"),
        "cohort_size": status.get("cohort_size"),
        **conditions(status),
        "reason": status.get("reason"),
        "exploded": exploded_at(status, steps),
    }


def _typed(runs: pd.DataFrame) -> pd.DataFrame:
    return runs.astype({"reason": object, "start": object, "exploded": "Int64"})


def collect(store: Store, experiment: Experiment, command: str = "") -> Results:
    """Gather an experiment's runs, write them to results/<name>/ and return them."""
    results = gather(store, experiment, command)
    folder = store.experiment(experiment.name)
    with locks.locked(lock_of(folder, "tables")):
        write_results(results, folder)
    return results


def list_runs(store: Store, experiment: Experiment, command: str = "") -> None:
    """Write the tables of an experiment before its training. They list its runs, so that nothing frees these.

    With a range of seeds, tables that list more runs are left: an earlier or another command has seen a later look.
    """
    results = gather(store, experiment, command, measured=False)
    folder = store.experiment(experiment.name)
    with locks.locked(lock_of(folder, "tables")):
        if not (experiment.seed_range and _runs_in(folder) > _runs_of(results.runs)):
            write_results(results, folder)


def _runs_in(folder: Path) -> set[tuple[Any, ...]]:
    """Return the runs that an experiment's folder lists; none if its table cannot be read."""
    try:
        return _runs_of(pd.read_csv(folder / "runs.csv", usecols=list(RUN_COLUMNS), dtype={"run_id": str}))
    except (OSError, ValueError):
        return set()


def _runs_of(runs: pd.DataFrame) -> set[tuple[Any, ...]]:
    return set(runs[list(RUN_COLUMNS)].itertuples(index=False, name=None))


def gather(store: Store, experiment: Experiment, command: str = "", measured: bool = True) -> Results:
    """Return the results of an experiment's runs so far.

    `measured`: also measure the robustness of its trained policies, if a claim needs that.
    """
    runs = runs_of(store, experiment)
    tables_of_runs = []
    for i, (row, (_, spec)) in enumerate(zip(runs.to_dict("records"), experiment.runs(), strict=True)):
        tables, reason = _tables_of(store, row, spec.evaluated_by, spec.config)
        tables_of_runs.append(tables)
        if reason:
            runs.loc[i, "reason"] = reason
    robustness = _robustness(store, experiment, runs) if measured else pd.DataFrame()
    return Results(_manifest(experiment, command, store), runs=runs, robustness=robustness, **_joined(tables_of_runs))


def _tables_of(
    store: Store, row: Mapping[Any, Any], evaluated: Evaluated, config: TrainingConfig | None
) -> tuple[dict[str, pd.DataFrame], str]:
    """Return the tables of the run of a row of `runs`, and why one cannot be read, else "".

    evaluated: whether the run is evaluated by a policy at some steps, given the last ones. config: the run's; None if
    its algorithm is not registered.
    """
    run, tables, reason = store.run(row["run_id"]), dict[str, pd.DataFrame](), ""
    if (status := run.status())["status"] in ("new", "planned", "damaged"):
        return tables, reason  # any tables there are those of an earlier training, or damaged
    labels = {name: row[name] for name in ("run_id", "variant", "env", "seed")}
    for name in RUN_TABLES:
        try:
            table = run.table(name)
        except InputError as error:  # the run has not ended: continuing it repairs the table, or reports it
            reason = str(error)
            continue
        if len(table):
            table = table[table["step"] <= row["steps"]]  # later rows are not saved yet
            if name != "training":  # the run may have been evaluated elsewhere, at the end of a shorter training
                table = table[evaluated(table["policy"], table["step"], row["target_steps"])]
            if name == "evaluations":
                table = with_flops(table, status, config)
            tables[name] = pd.concat([pd.DataFrame(labels, index=table.index), table], axis=1)
    return tables, reason


def with_flops(evaluations: pd.DataFrame, status: RunStatus, config: TrainingConfig | None) -> pd.DataFrame:
    """Return a run's evaluations with `updates` and `flops`; NaN where they are not known.

    The status of a run that ended in an earlier version does not have its FLOPs per step and update.
    """
    steps = evaluations["step"]
    updates = pd.Series([config.updates_due(step) if config else math.nan for step in steps], index=steps.index)
    act, update = status.get("flops_per_step", math.nan), status.get("flops_per_update", math.nan)
    return evaluations.assign(updates=updates, flops=steps * act + updates * update)


def _joined(tables: Sequence[Mapping[str, pd.DataFrame]]) -> dict[str, pd.DataFrame]:
    """Return the tables of all runs, given those of each."""
    rows = {name: [of_run[name] for of_run in tables if name in of_run] for name in RUN_TABLES}
    return {name: pd.concat(parts, ignore_index=True) if parts else pd.DataFrame() for name, parts in rows.items()}


def refresh(store: Store, name: str) -> None:
    """Write an experiment's tables again with what its runs have saved so far, if some had not ended.

    Runs that the store does not have keep their rows. Raises InputError if files are damaged.
    """
    if not _may_have_changed(load_results(name, store.root), store):
        return
    folder = store.experiment(name)
    with locks.locked(lock_of(folder, "tables")):
        before = read_results(folder)  # the training command may have written meanwhile
        if _may_have_changed(before, store):
            write_results(_refreshed(before, store), folder)


def _may_have_changed(results: Results, store: Store) -> bool:
    """Return whether the store has a run that had not ended when the tables were written."""
    runs = results.runs
    return len(runs) > 0 and any(
        store.run(run_id).path.exists() for run_id in runs.loc[~runs["status"].isin(ENDED), "run_id"]
    )


def _refreshed(before: Results, store: Store) -> Results:
    """Return results with the present rows of the runs that the store has."""
    manifest, rows, tables_of_runs = before.manifest, [], []
    old = {name: _by_run(getattr(before, name)) for name in RUN_TABLES}
    for of_run in before.runs.to_dict("records"):
        row: dict[str, Any] = {str(name): value for name, value in of_run.items()}
        run, key = store.run(row["run_id"]), (row["run_id"], row["variant"])
        if run.path.exists():
            row |= _standing(store, run.status(), row["target_steps"])
            evaluated = _evaluated(manifest, row["env"], row["variant"])
            tables, reason = _tables_of(store, row, evaluated, _config(run))
            row["reason"] = reason or row["reason"]
        else:
            tables = {name: by_run[key] for name, by_run in old.items() if key in by_run}
        rows.append(row)
        tables_of_runs.append(tables)
    random = {env: RandomPolicy.model_validate(of) for env in manifest.envs if (of := random_policy(store, env))}
    manifest = manifest.model_copy(update={"random": manifest.random | random})
    return replace(before, manifest=manifest, runs=_typed(frame("runs", rows)), **_joined(tables_of_runs))


def _config(run: RunDirectory) -> TrainingConfig | None:
    """Return a run's config; None if its algorithm is not registered, or the file is damaged."""
    try:
        return run.spec().config
    except InputError:
        return None


def _by_run(table: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    return dict(list(table.groupby(["run_id", "variant"]))) if len(table) else {}


def _evaluated(manifest: Manifest, env: str, variant: str) -> Evaluated:
    """Return when a variant's runs are evaluated, as `RunSpec.evaluated_by`; its algorithm need not be registered."""
    of = manifest.variants[variant]
    config = TrainingConfig.model_construct(**of.configs.get(env, {}))
    return lambda policy, steps, last: config.is_evaluated(steps, last, policy == of.scored_by)


def write_results(results: Results, folder: Path) -> None:
    """Write an experiment's tables and then its manifest. Call it while the folder's lock of tables is held."""
    fingerprints = {}
    for name in TABLES:
        path, table = folder / f"{name}.csv", getattr(results, name)
        if name in OPTIONAL_TABLES and not len(table):
            path.unlink(missing_ok=True)
            continue
        write_text(path, table.to_csv(index=False))
        fingerprints[name] = fingerprint(path)
    write_manifest(folder, results.manifest.model_copy(update={"tables": fingerprints}))


def conditions(status: RunStatus) -> dict[str, Any]:
    """Return the conditions a run was trained under; if they changed on the way, all values in order."""
    stages = [_plain(stage) for stage in stages_of(status)]
    joined = {}
    for name in CONDITIONS:
        values = dict.fromkeys(stage[name] for stage in stages if stage.get(name) is not None)
        joined[name] = next(iter(values), None) if len(values) < 2 else "; then ".join(map(str, values))
    return joined


def _plain(stage: Mapping[str, Any]) -> dict[str, Any]:
    """Split "torch 2.13.0, numpy 2.4.6" into one entry per package."""
    versions = dict(part.split(" ", 1) for part in (stage.get("versions") or "").split(", ") if " " in part)
    return dict(stage) | {name: versions.get(name) for name in PACKAGES}


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
            from sac_bench.evaluation.robustness import measurements  # imports torch and MuJoCo

            labels = {name: run[name] for name in ("run_id", "variant", "env", "seed")}
            values = measurements(store, run["run_id"], names)
            rows += [
                labels | {"measure": name, "value": one.value, "reason": one.reason or None}
                for name, one in values.items()
            ]
    return frame("robustness", rows)


def _design(experiment: Experiment) -> FactorialRecord | None:
    design = experiment.factorial
    return FactorialRecord(factors=dict(design.factors), cells=dict(design.cells)) if design else None


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
        backends=experiment.backends,
        score_last=experiment.score_last,
        claim=ClaimRecord.model_validate(claim.as_plain()) if claim else None,
        factorial=_design(experiment),
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
                sweep_label=variant.sweep_label,
                label=variant.shown.label,
                group=variant.shown.group,
            )
            for variant in experiment.variants.values()
        },
    )
