"""Warm starts in a store: which runs can start, which must wait for their parents, and their initial weights."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Sequence

import pandas as pd
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sac_bench.errors import InputError
from sac_bench.spec import warm_start
from sac_bench.spec.run import RunSpec, WarmStart
from sac_bench.store.atomic import check, write_json
from sac_bench.store.status import ENDED, standing_at
from sac_bench.store.store import Store
from sac_bench.training.metrics import Q_BOUND


def with_parents(runs: warm_start.Runs, store: Store) -> warm_start.Runs:
    """Return the runs and, recursively, the parents of those that have not ended.

    Raises InputError as spec.warm_start.with_parents does.
    """
    return warm_start.with_parents(
        runs, lambda variant, spec: standing_at(store.run(spec.id).status(), variant.steps[spec.env]) not in ENDED
    )


def parents_without_weights(requested: Iterable[tuple[RunSpec, int]], store: Store) -> set[str]:
    """Return the ids of finished parents that runs still need, and that have no weights on disk."""
    parents = set()
    for spec, steps in requested:
        if (start := spec.start) is None or standing_at(store.run(spec.id).status(), steps) in ENDED:
            continue
        status = store.run(start.run).status()
        if status["status"] == "finished" and status["steps"] == start.steps and not status.get("weights"):
            parents.add(start.run)
    return parents


def waiting(new: Sequence[RunSpec], continued: Collection[str], store: Store) -> dict[str, RunSpec]:
    """Return, by id, the new runs whose parent has not finished, or is trained by the same plan.

    Raises InputError if a parent has finished and has no weights of the required step.
    """
    planned = {spec.id for spec in new} | set(continued)
    return {s.id: s for s in new if s.start and (s.start.run in planned or not _has_finished(s.start, store))}


def settle(waiting_runs: Sequence[RunSpec], store: Store) -> bool:
    """Return, once a plan is carried out, whether any of the waiting runs can start now.

    Runs that can never start, because their parent diverged or failed, are marked as failed.
    """
    by_id = {spec.id: spec for spec in waiting_runs}

    def obstacle(start: WarmStart) -> str | None:
        if start.run in by_id:
            grandparent = by_id[start.run].start
            return "has not started" if grandparent and obstacle(grandparent) else None
        standing = standing_at(store.run(start.run).status(), start.steps)
        if standing == "finished":
            return None
        return standing if standing in ("diverged", "failed") else "has not ended"

    for spec in waiting_runs:
        if spec.start and (reason := obstacle(spec.start)):
            run = store.run(spec.id)
            with store.planning():
                if "cohort" not in run.status():  # otherwise another process has planned it
                    write_json(run.path / "spec.json", spec.as_dict())
                    run.update(status="failed", reason=f"not started: its parent, run {spec.start.run}, {reason}")
    return any(spec.start and _has_finished(spec.start, store) for spec in waiting_runs)


def read(store: Store, start: WarmStart) -> tuple[dict[str, Tensor], float]:
    """Return the weights at the end of a run's parent, by name, and the bound of the parent's |Q|.

    The bound is infinite if none was recorded. Raises InputError if there are no weights.
    """
    _check_weights(start, store)
    run = store.run(start.run)
    weights = run.status()["weights"]
    assert weights, "checked"
    check(run.weights, weights)
    with safe_open(run.weights, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, q_bound(run.table("training"), start.steps)


def q_bound(training: pd.DataFrame, steps: int) -> float:
    """Return the bound of |Q| after `steps` by the table `training`; infinite if none was recorded."""
    if Q_BOUND.name not in training:
        return math.inf
    last = training.loc[training["step"] <= steps, Q_BOUND.name].tail(1).dropna()
    return float(last.iloc[0]) if len(last) else math.inf


def _has_finished(start: WarmStart, store: Store) -> bool:
    """Return whether the parent has finished; InputError if it has, and has no weights of the required step."""
    status = store.run(start.run).status()
    if standing_at(status, start.steps) != "finished":
        return False
    _check_weights(start, store)
    return True


def _check_weights(start: WarmStart, store: Store) -> None:
    run = store.run(start.run)
    status = run.status()
    which = f"run {run.id}, the parent of other runs at {start.steps} steps,"
    if not status.get("weights"):
        if status["steps"] == start.steps:
            raise InputError(f"{which} has no weights on disk; --retrain trains it again")
        raise InputError(f"{which} has {status['steps']} steps and did not end there; use another --results")
    try:
        with safe_open(run.weights, "pt") as file:
            steps = int(file.metadata()["steps"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{run.weights}: damaged: {error}; --retrain trains it again") from None
    if steps != start.steps:
        raise InputError(f"{which} has the weights of step {steps} only; start there, or use another --results")
