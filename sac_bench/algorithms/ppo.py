"""Proximal Policy Optimization with generalised advantage estimation.

[1] arXiv 1707.06347: the clipped surrogate (eq. 7) and the loss (eq. 9). [2] arXiv 1506.02438: GAE (eq. 16).
What the papers leave open is as in Stable-Baselines3's PPO and VecNormalize, and CleanRL's ppo_continuous_action.py.

Everything here is written for one learner: a minibatch of B samples, a rollout of T steps of N environments, A action
dimensions, D observation dimensions. Actions are a Gaussian's, sent as sampled: the environments clip them.
`training.cohort` lifts it to M members.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad_and_value
from torch.utils._pytree import tree_map

from sac_bench.algorithms.adam import adam, adam_init, clipped
from sac_bench.algorithms.config import Activation, Layers, PerMember, RolloutConfig, option
from sac_bench.algorithms.metric import ENTROPY, VALUE_LOSS, Metric, names
from sac_bench.algorithms.networks import Draw, Network, Sizes, gaussian_log_prob, init_orthogonal, mlp
from sac_bench.algorithms.protocol import Batch, Hyperparameters, Learner, State
from sac_bench.algorithms.running_stats import LIMIT, deviation, merged, nothing_seen, standardized

VERSION = 2
"""Raised whenever the numbers that PPO computes for a config change, a changed default included; in every run's id."""
ADAM_EPSILON = 1e-5  # CleanRL, Stable-Baselines3


class PPOConfig(RolloutConfig):
    """Defaults are those of arXiv 1707.06347 (table 3) and of its implementations for MuJoCo."""

    algorithm: ClassVar[str] = "ppo"

    layers: Layers = option((64, 64), "units of each hidden layer, actor and critic", "1707.06347, section 6.1")
    activation: Activation = option("tanh", "nonlinearity of the hidden layers", "1707.06347, section 6.1")

    learning_rate: PerMember[float] = option(3e-4, "Adam's rate", "1707.06347, table 3", gt=0, le=1)
    anneal_steps: PerMember[int] = option(
        0,
        "steps over which the rate falls linearly to 0, rollout by rollout; 0: never",
        "Stable-Baselines3",
        ge=0,
        le=10**12,
    )
    gamma: PerMember[float] = option(0.99, "discount", "1707.06347, table 3", ge=0, le=1)
    gae_lambda: PerMember[float] = option(0.95, "lambda of the advantages", "1707.06347, table 3", ge=0, le=1)
    clip: PerMember[float] = option(0.2, "epsilon of the clipped surrogate", "1707.06347, table 1", gt=0, le=1e6)
    clip_value: PerMember[float] = option(
        0.0,
        "how far values may move from the rollout's before their loss is clipped; 0: any",
        "Stable-Baselines3",
        ge=0,
        le=1e6,
    )
    normalize_advantage: PerMember[bool] = option(
        True, "advantages of a minibatch are brought to mean 0 and deviation 1", "CleanRL, Stable-Baselines3"
    )
    value_coefficient: PerMember[float] = option(
        0.5, "weight of the value loss", "CleanRL, Stable-Baselines3", ge=0, le=1e6
    )
    entropy_coefficient: PerMember[float] = option(0.0, "weight of the entropy", "1707.06347, table 3", ge=0, le=1e6)
    max_grad_norm: PerMember[float] = option(
        0.5,
        "norm that the gradient of all parameters is scaled down to; 0: left as it is",
        "CleanRL, Stable-Baselines3",
        ge=0,
        le=1e6,
    )
    target_kl: PerMember[float] = option(
        0.0,
        "a rollout's updates end where a minibatch's KL exceeds 1.5 times this; 0: never",
        "Stable-Baselines3",
        ge=0,
        le=1e6,
    )
    normalize_observations: PerMember[bool] = option(
        True, "observations by their running mean and deviation, clipped to 10", "CleanRL, for MuJoCo"
    )
    normalize_rewards: PerMember[bool] = option(
        True, "rewards by the running deviation of discounted returns, clipped to 10", "CleanRL, for MuJoCo"
    )

    @property
    def passes(self) -> int:
        return 3

    @property
    def learns_until(self) -> int | None:
        return self.anneal_steps or None


