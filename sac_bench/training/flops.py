"""The arithmetic of learning: floating-point operations of matrix products, counted by torch on its meta device.

A multiplication and an addition count as two. Norms, activations, losses, optimizers and random draws are not counted,
nor are environments, evaluations and diagnoses. `networks.product` computes small products, and those with one row or
column, element by element, which torch's counter does not see; on the meta device they are products too.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch.utils._pytree import tree_map
from torch.utils.flop_counter import FlopCounterMode

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import hyperparameters_of
from sac_bench.algorithms.protocol import Batch, Learner, Update
from sac_bench.envs.pool import describe
from sac_bench.options.config import TrainingConfig
from sac_bench.training.replay import row_width, transitions

CYCLE = 2520
"""Updates over which kinds of updates are averaged: exact for every delay up to 10."""
MANY = 10**6
"""Transitions over which fractions of updates average out."""


class Arithmetic(NamedTuple):
    """FLOPs of a run: of acting in one transition, and of one update on average, with its share of a rollout's."""

    act: float
    update: float

    def after(self, steps: int, updates: int) -> float:
        """Return the FLOPs of so many transitions and updates."""
        return steps * self.act + updates * self.update


def flops_per_transition(algorithm: str, config: TrainingConfig, env: str) -> float:
    """Return the FLOPs of one transition with its updates, as after the first steps, which have no updates."""
    updates = config.updates_due(2 * MANY) - config.updates_due(MANY)
    return arithmetic(algorithm, config, env).after(MANY, updates) / MANY


def arithmetic(algorithm: str, config: TrainingConfig, env: str) -> Arithmetic:
    """Return the arithmetic of runs. No network is allocated, and runs of one structure are counted once."""
    described = describe(env)
    dims = (described.observation_dim, described.action_dim)
    key = json.dumps([algorithm, config.structure(), dims], sort_keys=True)
    if key not in _COUNTED:
        _COUNTED[key] = counted(ALGORITHMS[algorithm].learner(config, *dims), config, dims)
    return _COUNTED[key]


_COUNTED: dict[str, Arithmetic] = {}


def counted(learner: Learner, config: TrainingConfig, dims: tuple[int, int]) -> Arithmetic:
    """Count a learner's arithmetic, for observations and actions of these dimensions."""
    with torch.device("meta"), torch.no_grad():
        hyper = tree_map(lambda leaf: leaf.to("meta"), hyperparameters_of(config))
        state = tree_map(lambda leaf: leaf.to("meta"), learner.shape_of_state(hyper))
        dtype = next(iter(hyper.values())).dtype
        acting = (torch.empty(1, size, dtype=dtype) for size in (dims[0], learner.noise_dim))
        act, _ = _flops(learner.act, learner.policy(state), hyper, *acting)
        batch, prepared = _transitions(learner, config, dims, dtype), 0.0
        if learner.prepare is not None:
            prepared, (state, samples) = _flops(learner.prepare, state, hyper, batch)
            for stage, times in learner.stages:
                once, (state, samples) = _flops(stage, state, hyper, samples)
                prepared += times * once
            prepared *= learner.batch_size / (learner.epochs * learner.rollout)
            batch = {name: part[: learner.batch_size] for name, part in samples.items()}
        shapes = learner.update_noise | learner.update_uniforms
        noise = {name: torch.empty(shape, dtype=dtype) for name, shape in shapes.items()}
        updates = [
            count / CYCLE * _flops(update, state, hyper, batch, noise)[0] for update, count in _kinds(learner).items()
        ]
    return Arithmetic(act, sum(updates) + prepared)


def _flops(function: Callable[..., Any], *arguments: Any) -> tuple[float, Any]:
    """Return the FLOPs of a function, and what it returns."""
    with FlopCounterMode(display=False) as counter:
        result = function(*arguments)
    return float(counter.get_total_flops()), result


def _kinds(learner: Learner) -> Counter[Update]:
    """Return the functions that make the updates of a cycle, with the number of updates that each makes."""
    return Counter(map(learner.update_of, range(1, CYCLE + 1)))


def _transitions(learner: Learner, config: TrainingConfig, dims: tuple[int, int], dtype: torch.dtype) -> Batch:
    """Return transitions without values, as many as an update has, or a rollout."""
    count, n = max(learner.batch_size, learner.rollout), config.num_envs
    rows = torch.empty(1, math.ceil(count / n) + 1, n, row_width(*dims), dtype=dtype)
    memory = {"rows": rows, "final": rows[:, :1, 0, : dims[0]], "written": torch.empty((), dtype=torch.int64)}
    drawn = transitions(memory, torch.empty(1, count, dtype=torch.int64), getattr(config, "n_step", 1))
    return {name: part[0] for name, part in drawn.items()}
