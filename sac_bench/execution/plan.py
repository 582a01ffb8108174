"""What is to be trained, and how it is cut into cohorts: runs in, a plan out.

A run that is finished is reused; a cohort that was interrupted, or whose runs are asked for more steps,
continues as it was planned; new runs of one structure are grouped into new cohorts.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.config import ReplayConfig
from sac_bench.errors import InputError
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.experiment import Experiment, RunSpec, digest
from sac_bench.store import Store, standing_at
from sac_bench.training.envs import describe
from sac_bench.training.replay import row_width

# A rough model of one core, from measurements on an AMD EPYC of the Zen 4 generation (results/record/benchmark): what
# a step and its update cost besides arithmetic, shared by a cohort's members; arithmetic; one environment step.
UPDATE_OVERHEAD_SECONDS = 1.1e-3
FLOPS_PER_SECOND = 1e11
ENV_STEP_SECONDS = 1e-4
START_SECONDS = 25.0
PROCESS_BYTES = 600e6


@dataclass(frozen=True)
class CohortPlan:
    """Runs that train together, from where they stand to `steps`."""

    id: str
    runs: tuple[RunSpec, ...]
    steps: int
    done: int = 0
    is_new: bool = True

    @property
    def seconds(self) -> float:
        """Rough time to train, on one CPU core."""
        config = self.runs[0].config
        m, left = len(self.runs), self.steps - self.done
        updates = config.updates_due(self.steps) - config.updates_due(self.done)
        per_update = UPDATE_OVERHEAD_SECONDS + m * update_flops(self.runs[0]) / FLOPS_PER_SECOND
        evaluations = math.ceil(left / config.eval_every) * 2 * config.eval_episodes
        env_steps = m * (left + evaluations * describe(self.runs[0].env).max_episode_steps)
        return START_SECONDS + updates * per_update + env_steps * ENV_STEP_SECONDS

    @property
    def memory_bytes(self) -> float:
        """Peak memory of its process, the replay filled."""
        return PROCESS_BYTES + len(self.runs) * member_bytes(self.runs[0], self.steps)


@dataclass(frozen=True)
class Plan:
    """All of it: what needs no training, what does."""

    reused: tuple[RunSpec, ...]
    cohorts: tuple[CohortPlan, ...]
    diverged: tuple[RunSpec, ...] = field(default=())

    def seconds(self, workers: int) -> float:
        """Rough time of all cohorts, longest first on `workers` cores."""
        loads = [0.0] * max(1, workers)
        for cohort in self.cohorts:
            loads[loads.index(min(loads))] += cohort.seconds
        return max(loads)


@functools.cache
def state_bytes(algorithm: str, config: ReplayConfig, env_id: str) -> tuple[int, int]:
    """(weights and biases, bytes of the whole state) of one learner; nothing is allocated to find out."""
    env = describe(env_id)
    learner = ALGORITHMS[algorithm].learner(config, env.observation_dim, env.action_dim)
    state = learner.shape_of_state(config.number_tensors())
    parameters = sum(leaf.numel() for leaf in tree_leaves(state["params"]))
    return parameters, sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(state))


def update_flops(spec: RunSpec) -> float:
    """Arithmetic of one update: about five passes of the batch through every network, backward ones included."""
    parameters, _ = state_bytes(spec.algorithm, spec.config, spec.env)
    return 2.0 * spec.config.batch_size * parameters * 5


def member_bytes(spec: RunSpec, steps: int) -> float:
    """One member's memory at most: its replay, filled, its state, and what an update holds meanwhile."""
    _, state = state_bytes(spec.algorithm, spec.config, spec.env)
    segment = replay_bytes(spec, min(steps, spec.config.eval_every))  # copied to be saved
    return replay_bytes(spec, steps) + 3 * segment + 2 * state + update_bytes(spec)


def replay_bytes(spec: RunSpec, steps: int) -> float:
    """One member's replay: min(capacity, steps) transitions."""
    env = describe(spec.env)
    return min(spec.config.replay_capacity, steps) * 4 * row_width(env.observation_dim, env.action_dim)


def update_bytes(spec: RunSpec) -> float:
    """One member's batches, activations and gradients: no more than twice of each network's, rarely all at once."""
    env, config = describe(spec.env), spec.config
    parameters, _ = state_bytes(spec.algorithm, config, spec.env)
    networks = 2 + getattr(config, "critics", 1)
    width = sum(getattr(config, "layers", ())) + env.observation_dim + env.action_dim
    return (config.dtype.itemsize) * (2 * parameters + 2 * networks * config.batch_size * width)


