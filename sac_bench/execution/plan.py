"""What is to be trained, and how it is cut into cohorts: runs in, a plan out.

A run that is finished is reused; a cohort that was interrupted, or whose runs are asked for more steps,
continues as it was planned; new runs of one structure are grouped into new cohorts.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.config import TrainingConfig
from sac_bench.envs.pool import describe
from sac_bench.errors import InputError
from sac_bench.execution import warm_start
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.spec.experiment import Plannable
from sac_bench.spec.run import RunSpec, digest
from sac_bench.spec.warm_start import with_parents
from sac_bench.store import locks
from sac_bench.store.store import ENDED, Store, has_raised, standing_at
from sac_bench.training.cohort import training_width
from sac_bench.training.replay import row_width

# A rough model of one core, from measurements on an AMD EPYC of the Zen 4 generation (results/record/benchmark): what
# a step and its update cost besides arithmetic, shared by a cohort's members; arithmetic.
UPDATE_OVERHEAD_SECONDS = 1.1e-3
FLOPS_PER_SECOND = 1e11
START_SECONDS = 25.0
REPLAY_SECONDS = 60.0
"""What sending a cohort's environments their actions again may take when it continues, on a CPU."""
PROCESS_BYTES = 600e6


@dataclass(frozen=True)
class CohortPlan:
    """Runs that train together, from where they stand to `steps`."""

    id: str
    runs: tuple[RunSpec, ...]
    steps: int
    done: int = 0
    is_new: bool = True
    device: str = "cpu"

    @property
    def seconds(self) -> float:
        """Rough time to train, on one CPU core."""
        config = self.runs[0].config
        m, left = training_width(len(self.runs), self.device, compiled=True), self.steps - self.done
        updates = config.updates_due(self.steps) - config.updates_due(self.done)
        per_update = UPDATE_OVERHEAD_SECONDS + m * update_flops(self.runs[0]) / FLOPS_PER_SECOND
        evaluations = math.ceil(left / config.eval_every) * 2 * config.eval_episodes
        env_steps = m * (left + evaluations * describe(self.runs[0].env).max_episode_steps)
        return START_SECONDS + updates * per_update + env_steps * env_step_seconds(self.runs[0].env)

    @property
    def memory_bytes(self) -> float:
        """Peak memory of its process, the replay filled."""
        return cohort_bytes(len(self.runs), self.runs[0], self.steps, self.device)


@dataclass(frozen=True)
class Plan:
    """All of it: what needs no training, what does."""

    reused: tuple[RunSpec, ...]
    cohorts: tuple[CohortPlan, ...]
    diverged: tuple[RunSpec, ...] = field(default=())
    waiting: tuple[RunSpec, ...] = field(default=())
    """Those whose start has not ended yet: for a later plan."""
    raised: tuple[RunSpec, ...] = field(default=())
    """Those whose environment raised: trained again only when asked."""

    def seconds(self, workers: int) -> float:
        """Rough time of all cohorts, longest first on `workers` cores."""
        loads = [0.0] * max(1, workers)
        for cohort in self.cohorts:
            loads[loads.index(min(loads))] += cohort.seconds
        return max(loads)


def env_step_seconds(env_id: str) -> float:
    """Rough time of one step of one environment on one core: a bigger body has more to simulate and to observe."""
    return 8e-5 + 1.1e-6 * describe(env_id).observation_dim


@functools.cache
def state_bytes(algorithm: str, config: TrainingConfig, env_id: str) -> tuple[int, int]:
    """Return the number of weights and biases and the bytes of the whole state of one learner, allocating nothing."""
    env = describe(env_id)
    learner = ALGORITHMS[algorithm].learner(config, env.observation_dim, env.action_dim)
    state = learner.shape_of_state(config.hyperparameter_tensors())
    return sum(leaf.numel() for leaf in tree_leaves(state["params"])), sum(
        leaf.numel() * leaf.element_size() for leaf in tree_leaves(state)
    )


def update_flops(spec: RunSpec) -> float:
    """Return the floating-point operations of one update of one run, approximately."""
    parameters, _ = state_bytes(spec.algorithm, spec.config, spec.env)
    return 2.0 * spec.config.batch_size * parameters * spec.config.passes


def cohort_bytes(runs: int, spec: RunSpec, steps: int, device: str) -> float:
    """Memory at most of so many such runs in one process."""
    return PROCESS_BYTES + training_width(runs, device, compiled=True) * member_bytes(spec, steps)


