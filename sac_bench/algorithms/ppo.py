"""Proximal Policy Optimization.

[1] arXiv 1707.06347: the clipped surrogate (eq. 7) and the loss (eq. 9). Details that the paper leaves open follow
Stable-Baselines3 (PPO) and CleanRL (ppo_continuous_action.py). What it shares with A2C and TRPO is in on_policy.py.

Everything here is written for one learner: a minibatch of B samples. `training.cohort` lifts it to M members.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.utils._pytree import tree_map

from sac_bench.algorithms import on_policy
from sac_bench.algorithms.adam import adam, adam_init, clipped
from sac_bench.algorithms.networks import Draw
from sac_bench.algorithms.on_policy import (
    ADAM_EPSILON,
    Structure,
    annealed,
    entropy,
    evaluated,
    normalized_advantage,
    structure_of,
)
from sac_bench.algorithms.protocol import Batch, Hyperparameters, Learner, State
from sac_bench.options.metric import names
from sac_bench.options.ppo import METRICS, PPOConfig


def loss(
    params: dict[str, Any], structure: Structure, batch: Batch, hyper: Hyperparameters
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return -L^CLIP + c1 (V - return)^2 - c2 entropy [] ([1] eq. 7 and 9), without a factor of 1/2, and metrics."""
    log_prob, value = evaluated(structure, params, batch["observation"], batch["action"])
    advantage = batch["advantage"]
    std = advantage.std()
    advantage = normalized_advantage(advantage, std, hyper)

    log_ratio = log_prob - batch["log_prob"]
    ratio, clip = torch.exp(log_ratio), hyper["clip"]
    policy_loss = -torch.minimum(ratio * advantage, torch.clamp(ratio, 1 - clip, 1 + clip) * advantage).mean()

    bound = hyper["clip_value"]
    near = batch["value"] + torch.clamp(value - batch["value"], -bound, bound)
    value_loss = ((torch.where(bound > 0, near, value) - batch["return"]) ** 2).mean()

    bonus = entropy(params["actor"])
    total = policy_loss + hyper["value_coefficient"] * value_loss - hyper["entropy_coefficient"] * bonus
    return total, {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": bonus,
        "approx_kl": (ratio - 1 - log_ratio).mean(),  # joschu.net/blog/kl-approx.html, k3
        "clip_fraction": ((ratio - 1).abs() > clip).to(ratio.dtype).mean(),
        "value": value.mean(),
        "advantage_std": std,
    }


def init(structure: Structure, draw: Draw, hyper: Hyperparameters) -> State:
    """Return one learner's initial state."""
    common = on_policy.init(structure, draw)
    return {
        "params": common["params"],
        "adam": adam_init(common["params"]),
        "normalizer": common["normalizer"],
        "stopped": torch.zeros((), dtype=torch.bool),
        "updates": torch.zeros((), dtype=torch.int64),
    }


def prepare(structure: Structure, state: State, hyper: Hyperparameters, transitions: Batch) -> tuple[State, Batch]:
    """Return state and samples of a rollout's transitions (`on_policy.prepare`); a learner that stopped continues."""
    new, samples = on_policy.prepare(structure, state, hyper, transitions)
    return new | {"stopped": torch.zeros_like(state["stopped"])}, samples


def update(
    structure: Structure, state: State, hyper: Hyperparameters, batch: Batch, noise: dict[str, Tensor]
) -> tuple[State, dict[str, Tensor]]:
    """Take one step of Adam on a minibatch; return state and metrics [].

    A learner that stopped keeps its parameters until the next rollout; its metrics are still those of the minibatch.
    """
    gradient, (total, metrics) = grad_and_value(loss, has_aux=True)(state["params"], structure, batch, hyper)
    limit = 1.5 * hyper["target_kl"]
    stopped = state["stopped"] | ((limit > 0) & (metrics["approx_kl"] > limit))
    params, moments = adam(
        state["params"],
        clipped(gradient, hyper["max_grad_norm"]),
        state["adam"],
        annealed(structure, state["updates"], hyper),
        ADAM_EPSILON,
    )

    def unless_stopped(old: Tensor, new: Tensor) -> Tensor:
        return torch.where(stopped, old, new)

    new = {
        "params": tree_map(unless_stopped, state["params"], params),
        "adam": tree_map(unless_stopped, state["adam"], moments),
        "normalizer": state["normalizer"],
        "stopped": stopped,
        "updates": state["updates"] + 1,
    }
    metrics = metrics | {"loss": total, "stopped": stopped.to(total.dtype)}
    # The minibatch that stopped it may have overflowed, and was not applied.
    return new, {name: torch.where(stopped & ~x.isfinite(), 0.0, x) for name, x in metrics.items()}


def learner(config: PPOConfig, observation_dim: int, action_dim: int) -> Learner:
    """Return PPO's learner for these dimensions."""
    structure = structure_of(config, observation_dim, action_dim)
    return on_policy.learner(
        structure,
        partial(init, structure),
        partial(prepare, structure),
        partial(update, structure),
        config.batch_size,
        config.epochs,
        names(METRICS),
    )
