"""Gather an experiment's runs from the store into the CSV tables of results/<name>/."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
from sac_bench.results.reading import Rows, joined, read
from sac_bench.results.schema import CONDITIONS, OPTIONAL_TABLES, PACKAGES, TABLES, frame
from sac_bench.spec.claim import robustness_measures
from sac_bench.spec.experiment import Experiment, Plannable
from sac_bench.spec.run import RunSpec
from sac_bench.spec.variant import Variant
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
    requested = experiment.runs()
    return _runs_of(store, requested, [store.run(spec.id).status() for _, spec in requested])


def _runs_of(store: Store, requested: Sequence[tuple[Variant, RunSpec]], statuses: Sequence[RunStatus]) -> pd.DataFrame:
    rows = []
    for (variant, spec), status in zip(requested, statuses, strict=True):
        steps = variant.steps[spec.env]
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
        if not (experiment.seed_range and _runs_in(folder) > _listed(results.runs)):
            write_results(results, folder)


def _runs_in(folder: Path) -> set[tuple[Any, ...]]:
    """Return the runs that an experiment's folder lists; none if its table cannot be read."""
    try:
        return _listed(pd.read_csv(folder / "runs.csv", usecols=list(RUN_COLUMNS), dtype={"run_id": str}))
    except (OSError, ValueError):
        return set()


def _listed(runs: pd.DataFrame) -> set[tuple[Any, ...]]:
    return set(runs[list(RUN_COLUMNS)].itertuples(index=False, name=None))


def gather(store: Store, experiment: Experiment, command: str = "", measured: bool = True) -> Results:
    """Return the results of an experiment's runs so far.

    `measured`: also measure the robustness of its trained policies, if a claim needs that.
    """
    requested = experiment.runs()
    statuses = [store.run(spec.id).status() for _, spec in requested]
    runs = _runs_of(store, requested, statuses)
    rows = runs.to_dict("records")
    sources = [
        _Source(row, status, spec.evaluated_by, spec.config)
        for row, status, (_, spec) in zip(rows, statuses, requested, strict=True)
    ]
    tables, reasons = _tables_of(store, sources)
    for i, reason in reasons.items():
        runs.loc[i, "reason"] = reason
    robustness = _robustness(store, experiment, runs, statuses) if measured else pd.DataFrame()
    own = {name: _labelled(rows_of_runs, rows) for name, rows_of_runs in tables.items()}
    return Results(_manifest(experiment, command, store), runs=runs, robustness=robustness, **own)


@dataclass(frozen=True)
class _Source:
    """A run whose tables are read.

    row: its row of `runs`. evaluated: whether a run of its environment, variant and target steps is evaluated by a
    policy at some steps, given the last ones. config: the run's; None if its algorithm is not registered.
    """

    row: Mapping[Any, Any]
    status: RunStatus
    evaluated: Evaluated
    config: TrainingConfig | None

    @property
    def key(self) -> tuple[Any, ...]:
        """Equal for runs that are evaluated at the same steps."""
        return self.row["env"], self.row["variant"], self.row["target_steps"]


def _tables_of(store: Store, sources: Sequence[_Source | None]) -> tuple[dict[str, Rows], dict[int, str]]:
    """Return the rows of the tables of all runs but None, and why those of some cannot be read."""
    # Any tables of other runs are those of an earlier training, or damaged.
    runs = [
        store.run(one.row["run_id"]) if one and one.status["status"] not in ("new", "planned", "damaged") else None
        for one in sources
    ]
    tables, reasons = dict[str, Rows](), dict[int, str]()
    for name in RUN_TABLES:
        rows, damaged = read(runs, name)
        reasons |= damaged  # the run has not ended: continuing it repairs the table, or reports it
        if len(rows.table):
            saved = np.array([one.row["steps"] if one else 0 for one in sources])
            rows = _kept(rows, rows.table["step"].to_numpy() <= saved[rows.of])  # later rows are not saved yet
        if len(rows.table) and name != "training":
            rows = _kept(rows, _is_evaluated(rows, sources))
        if len(rows.table) and name == "evaluations":
            rows = Rows(with_flops(rows, sources), rows.of)
        tables[name] = rows
    return tables, reasons


def _kept(rows: Rows, mask: NDArray[np.bool_]) -> Rows:
    return rows if mask.all() else Rows(rows.table[mask].reset_index(drop=True), rows.of[mask])