def member_bytes(spec: RunSpec, steps: int) -> float:
    """One member's memory at most: its replay, filled, its state, and what an update holds meanwhile."""
    _, state = state_bytes(spec.algorithm, spec.config, spec.env)
    segment = replay_bytes(spec, min(steps, spec.config.eval_every))  # copied to be saved
    return replay_bytes(spec, steps) + 3 * segment + 2 * state + update_bytes(spec)


def replay_bytes(spec: RunSpec, steps: int) -> float:
    """One member's transitions, as many as it keeps."""
    env = describe(spec.env)
    return min(spec.config.capacity, steps) * 4 * row_width(env.observation_dim, env.action_dim)


def update_bytes(spec: RunSpec) -> float:
    """One member's batches, activations and gradients: no more than twice of each network's, rarely all at once."""
    env, config = describe(spec.env), spec.config
    parameters, _ = state_bytes(spec.algorithm, config, spec.env)
    width = config.hidden_units + env.observation_dim + env.action_dim
    return config.scratch_bytes + config.dtype.itemsize * (2 * parameters + 2 * config.networks * config.rows * width)


def make_plan(
    wanted: Plannable,
    store: Store,
    workers: int,
    memory: float,
    device: str = "cpu",
    retrain: bool = False,
    apart: Mapping[str, str] | None = None,
    skip: Collection[str] = (),
) -> Plan:
    """Group the runs of an experiment, or of several: reused, continued, new.

    `memory`: what a worker may take, in bytes.
    `apart`: labels {run id: label}; new runs of different labels do not share a cohort.
    `skip`: ids of runs to leave out. What runs start from is planned with them.

    Raises InputError for what cannot be continued (a finished run that is asked for more steps and whose replay was
    dropped, a damaged one) unless `retrain` has it trained again, and for runs that would not fit into that memory.
    """
    asked: dict[str, tuple[RunSpec, int]] = {}
    for variant, spec in warm_start.with_parents(wanted.runs(), store):
        steps = max(variant.steps[spec.env], asked[spec.id][1] if spec.id in asked else 0)
        asked[spec.id] = (spec, steps)
    asked = {run_id: run for run_id, run in asked.items() if run_id not in skip}
    without_weights = warm_start.without_weights(asked.values(), store) if retrain else set()
    ended: dict[str, list[RunSpec]] = {"finished": [], "diverged": []}
    raised: list[RunSpec] = []
    new, continued = [], dict[str, int]()
    for spec, steps in asked.values():
        status = store.run(spec.id).status()
        standing = standing_at(status, steps)
        if spec.id in without_weights:
            new.append((spec, steps))
        elif standing in ended and not _to_be_ended(store, status):
            ended[standing].append(spec)
        elif has_raised(status):  # in its cohort its place is taken
            raised.append(spec)
            if retrain:
                new.append((spec, steps))
        elif owner := _to_continue(store, spec, status, steps, retrain):
            continued[owner] = max(continued.get(owner, 0), steps)
        else:
            new.append((spec, steps))
    cohorts = [_continuation(store, owner, steps) for owner, steps in continued.items()]
    for cohort in cohorts:
        check_fits(len(cohort.runs), cohort.runs[0], cohort.steps, memory, workers, device)
    in_continued = {spec.id for cohort in cohorts for spec in cohort.runs}
    again = {spec.id for spec in raised} if retrain else set()
    new = [(s, n) for s, n in new if s.id in again or s.id not in in_continued]
    waits = warm_start.waiting([spec for spec, _ in new], in_continued, store)
    for run_id in waits:
        check_fits(1, *asked[run_id], memory, workers, device)
    new = [(s, n) for s, n in new if s.id not in waits]
    cohorts += _group(new, workers, memory, device, apart or {})
    cohorts.sort(key=lambda cohort: -cohort.seconds)
    return Plan(
        tuple(ended["finished"]),
        tuple(cohorts),
        tuple(ended["diverged"]),
        tuple(waits.values()),
        () if retrain else tuple(raised),
    )


def write(plan: Plan, store: Store, planner: str = "", keep_replay: bool = False) -> None:
    """Put the plan on disk, in the name of a living process: resuming, and others, use what is written."""
    for cohort in plan.cohorts:
        directory = CohortDirectory(store.cohort(cohort.id))
        others = [name for name in _planners(directory) if name != planner and store.is_alive(name)]
        if cohort.is_new:
            directory.start_anew()
        directory.write_plan([spec.id for spec in cohort.runs], cohort.steps, keep_replay, [planner, *others])
        if cohort.is_new:
            for spec in cohort.runs:
                store.run(spec.id).plan(spec, cohort.id)


