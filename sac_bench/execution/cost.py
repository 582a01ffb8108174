"""A rough model of what training costs: seconds, arithmetic and bytes."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import hyperparameters_of
from sac_bench.envs.pool import describe
from sac_bench.options.config import TrainingConfig
from sac_bench.spec.run import RunSpec
from sac_bench.training.cohort import training_width
from sac_bench.training.replay import row_width

# One core, fitted to 22 points measured on an AMD EPYC of the Zen 4 generation (results/record/benchmark/growth.csv):
# typical error 8%. Cores without AVX-512 take up to three times as long.
UPDATE_OVERHEAD_SECONDS = 1.15e-3
"""Cost of a step and its update besides arithmetic, shared by a cohort's members."""
FLOPS_PER_SECOND = 9e10
ACTIVATIONS_PER_SECOND = 2e9
"""Hidden units of a batch that pass the activation, its gradient and the loss. They dominate in small networks."""
START_SECONDS = 25.0
"""Time until a cohort's first update: imports, the first evaluation, and compiling if nothing is cached."""
PROCESS_BYTES = 600e6
# A finished run on disk, measured on the record of ablation-quick.
RESULT_BYTES = 5e3
"""Spec, status and the beginning of the log."""
RESULT_SEGMENT_BYTES = 1e3
"""Rows of one segment without its episodes: evaluations, training metrics, a line of the log."""
RESULT_EPISODE_BYTES = 120.0


class Cost(NamedTuple):
    """What training a cohort takes, roughly: environment steps, and seconds on one CPU core after its start."""

    steps: int
    seconds: float
    evaluation_steps: int
    """Of `steps`, those of evaluations, if every episode lasts to the time limit."""
    evaluation_seconds: float


def training_seconds(spec: RunSpec, runs: int, done: int, steps: int, device: str) -> float:
    """Return the rough time to train a cohort of `runs` such runs from `done` to `steps` steps, on one CPU core.

    The time to start and to compile (START_SECONDS) is not included.
    """
    return cost(spec, runs, done, steps, device).seconds


def cost(spec: RunSpec, runs: int, done: int, steps: int, device: str) -> Cost:
    """Return the cost of a cohort of `runs` such runs from `done` to `steps` steps."""
    config = spec.config
    updates = config.updates_due(steps) - config.updates_due(done)
    width = training_width(runs, device, compiled=True)
    per_update = UPDATE_OVERHEAD_SECONDS + width * update_seconds(spec)
    evaluation = runs * episodes_of_evaluations(config, done, steps) * describe(spec.env).max_episode_steps
    total = runs * (steps - done) + evaluation
    per_step = env_step_seconds(spec.env)
    return Cost(total, updates * per_update + total * per_step, evaluation, evaluation * per_step)


def evaluation_share(costs: Iterable[Cost]) -> tuple[float, float]:
    """Return the shares of evaluations in the environment steps and in the seconds of cohorts; 0 without any."""
    steps, seconds, evaluation_steps, evaluation_seconds = (
        sum(part) for part in zip(Cost(0, 0.0, 0, 0.0), *costs, strict=True)
    )
    return evaluation_steps / (steps or 1), evaluation_seconds / (seconds or 1)


def episodes_of_evaluations(config: TrainingConfig, done: int, steps: int) -> int:
    """Return how many episodes the evaluations of a run play from `done` to `steps` steps; from 0, also before it."""
    if done >= steps:
        return 0
    apart = [config.eval_every * every for every in (1, config.eval_sampled_every) if every]
    return config.eval_episodes * sum(math.ceil(steps / n) - done // n + (done == 0) for n in apart)


def env_step_seconds(env_id: str) -> float:
    """Return the rough time of one step of one environment on one core. It grows with the size of the body."""
    return 8e-5 + 1.1e-6 * describe(env_id).observation_dim


@functools.cache
def state_bytes(algorithm: str, config: TrainingConfig, env_id: str) -> tuple[int, int]:
    """(weights and biases, bytes of the whole state) of one learner; nothing is allocated to find out."""
    env = describe(env_id)
    learner = ALGORITHMS[algorithm].learner(config, env.observation_dim, env.action_dim)
    state = learner.shape_of_state(hyperparameters_of(config))
    return sum(leaf.numel() for leaf in tree_leaves(state["params"])), sum(
        leaf.numel() * leaf.element_size() for leaf in tree_leaves(state)
    )


def update_seconds(spec: RunSpec) -> float:
    """Return the rough time of one run's update on one core, without the overhead that a cohort's runs share."""
    activations = spec.config.batch_size * spec.config.passes * spec.config.hidden_units
    return update_flops(spec) / FLOPS_PER_SECOND + activations / ACTIVATIONS_PER_SECOND


def update_flops(spec: RunSpec) -> float:
    """Arithmetic of one update."""
    parameters, _ = state_bytes(spec.algorithm, spec.config, spec.env)
    return 2.0 * spec.config.batch_size * parameters * spec.config.passes


def cohort_bytes(runs: int, spec: RunSpec, steps: int, device: str) -> float:
    """Return the peak memory in bytes of so many such runs in one process."""
    return PROCESS_BYTES + training_width(runs, device, compiled=True) * member_bytes(spec, steps)


def member_bytes(spec: RunSpec, steps: int) -> float:
    """Return one member's peak memory in bytes: its filled replay, its state, and what an update needs."""
    _, state = state_bytes(spec.algorithm, spec.config, spec.env)
    segment = replay_bytes(spec, min(steps, spec.config.eval_every))  # copied for saving
    return replay_bytes(spec, steps) + 3 * segment + 2 * state + update_bytes(spec)


def replay_bytes(spec: RunSpec, steps: int) -> float:
    """Return the bytes of the transitions that one member keeps."""
    env = describe(spec.env)
    return min(spec.config.capacity, steps) * 4 * row_width(env.observation_dim, env.action_dim)


def update_bytes(spec: RunSpec) -> float:
    """Return an upper bound in bytes on one member's batches, activations and gradients: twice each network's."""
    env, config = describe(spec.env), spec.config
    parameters, _ = state_bytes(spec.algorithm, config, spec.env)
    units = config.hidden_units + config.networks * (env.observation_dim + env.action_dim)
    return config.scratch_bytes + config.bytes_per_number * (2 * parameters + 2 * config.rows * units)


def result_bytes(spec: RunSpec, steps: int) -> float:
    """Return the rough size in bytes of a finished run without its replay: weights, tables, log.

    Rows of tables are counted with their copies in one experiment's tables.
    """
    parameters, _ = state_bytes(spec.algorithm, spec.config, spec.env)
    segments = math.ceil(steps / spec.config.eval_every) + 1
    rows = RESULT_SEGMENT_BYTES + 2 * spec.config.eval_episodes * RESULT_EPISODE_BYTES
    return RESULT_BYTES + 6.0 * parameters + segments * rows


def duration(seconds: float) -> str:
    """Return a duration in words: "45 s", "12 min", "3.5 h", "17.6 days"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    hours = seconds / 3600
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:,.{0 if hours > 2400 else 1}f} days"


def size(number: float) -> str:
    """Return a number of bytes in words: "0.2 MB", "35 MB", "3.7 GB"."""
    if number < 1e9:
        return f"{number / 1e6:.{0 if number >= 1e7 else 1}f} MB"
    return f"{number / 1e9:,.1f} GB"
