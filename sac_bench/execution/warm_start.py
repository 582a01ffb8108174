"""Runs that start from others' weights: which can be begun, which wait, and what those begin with."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from safetensors import SafetensorError, safe_open
from torch import Tensor

from sac_bench.algorithms.protocol import Hyperparameters
from sac_bench.errors import InputError
from sac_bench.spec import warm_start
from sac_bench.spec.run import RunSpec, Start
from sac_bench.store.atomic import check, write_json
from sac_bench.store.store import ENDED, Store, standing_at


def with_parents(runs: warm_start.Runs, store: Store) -> warm_start.Runs:
    """Runs, and all that those of them start from that have not ended; InputError where no run ends so."""
    return warm_start.with_parents(
        runs, lambda variant, spec: standing_at(store.run(spec.id).status(), variant.steps[spec.env]) not in ENDED
    )


def without_weights(wanted: Iterable[tuple[RunSpec, int]], store: Store) -> set[str]:
    """Runs that some which have not ended start from, and that finished there before runs kept their weights."""
    found = set()
    for spec, steps in wanted:
        if (start := spec.start) is None or standing_at(store.run(spec.id).status(), steps) in ENDED:
            continue
        status = store.run(start.run).status()
        if status["status"] == "finished" and status["steps"] == start.steps and not status.get("weights"):
            found.add(start.run)
    return found


def waiting(new: Sequence[RunSpec], going_on: Collection[str], store: Store) -> dict[str, RunSpec]:
    """Of new runs, by id, those whose start has not finished, or is trained by the same plan.

    Raises InputError where it has finished and there are no such weights.
    """
    now = {spec.id for spec in new} | set(going_on)
    return {s.id: s for s in new if s.start and (s.start.run in now or not _has_finished(s.start, store))}


def settle(waits: Sequence[RunSpec], store: Store) -> bool:
    """Once a plan is carried out: whether any of those that waited can be begun now.

    Those that never can, because what they start from diverged or failed, are told as failed.
    """
    by_id = {spec.id: spec for spec in waits}

    def hindrance(start: Start) -> str | None:
        if start.run in by_id:
            before = by_id[start.run].start
            return "has not started" if before and hindrance(before) else None
        standing = standing_at(store.run(start.run).status(), start.steps)
        if standing == "finished":
            return None
        return standing if standing in ("diverged", "failed") else "has not ended"

    for spec in waits:
        if spec.start and (why := hindrance(spec.start)):
            run = store.run(spec.id)
            with store.planning():
                if "cohort" not in run.status():  # else another process was luckier
                    write_json(run.path / "spec.json", spec.as_dict())
                    run.update(status="failed", reason=f"not started: its start, run {spec.start.run}, {why}")
    return any(spec.start and _has_finished(spec.start, store) for spec in waits)


def read(store: Store, start: Start) -> tuple[dict[str, Tensor], Hyperparameters]:
    """The weights of a start, by name, and the numbers of the run that they are of; InputError where there are none."""
    _check_weights(start, store)
    run = store.run(start.run)
    check(run.weights, run.status()["weights"])
    with safe_open(run.weights, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return tensors, run.spec().config.hyperparameter_tensors()


def _has_finished(start: Start, store: Store) -> bool:
    """Whether a start is there; InputError where the run has all the steps, and not those weights."""
    status = store.run(start.run).status()
    if standing_at(status, start.steps) != "finished":
        return False
    _check_weights(start, store)
    return True


def _check_weights(start: Start, store: Store) -> None:
    run = store.run(start.run)
    status = run.status()
    which = f"run {run.id}, which others start from at {start.steps} steps,"
    if not status.get("weights"):
        if status["steps"] == start.steps:
            raise InputError(f"{which} ended before runs kept their weights; --retrain trains it again")
        raise InputError(f"{which} stands at {status['steps']} and did not end there; use another --results")
    try:
        with safe_open(run.weights, "pt") as file:
            steps = int(file.metadata()["steps"])
    except (OSError, SafetensorError, TypeError, KeyError, ValueError) as error:
        raise InputError(f"{run.weights}: damaged: {error}; --retrain trains it again") from None
    if steps != start.steps:
        raise InputError(f"{which} went on, and has the weights of step {steps}; start there, or use another --results")
