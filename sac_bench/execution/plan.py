"""Plans what to train, and in which cohorts.

A finished run is reused. A cohort that was interrupted, or whose runs need more steps, continues as it was planned. New
runs of one structure are grouped into new cohorts.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from sac_bench.envs.pool import describe
from sac_bench.errors import InputError
from sac_bench.execution import warm_start
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.cost import (
    PROCESS_BYTES,
    START_SECONDS,
    UPDATE_OVERHEAD_SECONDS,
    Cost,
    cohort_bytes,
    cost,
    duration,
    env_step_seconds,
    member_bytes,
    replay_bytes,
    training_seconds,
    update_seconds,
)
from sac_bench.execution.machine import check_precision
from sac_bench.execution.schedule import Divisible, at_least, balanced, indivisible, makespan
from sac_bench.spec.experiment import Plannable
from sac_bench.spec.run import RunSpec, digest
from sac_bench.spec.warm_start import with_parents
from sac_bench.store.status import ENDED, RunStatus, device_kinds, has_raised, standing_at
from sac_bench.store.store import Store
from sac_bench.training.cohort import training_width

WRITER_THREADS = 16
"""Threads that write a plan."""
REPLAY_SECONDS = 60.0
"""Upper bound on the time to repeat the actions of a cohort's environments when it resumes, on a CPU."""


@dataclass(frozen=True)
class CohortPlan:
    """Runs that train together, from `done` to `steps` steps."""

    id: str
    runs: tuple[RunSpec, ...]
    steps: int
    done: int = 0
    is_new: bool = True
    device: str = "cpu"

    @functools.cached_property
    def structure(self) -> str:
        """The key that its runs share (`RunSpec.structure`)."""
        return self.runs[0].structure()

    @property
    def seconds(self) -> float:
        """Rough time on one CPU core, by the model of costs: to start and to train."""
        return START_SECONDS + self.training_seconds

    @functools.cached_property
    def training_seconds(self) -> float:
        """Rough time on one CPU core to train, without the start."""
        return training_seconds(self.runs[0], len(self.runs), self.done, self.steps, self.device)

    @property
    def transitions(self) -> int:
        """Transitions of all its runs together, without evaluations."""
        return (self.steps - self.done) * len(self.runs)

    @property
    def cost(self) -> Cost:
        """Rough environment steps and seconds, and how much of them evaluations take."""
        return cost(self.runs[0], len(self.runs), self.done, self.steps, self.device)

    @property
    def memory_bytes(self) -> float:
        """Peak memory of its process, the replay filled."""
        return cohort_bytes(len(self.runs), self.runs[0], self.steps, self.device)


@dataclass(frozen=True)
class Plan:
    """The requested runs: those that need no training, and the cohorts that do."""

    reused: tuple[RunSpec, ...]
    cohorts: tuple[CohortPlan, ...]
    diverged: tuple[RunSpec, ...] = field(default=())
    waiting: tuple[RunSpec, ...] = field(default=())
    """Runs whose parent has not ended yet: for a later plan."""
    raised: tuple[RunSpec, ...] = field(default=())
    """Runs whose environment raised: trained again only with `retrain`."""
    names: Mapping[str, str] = field(default_factory=dict)
    """{run id: how progress names its variant}."""

    def seconds(self, workers: int) -> float:
        """Return the rough time of all cohorts, longest first on `workers` cores."""
        return makespan([cohort.seconds for cohort in self.cohorts], workers)