def superseded(wanted: Plannable, store: Store) -> Counter[tuple[str, str]]:
    """Runs in the store that differ from wanted ones only in what trained them, the version of their own environment or
    algorithm included: {(environment, that in words): how many}."""
    asked = {spec.id: spec for _, spec in wanted.runs()}
    origins = {spec.id: spec for _, spec in with_parents(wanted.runs())}

    def spec_of(run_id: str) -> RunSpec:
        return origins.get(run_id) or store.run(run_id).spec()

    def unversioned(spec: RunSpec) -> tuple[Any, ...]:
        """All but versions: what a start's id hashes, in place of that id."""
        own = (spec.algorithm, spec.config.model_dump_json(), spec.env, spec.seed)
        return (*own, spec.start.steps, unversioned(spec_of(spec.start.run))) if spec.start else own

    alike = set(map(unversioned, asked.values()))
    found: Counter[tuple[str, str]] = Counter()
    for run in map(store.run, set(store.run_ids()) - asked.keys()):
        with contextlib.suppress(InputError):
            spec = run.spec()
            if unversioned(spec) in alike:
                words = run.differences() or ["another version of what they start from"]
                found[spec.env, " and ".join(words)] += 1
    return found


def is_wanted(store: Store, cohort_id: str, but: str = "") -> bool:
    """Whether a living process trains a cohort, or has it in its plan; one planner may be left out."""
    planners = [name for name in _planners(CohortDirectory(store.cohort(cohort_id))) if name != but]
    return locks.is_taken(store.cohort_lock(cohort_id)) or any(map(store.is_alive, planners))


def release(store: Store, cohort_id: str, planner: str) -> None:
    """A planner wants no more of a cohort: its replay goes, unless others want it. Call it while planning."""
    directory = CohortDirectory(store.cohort(cohort_id))
    runs = members(directory)
    if not runs or not directory.plan()["keep_replay"] or is_wanted(store, cohort_id, but=planner):
        return
    directory.write_plan(runs, 0, False, [])
    directory.drop_replay()


def _to_be_ended(store: Store, status: dict[str, Any]) -> bool:
    """Whether a run has all the steps that its cohort was to go, and its worker died before it ended the run."""
    return (
        status["status"] == "started"
        and status["steps"] >= status.get("target_steps", math.inf)
        and CohortDirectory(store.cohort(status["cohort"])).saved()
    )


def _cohort_of(store: Store, run_id: str, status: dict[str, Any]) -> str | None:
    """A run's cohort; where its status cannot tell any more, one that has it in its plan, a wanted one first."""
    if "cohort" in status or status["status"] != "damaged":
        return status.get("cohort")
    found = [cohort for cohort in store.cohort_ids() if run_id in members(CohortDirectory(store.cohort(cohort)))]
    return next((cohort for cohort in found if is_wanted(store, cohort)), next(iter(found), None))


def members(directory: CohortDirectory) -> list[str]:
    """The runs in a cohort's plan; none where that cannot be read."""
    try:
        return directory.plan()["runs"]
    except InputError:
        return []


def _planners(directory: CohortDirectory) -> list[str]:
    try:
        return directory.plan()["planners"]
    except InputError:
        return []


def _to_continue(store: Store, spec: RunSpec, status: dict[str, Any], steps: int, retrain: bool) -> str | None:
    """The cohort that a run is to be continued in; None for a run to be trained from the start."""
    run, cohort = store.run(spec.id), _cohort_of(store, spec.id, status)
    directory = CohortDirectory(store.cohort(cohort)) if cohort else None
    untouched = status["steps"] == 0 and status["status"] not in (*ENDED, "damaged")
    if cohort and directory and is_wanted(store, cohort) and (directory.saved() or untouched):
        if status["status"] == "damaged":
            raise InputError(f"run {run.id}: {status['reason']}; another process trains its cohort now: wait for it")
        return cohort
    if status["status"] in ("new", "planned"):
        return None
    if retrain:
        return cohort if directory and not _amiss(store, directory) else None
    cost = f"--retrain trains it again (about {duration(CohortPlan('', (spec,), steps).seconds)})"
    which = f"run {run.id} (seed {spec.seed}, {spec.env})"
    if status["status"] == "damaged":
        raise InputError(f"{which}: {status['reason']}; {cost}, unless you have a copy of the file")
    if directory and directory.saved():
        return cohort
    if status["status"] == "finished":
        raise InputError(
            f"{which} is finished at {status['steps']} steps and its replay was dropped, so it cannot go on to "
            f"{steps}; {cost}, and --keep-replay would have kept it"
        )
    if status["steps"] > 0:
        raise InputError(
            f"{which} stands at {status['steps']} steps, and there is no checkpoint of this version of "
            f"sac_bench in {directory.path if directory else store.root}; {cost}"
        )
    return None