@dataclass(frozen=True)
class Structure:
    """The sizes of one learner's networks and of its rollouts."""

    actor: Sizes
    critic: Sizes
    activation: str
    precision: str
    num_envs: int
    rollout: int
    updates_per_rollout: int

    def forward(self, network: Network, x: Tensor) -> Tensor:
        """x [B, in] -> [B, out]."""
        return mlp(network, x, self.activation, self.precision)


# -- the mathematics ------------------------------------------------------------------------------------------


def discounted_sums(x: Tensor, factor: Tensor) -> Tensor:
    """y_t = x_t + factor_t y_{t+1}, y_T = 0; x, factor [T, N] -> y [T, N].

    By doubling, in log2 T steps: after each, y_t = x_t + factor_t y_{t+k} for twice the k, with x and factor new.
    """
    k = 1
    while k < len(x):
        ahead = (0, 0, 0, k)
        x = x + factor * F.pad(x[k:], ahead)
        factor = factor * F.pad(factor[k:], ahead)
        k *= 2
    return x


def advantages(reward: Tensor, value: Tensor, next_value: Tensor, final: Tensor, done: Tensor, hyper: Hyperparameters):
    """A_t = delta_t + gamma lambda A_{t+1}, delta_t = r_t + gamma V(s_{t+1}) - V(s_t) ([2] eq. 16); all [T, N].

    `done` is 1 where an episode ends, where the sum does, too; `final` where its last state counts for nothing.
    """
    delta = reward + hyper["gamma"] * (1 - final) * next_value - value
    return discounted_sums(delta, hyper["gamma"] * hyper["gae_lambda"] * (1 - done))