def make_plan(
    requested: Plannable,
    store: Store,
    workers: int,
    memory: float,
    device: str = "cpu",
    retrain: bool = False,
    labels: Mapping[str, str] | None = None,
    skip: Collection[str] = (),
    of_all: int = 0,
) -> Plan:
    """Sort the runs of one or several experiments, and their parents, into reused, continued and new ones.

    workers: those of this command; of_all: those of all commands, if there are more. New runs are divided for all.
    memory: bytes that one worker may use.
    labels: {run id: label}; new runs with different labels do not share a cohort.
    skip: ids of runs to leave out.

    Raises InputError for runs that cannot be continued (a finished run that needs more steps and whose replay was
    dropped, a damaged run) and for runs of another kind of device, unless `retrain` trains them again, and for runs
    that do not fit into `memory`, or whose precision the device lacks.
    """
    status_of = _statuses(store)
    elsewhere = check_devices(requested, store, device, retrain, status_of)
    targets: dict[str, tuple[RunSpec, int]] = {}
    for variant, spec in warm_start.with_parents(requested.runs(), store):
        steps = max(variant.steps[spec.env], targets[spec.id][1] if spec.id in targets else 0)
        targets[spec.id] = (spec, steps)
    targets = {run_id: run for run_id, run in targets.items() if run_id not in skip}
    without_weights = warm_start.parents_without_weights(targets.values(), store) if retrain else set()
    ended: dict[str, list[RunSpec]] = {"finished": [], "diverged": []}
    raised: list[RunSpec] = []
    new, continued = [], dict[str, int]()
    for spec, steps in targets.values():
        status = status_of(spec.id)
        standing = standing_at(status, steps)
        if spec.id in without_weights or spec.id in elsewhere:
            new.append((spec, steps))
        elif standing in ended and not _must_be_ended(store, status):
            ended[standing].append(spec)
        elif has_raised(status):  # its cohort continues without it
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
    retrained = {spec.id for spec in raised} | elsewhere.keys() if retrain else set()
    new = [(s, n) for s, n in new if s.id in retrained or s.id not in in_continued]
    waiting = warm_start.waiting([spec for spec, _ in new], in_continued, store)
    for run_id in waiting:
        check_fits(1, *targets[run_id], memory, workers, device)
    new = [(s, n) for s, n in new if s.id not in waiting]
    beside = [cohort.seconds for cohort in cohorts]
    cohorts += _group(new, workers, max(workers, of_all), memory, device, labels or {}, beside)
    for cohort in cohorts:
        check_precision(cohort.runs[0].config.precision, device)
    cohorts.sort(key=lambda cohort: -cohort.seconds)
    return Plan(
        tuple(ended["finished"]),
        tuple(cohorts),
        tuple(ended["diverged"]),
        tuple(waiting.values()),
        () if retrain else tuple(raised),
    )


def _statuses(store: Store) -> Callable[[str], RunStatus]:
    """Return a function that reads the status of a run once, with the fingerprints of its files."""
    return functools.cache(lambda run_id: store.run(run_id).status())


def trained_elsewhere(
    requested: Plannable, store: Store, device: str, status_of: Callable[[str], RunStatus] | None = None
) -> dict[str, set[str]]:
    """Return, by id, the kinds of devices of requested runs that another kind than `device` has trained.

    There are none if the request accepts them.
    """
    if requested.mix_devices:
        return {}
    read = status_of or _statuses(store)
    kinds = {spec.id: device_kinds(read(spec.id)) for _, spec in requested.runs()}
    return {run_id: of_run for run_id, of_run in kinds.items() if of_run - {device}}


def check_devices(
    requested: Plannable,
    store: Store,
    device: str,
    retrain: bool = False,
    status_of: Callable[[str], RunStatus] | None = None,
) -> dict[str, set[str]]:
    """Raise InputError if another kind of device than `device` has trained requested runs, unless `retrain`.

    Even then, none may be in training now. Return what `trained_elsewhere` returns. status_of: reads a run's status.
    """
    elsewhere = trained_elsewhere(requested, store, device, status_of)
    if not elsewhere:
        return elsewhere
    if retrain:
        for run_id in elsewhere:
            cohort = store.run(run_id).status().get("cohort")
            if cohort and is_in_use(store, cohort):
                raise InputError(f"run {run_id}: another process is training its cohort: wait for it")
        return elsewhere
    kinds = sorted(set.union(*elsewhere.values()))
    same = f"--device {kinds[0]}, " if len(kinds) == 1 else ""
    requested_runs = len({spec.id for _, spec in requested.runs()})
    raise InputError(
        f"{len(elsewhere)} of {requested_runs} runs in {store.root} were trained on {' and '.join(kinds)}, and this "
        f"command would use {device}; results of different kinds of devices are mixed only on request: use "
        f"{same}another --results, --retrain to train them again on {device}, or --mix-devices to accept them"
    )


def write(plan: Plan, store: Store, planner: str = "", keep_replay: bool = False) -> None:
    """Write the plan to disk in the name of `planner`, so later commands and other processes can use it.

    Raises InputError if `store.planning()` was held, and another process holds it by now.
    """

    def write_cohort(cohort: CohortPlan) -> None:
        directory = CohortDirectory(store.cohort(cohort.id))
        others = [name for name in _planners(directory) if name != planner and store.is_alive(name)]
        store.check_planning()
        if cohort.is_new:
            directory.clear()
        directory.write_plan([spec.id for spec in cohort.runs], cohort.steps, keep_replay, [planner, *others])

    def write_run(run: tuple[RunSpec, str]) -> None:
        store.check_planning()
        store.run(run[0].id).plan(*run)

    new = [(spec, cohort.id) for cohort in plan.cohorts if cohort.is_new for spec in cohort.runs]
    with ThreadPoolExecutor(WRITER_THREADS) as pool:  # a disk syncs many files in hardly more time than one
        list(pool.map(write_cohort, plan.cohorts))
        list(pool.map(write_run, new))