def _is_evaluated(rows: Rows, sources: Sequence[_Source | None]) -> NDArray[np.bool_]:
    """Return which rows count: a run may have been evaluated elsewhere, at the end of a shorter training."""
    policies, steps = rows.table["policy"].to_numpy(dtype=object), rows.table["step"].to_numpy()
    keys: dict[Any, list[int]] = {}
    for i, one in enumerate(sources):
        if one:
            keys.setdefault(one.key, []).append(i)
    group = np.zeros(len(sources), dtype=np.intp)
    for number, members in enumerate(keys.values()):
        group[members] = number
    order = np.argsort(group[rows.of], kind="stable")
    ends = np.searchsorted(group[rows.of][order], np.arange(len(keys) + 1))
    counts = np.zeros(len(steps), dtype=bool)
    for number, members in enumerate(keys.values()):
        one, own = sources[members[0]], order[ends[number] : ends[number + 1]]
        assert one
        counts[own] = one.evaluated(policies[own], steps[own], one.row["target_steps"])
    return counts


def with_flops(rows: Rows, sources: Sequence[_Source | None]) -> pd.DataFrame:
    """Return evaluations with `updates` and `flops`; NaN where they are not known.

    The status of a run that ended in an earlier version does not have its FLOPs per step and update.
    """
    steps = rows.table["step"].to_numpy()
    known: dict[tuple[int, int], float] = {}  # by the identity of a config, which many runs share, and the steps
    updates = []
    for i, step in zip(rows.of.tolist(), steps.tolist(), strict=True):
        config = one.config if (one := sources[i]) else None
        if (id(config), step) not in known:
            known[id(config), step] = config.updates_due(step) if config else math.nan
        updates.append(known[id(config), step])
    act, update = (
        np.array([one.status.get(name, math.nan) if one else math.nan for one in sources], dtype=float)[rows.of]
        for name in ("flops_per_step", "flops_per_update")
    )
    return rows.table.assign(updates=updates, flops=steps * act + np.array(updates) * update)


def _labelled(rows: Rows, runs: Sequence[Mapping[Any, Any]]) -> pd.DataFrame:
    """Return rows with the labels of their runs, given the rows of `runs`."""
    if not len(rows.table):
        return pd.DataFrame()
    labels = pd.DataFrame({name: [row[name] for row in runs] for name in ("run_id", "variant", "env", "seed")})
    return pd.concat([labels.take(rows.of).reset_index(drop=True), rows.table], axis=1)


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
    manifest, rows = before.manifest, []
    sources: list[_Source | None] = []
    for of_run in before.runs.to_dict("records"):
        row: dict[str, Any] = {str(name): value for name, value in of_run.items()}
        run, source = store.run(row["run_id"]), None
        if run.path.exists():
            row |= _standing(store, status := run.status(), row["target_steps"])
            source = _Source(row, status, _evaluated(manifest, row["env"], row["variant"]), _config(run))
        rows.append(row)
        sources.append(source)
    tables, reasons = _tables_of(store, sources)
    for i, reason in reasons.items():
        rows[i]["reason"] = reason
    old = {(row["run_id"], row["variant"]): i for i, row in enumerate(rows) if sources[i] is None}
    own = {
        name: _with_old(_labelled(tables[name], rows), tables[name].of, getattr(before, name), old)
        for name in RUN_TABLES
    }
    random = {env: RandomPolicy.model_validate(of) for env in manifest.envs if (of := random_policy(store, env))}
    manifest = manifest.model_copy(update={"random": manifest.random | random})
    return replace(before, manifest=manifest, runs=_typed(frame("runs", rows)), **own)


def _with_old(
    new: pd.DataFrame, of: NDArray[np.intp], before: pd.DataFrame, old: Mapping[tuple[Any, Any], int]
) -> pd.DataFrame:
    """Return new rows and those before of the runs in `old`, {(run id, variant): its position}, in order."""
    if not old or not len(before):
        return new
    places = np.array([old.get(run, -1) for run in zip(before["run_id"], before["variant"], strict=True)])
    parts = [Rows(before[places >= 0], places[places >= 0]), Rows(new, of)]
    return joined(sorted(parts, key=lambda part: part.of.min(initial=sys.maxsize))).table


def _config(run: RunDirectory) -> TrainingConfig | None:
    """Return a run's config; None if its algorithm is not registered, or the file is damaged."""
    try:
        return run.spec().config
    except InputError:
        return None


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


def _robustness(
    store: Store, experiment: Experiment, runs: pd.DataFrame, statuses: Sequence[RunStatus]
) -> pd.DataFrame:
    """Return the robustness measures that the claim needs of finished runs, measured now if they are missing.

    A run that was trained further has another policy, so it has none.
    """
    needed = robustness_measures(experiment.claim)
    rows = []
    for run, status in zip(runs.to_dict("records"), statuses, strict=True):
        ended_here = (run["status"], status["status"]) == ("finished", "finished")
        ended_here = ended_here and status["steps"] == run["target_steps"]
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
