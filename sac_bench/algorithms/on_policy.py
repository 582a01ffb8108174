"""What algorithms that learn from rollouts share: a Gaussian policy, V, advantages and normalisation.

[1] arXiv 1506.02438: generalised advantage estimation (eq. 16). Details that the papers leave open follow
Stable-Baselines3 (VecNormalize) and CleanRL (ppo_continuous_action.py).

Everything here is written for one learner: a batch of B samples, a rollout of T steps of N environments, A action
dimensions, D observation dimensions. Actions are samples of a Gaussian; the environments clip them.
`training.cohort` lifts it to M members.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sac_bench.algorithms.networks import Draw, Network, Sizes, gaussian_log_prob, init_mlp, mlp
from sac_bench.algorithms.protocol import Batch, Hyperparameters, Learner, State, Update
from sac_bench.algorithms.running_stats import MAX_STANDARDISED, deviation, empty_statistics, merged, standardized
from sac_bench.options.on_policy import OnPolicyConfig

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
    """Return A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V(s_{t+1}) - V(s_t) ([1] eq. 16); all [T, N].

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


def entropy(actor: dict[str, Any]) -> Tensor:
    """Return the entropy [] of the policy, in nats, which is that of its noise: the same in every state."""
    total: Tensor = (actor["log_std"] + 0.5 * math.log(2 * math.pi * math.e)).sum()
    return total


def normalized_advantage(advantage: Tensor, std: Tensor, hyper: Hyperparameters) -> Tensor:
    """Return advantages [B] minus their mean, divided by their deviation `std` [], if the config says so."""
    scaled = (advantage - advantage.mean()) / (std + 1e-8)
    return torch.where(hyper["normalize_advantage"] > 0, scaled, advantage)


def annealed(structure: Structure, updates: Tensor, hyper: Hyperparameters) -> Tensor:
    """Return the learning rate [] after `updates`: full for the first rollout, 0 after `anneal_steps`."""
    steps = structure.rollout * torch.div(updates, structure.updates_per_rollout, rounding_mode="floor")
    over = hyper["anneal_steps"]
    left = 1 - steps / torch.where(over > 0, over, 1.0)
    return hyper["learning_rate"] * torch.where(over > 0, left.clamp(min=0), 1.0)


# -- the learner ----------------------------------------------------------------------------------------------


def structure_of(config: OnPolicyConfig, observation_dim: int, action_dim: int) -> Structure:
    """Return the structure of a config's learner for these dimensions."""
    return Structure(
        (observation_dim, *config.actor_sizes, action_dim),
        (observation_dim, *config.critic_sizes, 1),
        config.activation,
        config.precision,
        config.num_envs,
        config.rollout,
        config.updates_per_rollout,
    )


def init(structure: Structure, draw: Draw) -> State:
    """Return what every learner's initial state has: parameters and statistics."""
    orthogonal = partial(init_mlp, draw, initialisation="orthogonal")
    mean = orthogonal("actor", structure.actor, last_gain=0.01)  # CleanRL, Stable-Baselines3
    bias = mean[-1].bias
    return {
        "params": {
            "actor": {"mean": mean, "log_std": torch.zeros_like(bias)},
            "critic": orthogonal("critic", structure.critic),
        },
        "normalizer": {
            "observation": empty_statistics(bias, structure.actor[0]),
            "return": empty_statistics(bias),
            "running_return": bias.new_zeros(structure.num_envs),
        },
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
        steps: Tensor = x.unflatten(0, (-1, structure.num_envs))
        return steps

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


def learner(
    structure: Structure,
    init: Callable[[Draw, Hyperparameters], State],
    prepare: Callable[..., tuple[State, dict[str, Any]]],
    update: Update,
    batch_size: int,
    epochs: int,
    metrics: tuple[str, ...],
    stages: tuple[tuple[Callable[..., tuple[State, dict[str, Any]]], int], ...] = (),
) -> Learner:
    """Return a learner of rollouts with these functions."""
    return Learner(
        data="rollout",
        init=init,
        policy=acting,
        act=partial(act, replace(structure, precision="float32")),
        update=update,
        action_dim=structure.actor[-1],
        update_noise={},
        batch_size=batch_size,
        metrics=metrics,
        prepare=prepare,
        stages=stages,
        weights=weights,
        start=start,
        rollout=structure.rollout,
        epochs=epochs,
    )