def superseded(requested: Plannable, store: Store) -> Counter[tuple[str, str]]:
    """Count runs in the store that differ from the requested ones only in versions.

    Versions include those of custom environments and algorithms. Return {(environment, difference): count}.
    """
    specs = {spec.id: spec for _, spec in requested.runs()}
    specs_and_parents = {spec.id: spec for _, spec in with_parents(requested.runs())}

    def spec_of(run_id: str) -> RunSpec:
        return specs_and_parents.get(run_id) or store.run(run_id).spec()

    def unversioned(spec: RunSpec) -> tuple[Any, ...]:
        """Return everything that the id depends on except versions, with the parent's values in place of its id."""
        values = (spec.algorithm, spec.config.model_dump_json(), spec.env, spec.seed)
        return (*values, spec.start.steps, unversioned(spec_of(spec.start.run))) if spec.start else values

    own = set(map(unversioned, specs.values()))
    counts: Counter[tuple[str, str]] = Counter()
    for run in map(store.run, set(store.run_ids()) - specs.keys()):
        with contextlib.suppress(InputError):
            spec = run.spec()
            if unversioned(spec) in own:
                differences = run.differences() or ["another version of the runs they start from"]
                counts[spec.env, " and ".join(differences)] += 1
    return counts


def is_in_use(store: Store, cohort_id: str, excluding: str = "") -> bool:
    """Return whether a live process trains a cohort or has planned it, not counting the planner `excluding`."""
    planners = [name for name in _planners(CohortDirectory(store.cohort(cohort_id))) if name != excluding]
    return store.is_trained(cohort_id) or any(map(store.is_alive, planners))


def release(store: Store, cohort_id: str, planner: str) -> None:
    """Drop the replay of a cohort that `planner` no longer needs, unless others do. Call it while planning."""
    directory = CohortDirectory(store.cohort(cohort_id))
    runs = members(directory)
    if not runs or not directory.plan()["keep_replay"] or is_in_use(store, cohort_id, excluding=planner):
        return
    store.check_planning()
    directory.write_plan(runs, 0, False, [])
    directory.drop_replay()


def _must_be_ended(store: Store, status: RunStatus) -> bool:
    """Return whether a run has all its target steps, and its worker died before it ended the run."""
    return (
        status["status"] == "started"
        and status["steps"] >= status.get("target_steps", math.inf)
        and CohortDirectory(store.cohort(status["cohort"])).saved()
    )


def _cohort_of(store: Store, run_id: str, status: RunStatus) -> str | None:
    """Return a run's cohort. If its status is damaged, return one that has it in its plan, preferably one in use."""
    if "cohort" in status or status["status"] != "damaged":
        return status.get("cohort")
    cohorts = [cohort for cohort in store.cohort_ids() if run_id in members(CohortDirectory(store.cohort(cohort)))]
    return next((cohort for cohort in cohorts if is_in_use(store, cohort)), next(iter(cohorts), None))


def members(directory: CohortDirectory) -> list[str]:
    """Return the runs in a cohort's plan; none if it cannot be read."""
    try:
        return directory.plan()["runs"]
    except InputError:
        return []


def _planners(directory: CohortDirectory) -> list[str]:
    try:
        return directory.plan()["planners"]
    except InputError:
        return []


def _to_continue(store: Store, spec: RunSpec, status: RunStatus, steps: int, retrain: bool) -> str | None:
    """Return the cohort to continue a run in; None for a run to be trained from the start."""
    run, cohort = store.run(spec.id), _cohort_of(store, spec.id, status)
    directory = CohortDirectory(store.cohort(cohort)) if cohort else None
    untouched = status["steps"] == 0 and status["status"] not in (*ENDED, "damaged")
    if cohort and directory and is_in_use(store, cohort) and (directory.saved() or untouched):
        if status["status"] == "damaged":
            raise InputError(f"run {run.id}: {status['reason']}; another process is training its cohort: wait for it")
        return cohort
    if status["status"] in ("new", "planned"):
        return None
    if retrain:
        return cohort if directory and not _problems(store, directory) else None
    cost = f"--retrain trains it again (about {duration(CohortPlan('', (spec,), steps).seconds)})"
    which = f"run {run.id} (seed {spec.seed}, {spec.env})"
    if status["status"] == "damaged":
        raise InputError(f"{which}: {status['reason']}; {cost}, unless you have a copy of the file")
    if directory and directory.saved():
        return cohort
    if status["status"] == "finished":
        raise InputError(
            f"{which} is finished at {status['steps']} steps and its replay was dropped, so it cannot continue to "
            f"{steps}; {cost}, and --keep-replay would have kept it"
        )
    if status["steps"] > 0:
        raise InputError(
            f"{which} has {status['steps']} steps, and there is no checkpoint in "
            f"{directory.path if directory else store.root}; {cost}"
        )
    return None


