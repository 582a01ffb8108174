"""Advantage actor-critic (A2C): the synchronous form of A3C, with its entropy bonus.

[1] arXiv 1602.01783: the gradient, with the entropy's. Details that the paper leaves open follow Stable-Baselines3
(A2C). What it shares with PPO and TRPO is in on_policy.py.

The entropy is a regulariser of the update: neither advantages nor values contain it. SAC has it in its objective, so
its values contain the entropy of later states.

Everything here is written for one learner: a rollout of B samples. `training.cohort` lifts it to M members.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value

from sac_bench.algorithms import on_policy
from sac_bench.algorithms.adam import clipped
from sac_bench.algorithms.networks import Draw
from sac_bench.algorithms.on_policy import (
    Structure,
    annealed,
    entropy,
    evaluated,
    normalized_advantage,
    structure_of,
)
from sac_bench.algorithms.protocol import Batch, Hyperparameters, Learner, State
from sac_bench.algorithms.rmsprop import rmsprop, rmsprop_init
from sac_bench.options.a2c import METRICS, A2CConfig
from sac_bench.options.metric import names


def loss(
    params: dict[str, Any], structure: Structure, batch: Batch, hyper: Hyperparameters
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return -E [A log pi(a|s)] + c (V - R)^2 - beta entropy [] ([1]'s gradient) and metrics."""
    log_prob, value = evaluated(structure, params, batch["observation"], batch["action"])
    std = batch["advantage"].std()
    advantage = normalized_advantage(batch["advantage"], std, hyper)
    policy_loss = -(advantage * log_prob).mean()
    value_loss = ((value - batch["return"]) ** 2).mean()
    bonus = entropy(params["actor"])
    total = policy_loss + hyper["value_coefficient"] * value_loss - hyper["entropy_coefficient"] * bonus
    return total, {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": bonus,
        "value": value.mean(),
        "advantage_std": std,
    }


def init(structure: Structure, draw: Draw, hyper: Hyperparameters) -> State:
    """Return one learner's initial state."""
    common = on_policy.init(structure, draw)
    return common | {"squares": rmsprop_init(common["params"]), "updates": torch.zeros((), dtype=torch.int64)}


def update(
    structure: Structure, state: State, hyper: Hyperparameters, batch: Batch, noise: dict[str, Tensor]
) -> tuple[State, dict[str, Tensor]]:
    """Take one step of RMSprop on a rollout; return state and metrics []."""
    gradient, (total, metrics) = grad_and_value(loss, has_aux=True)(state["params"], structure, batch, hyper)
    params, squares = rmsprop(
        state["params"],
        clipped(gradient, hyper["max_grad_norm"]),
        state["squares"],
        annealed(structure, state["updates"], hyper),
        hyper["rmsprop_decay"],
        hyper["rmsprop_epsilon"],
    )
    new = {"params": params, "squares": squares, "updates": state["updates"] + 1}
    return state | new, metrics | {"loss": total}


def learner(config: A2CConfig, observation_dim: int, action_dim: int) -> Learner:
    """Return A2C's learner for these dimensions."""
    structure = structure_of(config, observation_dim, action_dim)
    return on_policy.learner(
        structure,
        partial(init, structure),
        partial(on_policy.prepare, structure),
        partial(update, structure),
        config.batch_size,
        config.epochs,
        names(METRICS),
    )
