"""Splits cohorts: some of a cohort's runs continue in a new cohort, made from their part of its newest checkpoint.

Members do not share data, so a member's part of a checkpoint is complete. On a CPU the split run's bytes equal those in
the whole cohort (docs/correctness.md). On CUDA they may differ, so cohorts are not split there.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sac_bench.execution import plan as planning
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.spec.run import digest
from sac_bench.store.store import Store


def widths_are_equal(device: str) -> bool:
    """Return whether a run's bytes are independent of its cohort's width."""
    return device == "cpu"


def split_cohort(store: Store, run_ids: Collection[str], planner: str, device: str) -> list[str]:
    """Move the runs to be continued out of cohorts that have other runs too, and return the new cohorts' ids.

    Not split: cohorts of which all runs continue, cohorts that a live process other than `planner` needs, and cohorts
    that cannot be continued. Call it while `store.planning()` is held. If it is killed between the moves of two runs,
    the next call completes the split; until then each run belongs to one cohort.
    """
    new_cohorts: list[str] = []
    if not widths_are_equal(device):
        return new_cohorts
    cohort_of = {run_id: store.run(run_id).status().get("cohort") for run_id in run_ids}
    for cohort_id in sorted({cohort for cohort in cohort_of.values() if cohort}):
        directory = CohortDirectory(store.cohort(cohort_id))
        members = planning.members(directory)
        current = [run_id for run_id in members if store.run(run_id).status().get("cohort") == cohort_id]
        own = [run_id for run_id in current if run_id in cohort_of]
        if len(own) == len(current) or directory.problems([store.run(run_id) for run_id in own]):
            continue
        if planning.is_in_use(store, cohort_id, excluding=planner):
            continue
        if (lock := store.take_cohort(cohort_id)) is None:
            continue
        store.check_planning()
        with lock:
            new_cohorts.append(_split(store, directory, own, planner))
    return new_cohorts


def _split(store: Store, directory: CohortDirectory, own: Sequence[str], planner: str) -> str:
    """Make a new cohort of these runs, in the order that they have in the old one, and return its id."""
    cohort_id = digest([directory.path.name, *own])
    members, furthest = planning.members(directory), directory.plan()["furthest"]
    to = CohortDirectory(store.cohort(cohort_id))
    to.clear()
    runs = [store.run(run_id) for run_id in own]
    step = directory.copy_members([members.index(run_id) for run_id in own], to, runs)
    to.write_plan(own, furthest, True, [planner])
    source = f"step {step} of cohort {directory.path.name}"
    for run in runs:
        run.log(f"continues in cohort {cohort_id} of width {len(own)}, from {source}")
        run.update(cohort=cohort_id)
    return cohort_id