def _problems(store: Store, directory: CohortDirectory) -> list[str]:
    """Return what prevents a cohort from being continued."""
    try:
        runs = [store.run(run_id) for run_id in directory.plan()["runs"]]
        for run in runs:
            run.spec()
        return directory.problems(runs)
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
    new: Iterable[tuple[RunSpec, int]],
    workers: int,
    of_all: int,
    memory: float,
    device: str,
    labels: Mapping[str, str],
    beside: Iterable[float],
) -> list[CohortPlan]:
    """Group runs of equal structure and steps into cohorts that are not too wide, so that all workers end together.

    workers: those that share this machine's memory; of_all: those that train, also elsewhere.
    beside: the seconds of the cohorts that are trained, too.
    """
    groups: dict[tuple[str, int, str], list[RunSpec]] = defaultdict(list)
    for spec, steps in new:
        groups[spec.structure(), steps, labels.get(spec.id, "")].append(spec)
    divisible = [_divisible(specs, key[1], workers, memory, device) for key, specs in groups.items()]
    others = [*map(indivisible, beside)]
    counts = balanced([*divisible, *others], of_all)
    if device != "cpu":  # a GPU without a cohort does nothing; the model of costs is for one core
        counts = at_least([*divisible, *others], counts, of_all)
    cohorts = []
    for ((_, steps, _), specs), count in zip(groups.items(), counts, strict=False):
        for i in range(count):
            members = tuple(specs[i::count])
            cohorts.append(CohortPlan(digest([spec.id for spec in members]), members, steps, device=device))
    return cohorts


def _divisible(specs: Sequence[RunSpec], steps: int, workers: int, memory: float, device: str) -> Divisible:
    """Return into how many cohorts runs of one structure can be divided, and the time of each."""
    widest = min(_widest(specs[0], steps, device), _fitting(specs[0], steps, memory, workers, device))
    fewest = math.ceil(len(specs) / widest)
    # On a CPU a lone run trains beside a copy, so two lone runs would gain nothing.
    most = math.ceil(len(specs) / training_width(1, device, compiled=True))

    def seconds(runs: int) -> float:
        return START_SECONDS + training_seconds(specs[0], runs, 0, steps, device)

    return Divisible(len(specs), fewest, max(fewest, most), functools.cache(seconds))


def _fitting(spec: RunSpec, steps: int, memory: float, workers: int, device: str) -> int:
    """Return how many such runs fit into one worker's memory; InputError if not even one does."""
    check_fits(1, spec, steps, memory, workers, device)
    return int((memory - PROCESS_BYTES) // member_bytes(spec, steps))


def check_fits(runs: int, spec: RunSpec, steps: int, memory: float, workers: int, device: str) -> None:
    """Raise InputError if a program of so many runs needs more than `memory`, the bytes of one worker."""
    needed, width = cohort_bytes(runs, spec, steps, device), training_width(runs, device, compiled=True)
    if needed <= memory:
        return
    fewer = int(workers * memory // needed)
    remedy = f"use --workers {fewer} or lower" if fewer else "lower"
    which = f"{runs} runs in one program" if runs > 1 else "a run with its copy" if width > 1 else "a run"
    raise InputError(
        f"{which} on {spec.env} needs {needed / 1e9:.1f} GB, "
        f"{width * replay_bytes(spec, steps) / 1e9:.1f} GB of it for {min(spec.config.capacity, steps):,} "
        f"transitions each, and each of {workers} workers may use {memory / 1e9:.1f} GB; {remedy} replay_capacity, "
        "layers, critics or batch_size (--set KEY=VALUE)"
    )


def _widest(spec: RunSpec, steps: int, device: str) -> int:
    """Return the largest useful width of a cohort.

    On a CPU, a wider program gains little where its updates take 30 times the overhead, and a cohort must be able to
    resume within REPLAY_SECONDS.
    """
    if device != "cpu":
        return 256  # memory is the limit; wider evaluations would run thousands of environments at once
    useful = 30 * UPDATE_OVERHEAD_SECONDS / update_seconds(spec)
    pool_steps = spec.config.pool_episodes * describe(spec.env).max_episode_steps * spec.config.num_envs
    resumable = REPLAY_SECONDS / (min(pool_steps, steps) * env_step_seconds(spec.env))
    return max(training_width(1, device, compiled=True), int(min(32, useful, resumable)))
