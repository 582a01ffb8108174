"""Continuing some of a cohort's runs: their rows of its newest checkpoint become a narrower cohort.

Members never mix, so a member's rows are all there is of it. On a CPU its bytes are those of the wider cohort
(docs/correctness.md); on CUDA they may not be, and cohorts keep their width.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sac_bench.execution import plan as planning
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.spec.run import digest
from sac_bench.store import locks
from sac_bench.store.store import Store


def widths_are_equal(device: str) -> bool:
    """Whether a run's bytes do not depend on its cohort's width."""
    return device == "cpu"


def split_cohort(store: Store, run_ids: Collection[str], planner: str, device: str) -> list[str]:
    """Move runs that are to go on out of cohorts that others of do not; the new cohorts' ids.

    Left as they are: cohorts all of whose runs go on, those that a living process but `planner` wants, and those that
    cannot be continued. Call it while `store.planning()` is held. Killed between two runs' moves it is finished by the
    next call; until then each run is of one cohort.
    """
    made: list[str] = []
    if not widths_are_equal(device):
        return made
    wanted = {run_id: store.run(run_id).status().get("cohort") for run_id in run_ids}
    for cohort_id in sorted({cohort for cohort in wanted.values() if cohort}):
        directory = CohortDirectory(store.cohort(cohort_id))
        members = planning.members(directory)
        here = [run_id for run_id in members if store.run(run_id).status().get("cohort") == cohort_id]
        own = [run_id for run_id in here if run_id in wanted]
        if len(own) == len(here) or directory.complaints([store.run(run_id) for run_id in own]):
            continue
        if planning.is_wanted(store, cohort_id, but=planner):
            continue
        if (claim := locks.take(store.cohort_lock(cohort_id))) is None:
            continue
        with claim:
            made.append(_moved(store, directory, own, planner))
    return made


def _moved(store: Store, directory: CohortDirectory, own: Sequence[str], planner: str) -> str:
    """A new cohort of these runs of an old one, in the old one's order."""
    cohort_id = digest([directory.path.name, *own])
    members, furthest = planning.members(directory), directory.plan()["furthest"]
    to = CohortDirectory(store.cohort(cohort_id))
    to.start_anew()
    runs = [store.run(run_id) for run_id in own]
    at = directory.copy_members([members.index(run_id) for run_id in own], to, runs)
    to.write_plan(own, furthest, True, [planner])
    for run in runs:
        run.log(f"goes on in cohort {cohort_id} of width {len(own)}, from step {at} of cohort {directory.path.name}")
        run.update(cohort=cohort_id)
    return cohort_id
