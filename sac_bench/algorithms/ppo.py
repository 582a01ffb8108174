"""Proximal Policy Optimization with generalised advantage estimation.

[1] arXiv 1707.06347: the clipped surrogate (eq. 7) and the loss (eq. 9). [2] arXiv 1506.02438: GAE (eq. 16).
Details that the papers leave open follow Stable-Baselines3 (PPO, VecNormalize) and CleanRL (ppo_continuous_action.py).

Everything here is written for one learner: a minibatch of B samples, a rollout of T steps of N environments, A action
dimensions, D observation dimensions. Actions are samples of a Gaussian; the environments clip them.
`training.cohort` lifts it to M members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad_and_value
from torch.utils._pytree import tree_map

from sac_bench.algorithms.adam import adam, adam_init, clipped
from sac_bench.algorithms.networks import Draw, Network, Sizes, gaussian_log_prob, init_mlp, mlp
from sac_bench.algorithms.protocol import Batch, Hyperparameters, Learner, State
from sac_bench.algorithms.running_stats import MAX_STANDARDISED, deviation, empty_statistics, merged, standardized
from sac_bench.options.metric import names
from sac_bench.options.ppo import METRICS, PPOConfig

ADAM_EPSILON = 1e-5  # CleanRL, Stable-Baselines3


@dataclass(frozen=True)
class Structure:
    """The structure of one learner's networks and rollouts."""

    actor: Sizes
    critic: Sizes
    activation: str
    precision: str
    num_envs: int
    rollout: int
    updates_per_rollout: int

    def forward(self, network: Network, x: Tensor) -> Tensor:
        """Evaluate a network: x [B, in] -> [B, out]."""
        return mlp(network, x, self.activation, self.precision)


# -- the mathematics ------------------------------------------------------------------------------------------


def discounted_sums(x: Tensor, factor: Tensor) -> Tensor:
    """Return y_t = x_t + factor_t y_{t+1}, y_T = 0; x, factor [T, N] -> y [T, N].

    Computed in log2 T steps, which double k in y_t = x_t + factor_t y_{t+k} by updating x and factor.
    """
    k = 1
    while k < len(x):
        ahead = (0, 0, 0, k)
        x = x + factor * F.pad(x[k:], ahead)
        factor = factor * F.pad(factor[k:], ahead)
        k *= 2
    return x


def advantages(
    reward: Tensor, value: Tensor, next_value: Tensor, final: Tensor, done: Tensor, hyper: Hyperparameters
) -> Tensor:
    """Return A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V(s_{t+1}) - V(s_t) ([2] eq. 16); all [T, N].

    `done` is 1 where an episode ends and the sum is cut; `final` is 1 where the next state's value counts as 0.
    """
    delta = reward + hyper["gamma"] * (1 - final) * next_value - value
    return discounted_sums(delta, hyper["gamma"] * hyper["gae_lambda"] * (1 - done))


