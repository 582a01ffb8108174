"""Going on with some of a cohort's runs: their rows of its newest checkpoint become a narrower cohort.

Members never mix, so a member's rows are all there is of it. Its bytes are those of the wider cohort only at the sizes
for which tests show that width does not change them (docs/correctness.md): `widths_are_equal`. One member alone may
differ there too, so a cohort never becomes narrower than two: beside one run that goes on, another keeps its slot. That
other's updates are made, and nothing of it is written.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sac_bench import locks
from sac_bench.execution import plan as planning
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.runspec import RunSpec, digest
from sac_bench.store import Store

SHOWN = (((64, 64), 64), ((256, 256), 256))
"""(layers, batch_size) of SAC at which cohorts of every tested width from two on are equal to the bit on a CPU."""
NARROWEST = 2


def widths_are_equal(spec: RunSpec, device: str) -> bool:
    """Whether a run's bytes are shown not to depend on its cohort's width, from NARROWEST on."""
    config = spec.config
    size = getattr(config, "layers", ()), config.batch_size
    return device == "cpu" and spec.algorithm == "sac" and config.precision == "float32" and size in SHOWN


def narrow(store: Store, run_ids: Collection[str], planner: str, device: str) -> list[str]:
    """Move runs that are to go on out of cohorts that others of do not; the new cohorts' ids.

    Left as they are: cohorts all of whose runs go on, those that a living process but `planner` wants, that cannot be
    continued, and of sizes at which width may change a run's bytes. Call it while `store.planning()` is held.
    Killed between two runs' moves it is finished by the next call; until then each run is of one cohort.
    """
    made = []
    wanted = {run_id: store.run(run_id).status().get("cohort") for run_id in run_ids}
    for cohort_id in sorted({cohort for cohort in wanted.values() if cohort}):
        directory = CohortDirectory(store.cohort(cohort_id))
        members = planning.members(directory)
        here = [run_id for run_id in members if store.run(run_id).status().get("cohort") == cohort_id]
        own = [run_id for run_id in here if run_id in wanted]
        slots = [*own, *(run_id for run_id in members if run_id not in own)][:NARROWEST] if len(own) < 2 else own
        if len(own) == len(here) or directory.complaints([store.run(run_id) for run_id in own]):
            continue
        if not widths_are_equal(store.run(own[0]).spec(), device) or planning.is_wanted(store, cohort_id, but=planner):
            continue
        if (claim := locks.take(store.claim(cohort_id))) is None:
            continue
        with claim:
            made.append(_moved(store, directory, sorted(slots, key=members.index), own, planner))
    return made


def _moved(store: Store, directory: CohortDirectory, slots: Sequence[str], own: Sequence[str], planner: str) -> str:
    """A new cohort of these slots of an old one, whose own runs go on in it."""
    cohort_id = digest([directory.path.name, *slots])
    members, furthest = planning.members(directory), directory.plan()["furthest"]
    to = CohortDirectory(store.cohort(cohort_id))
    to.start_anew()
    runs = [store.run(run_id) for run_id in own]
    at = directory.copy_members([members.index(run_id) for run_id in slots], to, runs)
    to.write_plan(slots, furthest, True, [planner])
    for run in runs:
        run.log(f"goes on in cohort {cohort_id} of width {len(slots)}, from step {at} of cohort {directory.path.name}")
        run.update(cohort=cohort_id)
    return cohort_id