def running_returns(reward: Tensor, done: Tensor, carried: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """R_t = r_t + gamma R_{t-1}, from 0 again where an episode begins, as Stable-Baselines3's VecNormalize has it.

    reward, done [T, N], carried [N]: R of the step before -> R [T, N], what to carry on [N].
    """
    before = F.pad(done[:-1], (0, 0, 1, 0))  # the carried R is 0 already after an end
    first = F.pad((gamma * carried)[None], (0, 0, 0, len(reward) - 1))
    returns = discounted_sums((reward + first).flip(0), (gamma * (1 - before)).flip(0)).flip(0)
    return returns, returns[-1] * (1 - done[-1])


def normalized(observation: Tensor, statistics: dict[str, Tensor], hyper: Hyperparameters) -> Tensor:
    """Observations [..., D] as the networks see them."""
    return torch.where(hyper["normalize_observations"] > 0, standardized(observation, statistics), observation)


def evaluated(structure: Structure, params: dict[str, Any], observation: Tensor, action: Tensor):
    """observation (normalised) [B, D], action [B, A] -> log pi(a|s) [B], V(s) [B]."""
    mean = structure.forward(params["actor"]["mean"], observation)
    value = structure.forward(params["critic"], observation).squeeze(-1)
    return gaussian_log_prob(mean, params["actor"]["log_std"], action), value


def loss(params: dict[str, Any], structure: Structure, batch: Batch, hyper: Hyperparameters):
    """-L^CLIP + c1 (V - return)^2 - c2 entropy ([1] eq. 7 and 9), without a factor of 1/2 -> loss [], metrics."""
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
    """Adam's rate after that many updates: its full value in the first rollout's, and 0 after `anneal_steps`."""
    steps = structure.rollout * torch.div(updates, structure.updates_per_rollout, rounding_mode="floor")
    over = hyper["anneal_steps"]
    left = 1 - steps / torch.where(over > 0, over, 1.0)
    return hyper["learning_rate"] * torch.where(over > 0, left.clamp(min=0), 1.0)


# -- the learner ----------------------------------------------------------------------------------------------


def init(structure: Structure, draw: Draw, hyper: Hyperparameters) -> State:
    """One learner's parameters, optimizer state and running statistics."""
    mean = init_orthogonal(draw, "actor", structure.actor, 0.01)
    bias = mean[-1].bias
    params = {
        "actor": {"mean": mean, "log_std": torch.zeros_like(bias)},
        "critic": init_orthogonal(draw, "critic", structure.critic, 1.0),
    }
    return {
        "params": params,
        "adam": adam_init(params),
        "normalizer": {
            "observation": nothing_seen(bias, structure.actor[0]),
            "return": nothing_seen(bias),
            "running_return": bias.new_zeros(structure.num_envs),
        },
        "stopped": torch.zeros((), dtype=torch.bool),
        "updates": torch.zeros((), dtype=torch.int64),
    }


def acting(state: State) -> dict[str, Any]:
    """What acting reads of a state, and what a run's policy is."""
    return {"actor": state["params"]["actor"], "normalizer": state["normalizer"]["observation"]}


def weights(state: State) -> State:
    """What a run hands on: parameters and statistics, and not the returns of episodes under way."""
    statistics = {name: state["normalizer"][name] for name in ("observation", "return")}
    return {"params": state["params"], "normalizer": statistics}


def start(state: State, weights: State, hyper: Hyperparameters, before: Hyperparameters) -> State:
    """A new state with another learner's weights."""
    return state | weights | {"normalizer": state["normalizer"] | weights["normalizer"]}


def act(structure: Structure, policy: dict[str, Any], hyper: Hyperparameters, observation: Tensor, noise: Tensor):
    """observation [N, D], noise [N, A] -> sampled action [N, A], mean action [N, A]."""
    actor = policy["actor"]
    mean = structure.forward(actor["mean"], normalized(observation, policy["normalizer"], hyper))
    return mean + torch.exp(actor["log_std"]) * noise, mean


def prepare(structure: Structure, state: State, hyper: Hyperparameters, transitions: Batch) -> tuple[State, Batch]:
    """A rollout's transitions [T * N, ...], the N of one step side by side -> (state, samples [T * N, ...]).

    Observations are normalised as they were when they were acted on; rewards by statistics this rollout is part of.
    """
    params, normalizer = state["params"], state["normalizer"]
    by_env = lambda x: x.unflatten(0, (-1, structure.num_envs))
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
    scaled = (raw / deviation(of_returns)).clamp(-LIMIT, LIMIT)
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


def update(structure: Structure, state: State, hyper: Hyperparameters, batch: Batch, noise: dict[str, Tensor]):
    """One step of Adam on one minibatch -> (state, metrics of scalars []).

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
    kept = lambda old, new: torch.where(stopped, old, new)
    new = {
        "params": tree_map(kept, state["params"], params),
        "adam": tree_map(kept, state["adam"], moments),
        "normalizer": state["normalizer"],
        "stopped": stopped,
        "updates": state["updates"] + 1,
    }
    metrics = metrics | {"loss": total, "stopped": stopped.to(total.dtype)}
    # What made it stop may have overflowed, and was not applied.
    return new, {name: torch.where(stopped & ~x.isfinite(), 0.0, x) for name, x in metrics.items()}


METRICS = (
    Metric("loss", "loss", drawn=False, topic="loss"),
    Metric("policy_loss", "policy loss", drawn=False, topic="loss"),
    VALUE_LOSS,
    ENTROPY,
    Metric("approx_kl", "KL of an update", "log"),
    Metric("clip_fraction", "share of ratios clipped"),
    Metric("value", "V of a minibatch", drawn=False, topic="V"),
    Metric("advantage_std", "spread of advantages"),
    Metric("stopped", "share of updates skipped", drawn=False),
)


def learner(config: PPOConfig, observation_dim: int, action_dim: int) -> Learner:
    """PPO as the trainer sees it."""
    d, a, hidden = observation_dim, action_dim, config.layers
    structure = Structure(
        (d, *hidden, a),
        (d, *hidden, 1),
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