def running_returns(reward: Tensor, done: Tensor, carried: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """Return R_t = r_t + gamma R_{t-1} [T, N], reset to 0 where an episode begins, and R to carry on [N].

    As in Stable-Baselines3's VecNormalize. reward, done [T, N]; `carried` [N] is R of the previous step.
    """
    before = F.pad(done[:-1], (0, 0, 1, 0))  # the carried R is 0 already after an end
    first = F.pad((gamma * carried)[None], (0, 0, 0, len(reward) - 1))
    returns = discounted_sums((reward + first).flip(0), (gamma * (1 - before)).flip(0)).flip(0)
    return returns, returns[-1] * (1 - done[-1])


def normalized(observation: Tensor, statistics: dict[str, Tensor], hyper: Hyperparameters) -> Tensor:
    """Return observations [..., D] as input to the networks, standardised if the config says so."""
    return torch.where(hyper["normalize_observations"] > 0, standardized(observation, statistics), observation)


def evaluated(
    structure: Structure, params: dict[str, Any], observation: Tensor, action: Tensor
) -> tuple[Tensor, Tensor]:
    """Return log pi(a|s) [B], V(s) [B] of normalised observation [B, D], action [B, A]."""
    mean = structure.forward(params["actor"]["mean"], observation)
    value = structure.forward(params["critic"], observation).squeeze(-1)
    return gaussian_log_prob(mean, params["actor"]["log_std"], action), value


def loss(
    params: dict[str, Any], structure: Structure, batch: Batch, hyper: Hyperparameters
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return -L^CLIP + c1 (V - return)^2 - c2 entropy [] ([1] eq. 7 and 9), without a factor of 1/2, and metrics."""
    log_prob, value = evaluated(structure, params, batch["observation"], batch["action"])
    advantage = batch["advantage"]
    std = advantage.std()
    scaled = (advantage - advantage.mean()) / (std + 1e-8)
    advantage = torch.where(hyper["normalize_advantage"] > 0, scaled, advantage)

    log_ratio = log_prob - batch["log_prob"]
    ratio, clip = torch.exp(log_ratio), hyper["clip"]
    policy_loss = -torch.minimum(ratio * advantage, torch.clamp(ratio, 1 - clip, 1 + clip) * advantage).mean()

    bound = hyper["clip_value"]
    near = batch["value"] + torch.clamp(value - batch["value"], -bound, bound)
    value_loss = ((torch.where(bound > 0, near, value) - batch["return"]) ** 2).mean()

    entropy = (params["actor"]["log_std"] + 0.5 * math.log(2 * math.pi * math.e)).sum()
    total = policy_loss + hyper["value_coefficient"] * value_loss - hyper["entropy_coefficient"] * entropy
    return total, {
        "policy_loss": policy_loss,
        "value_loss": value_loss,
        "entropy": entropy,
        "approx_kl": (ratio - 1 - log_ratio).mean(),  # joschu.net/blog/kl-approx.html, k3
        "clip_fraction": ((ratio - 1).abs() > clip).to(ratio.dtype).mean(),
        "value": value.mean(),
        "advantage_std": std,
    }


def annealed(structure: Structure, updates: Tensor, hyper: Hyperparameters) -> Tensor:
    """Return the learning rate [] after `updates`: full for the first rollout, 0 after `anneal_steps`."""
    steps = structure.rollout * torch.div(updates, structure.updates_per_rollout, rounding_mode="floor")
    over = hyper["anneal_steps"]
    left = 1 - steps / torch.where(over > 0, over, 1.0)
    return hyper["learning_rate"] * torch.where(over > 0, left.clamp(min=0), 1.0)


# -- the learner ----------------------------------------------------------------------------------------------


def init(structure: Structure, draw: Draw, hyper: Hyperparameters) -> State:
    """Return one learner's initial state."""
    orthogonal = partial(init_mlp, draw, initialisation="orthogonal")
    mean = orthogonal("actor", structure.actor, last_gain=0.01)  # CleanRL, Stable-Baselines3
    bias = mean[-1].bias
    params = {
        "actor": {"mean": mean, "log_std": torch.zeros_like(bias)},
        "critic": orthogonal("critic", structure.critic),
    }
    return {
        "params": params,
        "adam": adam_init(params),
        "normalizer": {
            "observation": empty_statistics(bias, structure.actor[0]),
            "return": empty_statistics(bias),
            "running_return": bias.new_zeros(structure.num_envs),
        },
        "stopped": torch.zeros((), dtype=torch.bool),
        "updates": torch.zeros((), dtype=torch.int64),
    }


def acting(state: State) -> dict[str, Any]:
    """Return the part of a state that acting needs: a run's policy."""
    return {"actor": state["params"]["actor"], "normalizer": state["normalizer"]["observation"]}


def weights(state: State) -> State:
    """Return what a run passes on: parameters and statistics, without the returns of unfinished episodes."""
    statistics = {name: state["normalizer"][name] for name in ("observation", "return")}
    return {"params": state["params"], "normalizer": statistics}


def start(state: State, weights: State, hyper: Hyperparameters) -> State:
    """Return a new state with another learner's weights."""
    return state | weights | {"normalizer": state["normalizer"] | weights["normalizer"]}


def act(
    structure: Structure, policy: dict[str, Any], hyper: Hyperparameters, observation: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return sampled and mean actions [N, A] of observation [N, D], noise [N, A]."""
    actor = policy["actor"]
    mean = structure.forward(actor["mean"], normalized(observation, policy["normalizer"], hyper))
    return mean + torch.exp(actor["log_std"]) * noise, mean


def prepare(structure: Structure, state: State, hyper: Hyperparameters, transitions: Batch) -> tuple[State, Batch]:
    """Return state and samples [T * N, ...] of a rollout's transitions [T * N, ...], ordered by step.

    Observations are normalised by the statistics before this rollout, as when acting; rewards by those that include it.
    """
    params, normalizer = state["params"], state["normalizer"]

    def by_env(x: Tensor) -> Tensor:
        return x.unflatten(0, (-1, structure.num_envs))

    observation = normalized(transitions["observation"], normalizer["observation"], hyper)
    next_observation = normalized(transitions["next_observation"], normalizer["observation"], hyper)
    log_prob, value = evaluated(structure, params, observation, transitions["action"])
    next_value = structure.forward(params["critic"], next_observation).squeeze(-1)

    raw, terminated, truncated = (
        by_env(transitions[name][:, 0] if name == "reward" else transitions[name])
        for name in ("reward", "terminated", "truncated")
    )
    done = torch.maximum(terminated, truncated)
    returns, running = running_returns(raw, done, normalizer["running_return"], hyper["gamma"])
    of_returns = merged(normalizer["return"], returns.flatten())
    scaled = (raw / deviation(of_returns)).clamp(-MAX_STANDARDISED, MAX_STANDARDISED)
    reward = torch.where(hyper["normalize_rewards"] > 0, scaled, raw)

    final = terminated + (1 - hyper["bootstrap_truncated"]) * truncated
    advantage = advantages(reward, by_env(value), by_env(next_value), final, done, hyper).flatten()
    new = {
        "normalizer": {
            "observation": merged(normalizer["observation"], transitions["observation"]),
            "return": of_returns,
            "running_return": running,
        },
        "stopped": torch.zeros_like(state["stopped"]),
    }
    samples = {
        "observation": observation,
        "action": transitions["action"],
        "log_prob": log_prob,
        "value": value,
        "advantage": advantage,
        "return": advantage + value,
    }
    return state | new, samples


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
    d, a = observation_dim, action_dim
    structure = Structure(
        (d, *config.actor_sizes, a),
        (d, *config.critic_sizes, 1),
        config.activation,
        config.precision,
        config.num_envs,
        config.rollout,
        config.updates_per_rollout,
    )
    return Learner(
        data="rollout",
        init=partial(init, structure),
        policy=acting,
        act=partial(act, replace(structure, precision="float32")),
        update=partial(update, structure),
        action_dim=a,
        update_noise={},
        batch_size=config.batch_size,
        metrics=names(METRICS),
        prepare=partial(prepare, structure),
        weights=weights,
        start=start,
        rollout=config.rollout,
        epochs=config.epochs,
    )