def _amiss(store: Store, directory: CohortDirectory) -> list[str]:
    """What keeps a cohort from being continued."""
    try:
        runs = [store.run(run_id) for run_id in directory.plan()["runs"]]
        for run in runs:
            run.spec()
        return directory.complaints(runs)
    except InputError as error:
        return [str(error)]


def _continuation(store: Store, cohort_id: str, steps: int) -> CohortPlan:
    try:
        runs = [store.run(run_id) for run_id in CohortDirectory(store.cohort(cohort_id)).plan()["runs"]]
        specs = tuple(run.spec() for run in runs)
    except InputError as error:
        raise InputError(f"{error}; --retrain trains the runs of cohort {cohort_id} again") from None
    done = max(run.status()["steps"] for run in runs)
    return CohortPlan(cohort_id, specs, steps, done, is_new=False)


def _group(
    new: Iterable[tuple[RunSpec, int]], workers: int, memory: float, device: str, apart: Mapping[str, str]
) -> list[CohortPlan]:
    """Cohorts of equal structure and steps, cut so that every worker has some and none is too wide."""
    groups: dict[tuple[str, int, str], list[RunSpec]] = defaultdict(list)
    for spec, steps in new:
        groups[spec.structure(), steps, apart.get(spec.id, "")].append(spec)
    work = {key: len(specs) * key[1] * update_flops(specs[0]) for key, specs in groups.items()}
    cohorts = []
    for (structure, steps, label), specs in groups.items():
        share = workers * work[structure, steps, label] / sum(work.values())
        fitting = _fitting(specs[0], steps, memory, workers, device)
        widest = min(_widest(specs[0], steps, device), fitting)
        # On a CPU a lone run trains beside a copy: two of them would gain nothing.
        useful = math.ceil(len(specs) / training_width(1, device, compiled=True))
        count = max(math.ceil(len(specs) / widest), min(useful, round(share)), 1)
        for i in range(count):
            members = tuple(specs[i::count])
            cohorts.append(CohortPlan(digest([spec.id for spec in members]), members, steps, device=device))
    return cohorts


def _fitting(spec: RunSpec, steps: int, memory: float, workers: int, device: str) -> int:
    """How many such runs one worker's memory holds; InputError when it is not even one."""
    check_fits(1, spec, steps, memory, workers, device)
    return int((memory - PROCESS_BYTES) // member_bytes(spec, steps))


def check_fits(runs: int, spec: RunSpec, steps: int, memory: float, workers: int, device: str) -> None:
    """InputError where a program of so many runs would not fit into the memory of a worker, in bytes."""
    needed, training = cohort_bytes(runs, spec, steps, device), training_width(runs, device, compiled=True)
    if needed <= memory:
        return
    fewer = int(workers * memory // needed)
    remedy = f"use --workers {fewer} or lower" if fewer else "lower"
    which = f"{runs} runs in one program" if runs > 1 else "a run with its copy" if training > 1 else "a run"
    raise InputError(
        f"{which} on {spec.env} would take {needed / 1e9:.1f} GB, "
        f"{training * replay_bytes(spec, steps) / 1e9:.1f} GB of it for {min(spec.config.capacity, steps):,} "
        f"transitions each, and each of {workers} workers may take {memory / 1e9:.1f} GB; {remedy} replay_capacity, "
        "layers, critics or batch_size (--set KEY=VALUE)"
    )


def _widest(spec: RunSpec, steps: int, device: str) -> int:
    """Members beyond which a wider program gains little (on a CPU, where arithmetic is 20 times the overhead), or
    could not be continued within REPLAY_SECONDS."""
    if device != "cpu":
        return 256  # memory is the bound; evaluations of more would be thousands of environments at once
    useful = 20 * FLOPS_PER_SECOND * UPDATE_OVERHEAD_SECONDS / update_flops(spec)
    pool_steps = spec.config.pool_episodes * describe(spec.env).max_episode_steps * spec.config.num_envs
    resumable = REPLAY_SECONDS / (min(pool_steps, steps) * env_step_seconds(spec.env))
    return max(training_width(1, device, compiled=True), int(min(32, useful, resumable)))


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