def make_plan(
    experiment: Experiment, store: Store, workers: int, memory: float, device: str = "cpu", retrain: bool = False
) -> Plan:
    """Group an experiment's runs: reused, continued, new. `memory` is what a worker may take, in bytes.

    Raises InputError for a finished run that is asked for more steps and whose replay was dropped, and for runs that
    would not fit into that memory.
    """
    wanted: dict[str, tuple[RunSpec, int]] = {}
    for variant, spec in experiment.runs():
        steps = max(variant.steps, wanted[spec.id][1] if spec.id in wanted else 0)
        wanted[spec.id] = (spec, steps)
    reused, diverged, new = [], [], []
    continued: dict[str, int] = {}
    for run_id, (spec, steps) in wanted.items():
        status = store.run(run_id).status()
        standing = standing_at(status, steps)
        if standing == "diverged":
            diverged.append(spec)
        elif standing == "finished":
            reused.append(spec)
        elif retrain and standing == "failed":
            new.append((spec, steps))
        elif "cohort" in status and CohortDirectory(store.cohort(status["cohort"])).saved():
            cohort = status["cohort"]
            continued[cohort] = max(continued.get(cohort, 0), steps)
        elif standing == "to be continued" and not retrain:
            raise InputError(
                f"run {run_id} (seed {spec.seed}, {spec.env}) is finished at {status['steps']} steps and its replay "
                f"was dropped, so it cannot go on to {steps}; --retrain trains it again from the start (about "
                f"{duration(CohortPlan('', (spec,), steps).seconds)}), and --keep-replay would have kept it"
            )
        else:
            new.append((spec, steps))
    cohorts = [_continuation(store, cohort, steps) for cohort, steps in continued.items()]
    for cohort in cohorts:
        _check_fits(len(cohort.runs), cohort.runs[0], cohort.steps, memory, workers)
    in_continued = {spec.id for cohort in cohorts for spec in cohort.runs}
    cohorts += _group([(s, n) for s, n in new if s.id not in in_continued], workers, memory, device)
    cohorts.sort(key=lambda cohort: -cohort.seconds)
    return Plan(tuple(reused), tuple(cohorts), tuple(diverged))


def write(plan: Plan, store: Store) -> None:
    """Put the plan on disk: resuming uses what is written."""
    for cohort in plan.cohorts:
        directory = CohortDirectory(store.cohort(cohort.id))
        if cohort.is_new:
            directory.drop_replay()
        directory.write_plan([spec.id for spec in cohort.runs], cohort.steps)
        for spec in cohort.runs:
            run = store.run(spec.id)
            run.create(spec)
            if cohort.is_new:
                run.update(status="queued", cohort=cohort.id, steps=0)
            elif run.status()["status"] != "diverged":
                run.update(status="queued")


def _continuation(store: Store, cohort_id: str, steps: int) -> CohortPlan:
    plan = CohortDirectory(store.cohort(cohort_id)).plan()
    runs = [store.run(run_id) for run_id in plan["runs"]]
    specs = tuple(run.spec() for run in runs)
    done = max(run.status()["steps"] for run in runs)
    return CohortPlan(cohort_id, specs, steps, done, is_new=False)


def _group(new: Iterable[tuple[RunSpec, int]], workers: int, memory: float, device: str) -> list[CohortPlan]:
    """Cohorts of equal structure and steps, cut so that every worker has some and none is too wide."""
    groups: dict[tuple[str, int], list[RunSpec]] = defaultdict(list)
    for spec, steps in new:
        groups[spec.structure(), steps].append(spec)
    work = {key: len(specs) * key[1] * update_flops(specs[0]) for key, specs in groups.items()}
    cohorts = []
    for (structure, steps), specs in groups.items():
        share = workers * work[structure, steps] / sum(work.values())
        fitting = _fitting(specs[0], steps, memory, workers)
        widest = min(_widest(specs[0], device), fitting)
        count = max(math.ceil(len(specs) / widest), min(len(specs), round(share)), 1)
        for i in range(count):
            members = tuple(specs[i::count])
            cohorts.append(CohortPlan(digest([spec.id for spec in members]), members, steps))
    return cohorts


def _fitting(spec: RunSpec, steps: int, memory: float, workers: int) -> int:
    """How many such runs one worker's memory holds; InputError when it is not even one."""
    _check_fits(1, spec, steps, memory, workers)
    return int((memory - PROCESS_BYTES) // member_bytes(spec, steps))


def _check_fits(runs: int, spec: RunSpec, steps: int, memory: float, workers: int) -> None:
    needed = PROCESS_BYTES + runs * member_bytes(spec, steps)
    if needed <= memory:
        return
    fewer = int(workers * memory // needed)
    remedy = f"use --workers {fewer} or lower" if fewer else "lower"
    raise InputError(
        f"{f'{runs} runs in one program' if runs > 1 else 'a run'} on {spec.env} would take {needed / 1e9:.1f} GB, "
        f"{runs * replay_bytes(spec, steps) / 1e9:.1f} GB of it for {min(spec.config.replay_capacity, steps):,} "
        f"transitions each, and each of {workers} workers may take {memory / 1e9:.1f} GB; {remedy} replay_capacity "
        "(--set replay_capacity=...)"
    )


def _widest(spec: RunSpec, device: str) -> int:
    """Members beyond which a wider program gains little: on a CPU, where arithmetic is 20 times the overhead."""
    if device != "cpu":
        return 256  # memory is the bound; evaluations of more would be thousands of environments at once
    return max(1, min(32, int(20 * FLOPS_PER_SECOND * UPDATE_OVERHEAD_SECONDS / update_flops(spec))))


def duration(seconds: float) -> str:
    """ "45 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
