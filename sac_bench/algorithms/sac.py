"""Soft Actor-Critic in its published forms, which the config selects.

[1] arXiv 1801.01290: with a V network and a fixed temperature (Algorithm 1).
[2] arXiv 1812.05905: without the V network, with a learned temperature (Algorithm 1). The defaults.

`policies` has its policies. Everything here is written for one learner: a batch of B transitions, C critics, A action
dimensions in [-1, 1], D observation dimensions. `training.cohort` lifts it to M members.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from torch.func import grad, grad_and_value
from torch.utils._pytree import tree_map

from sac_bench.algorithms import gradients
from sac_bench.algorithms.adam import adam_init
from sac_bench.algorithms.config import (
    MIN_LEARNED_TEMPERATURE,
    Activation,
    Layers,
    PerMember,
    QLearningConfig,
    Temperature,
    option,
)
from sac_bench.algorithms.critics import (
    ACTOR_LOSS,
    CRITIC_LOSS,
    Q_TARGET,
    SATURATION,
    Networks,
    Q,
    bellman_target,
    critic_loss,
    dropout,
    expected_pool,
    follow,
    penalty,
    pooled,
    q_bound,
    q_values,
    threshold,
)
from sac_bench.algorithms.metric import ENTROPY, VALUE_LOSS, Metric, names
from sac_bench.algorithms.networks import Draw, Network, init_mlp
from sac_bench.algorithms.optimizer import optimizer, step
from sac_bench.algorithms.policies import (
    Actor,
    for_samples,
    init_policy,
    leave_one_out,
    mean_with_score,
    outputs,
    policy,
)
from sac_bench.algorithms.protocol import Batch, Diagnosis, Hyperparameters, Learner, Shapes, State, Value
from sac_bench.algorithms.running_stats import empty_statistics, merged, standardized

VERSION = 3
"""Part of every run's id: raise it whenever the results of a config change, for example with a default."""


Moved = Literal["actor", "temperature"]
"""What an update may move besides the critics."""

LOWER_BOUNDS = {"clipped": -20.0, "tanh": -5.0}
"""Default lower bounds of log sigma, those of the sources of each form."""


class SACConfig(QLearningConfig):
    """Defaults are those of arXiv 1812.05905 (table 1) and its authors' code, softlearning."""

    algorithm: ClassVar[str] = "sac"

    layers: Layers = option((256, 256), "units of each hidden layer, actor and critics", "1812.05905, table 1")
    activation: Activation = option("relu", "nonlinearity of the hidden layers", "1812.05905, table 1")
    critics: int = option(2, "number of Q networks", "1812.05905, section 6", ge=1, le=64)
    value_network: bool = option(False, "train a V network with its own target", "1812.05905, section 4.2")
    target_critics: int = option(
        0,
        "critics drawn for the Q targets of each update; 0: all",
        "1812.05905 (2101.05982: 2 of 10)",
        ge=0,
        le=64,
    )
    target_policy: bool = option(
        False, "use a target policy, averaged like the critics' targets, in the Q targets", "1812.05905: none"
    )
    actor_delay: int = option(1, "critic updates per update of the policy", "1812.05905, Algorithm 1", ge=1, le=1000)
    temperature_delay: int | None = option(
        None,
        "critic updates per update of the temperature; unset: actor_delay",
        "1812.05905, Algorithm 1",
        ge=1,
        le=1000,
    )
    gradient_estimator: Literal["reparameterised", "score-function"] = option(
        "reparameterised",
        "estimator of the policy's gradient: through the actions, or by the score function",
        "1812.05905, eq. 9",
    )
    score_samples: int = option(
        2,
        "actions per state for the score function without a V network; the others are each one's baseline",
        "1801.01290: 1, compared with V(s)",
        ge=2,
        le=64,
    )
    mixture: int = option(1, "Gaussians in the policy's mixture", "1812.05905, appendix C", ge=1, le=64)
    state_dependent_std: bool = option(
        True, "log sigma is an output of the network; false: a parameter, initially 0", "1812.05905, appendix C"
    )
    log_std_form: Literal["clipped", "tanh"] = option(
        "clipped", "clip log sigma to its bounds, or map it to them by a tanh", "softlearning gaussian_policy.py"
    )
    layer_norm: Literal["none", "critics", "all"] = option(
        "none",
        "networks with layer normalisation in the hidden layers, with gain and shift",
        "1812.05905 (2110.02034: critics)",
    )
    dropout: bool = option(
        False,
        "dropout in the critics and their targets, drawn separately for each pass",
        "1812.05905 (2110.02034: true)",
    )
    normalize_observations: bool = option(
        False,
        "standardise observations by the mean and standard deviation of all so far, then clip to 10",
        "1812.05905: none",
    )

    actor_lr: PerMember[float] = option(3e-4, "learning rate for the policy", "1812.05905, table 1", gt=0, le=1)
    critic_lr: PerMember[float] = option(3e-4, "learning rate for the Q networks", "1812.05905, table 1", gt=0, le=1)
    value_lr: PerMember[float] = option(3e-4, "learning rate for the V network", "1801.01290, table 1", gt=0, le=1)
    temperature_lr: PerMember[float] = option(3e-4, "learning rate for log alpha", "1812.05905, table 1", gt=0, le=1)
    gamma: PerMember[float] = option(0.99, "discount", "1812.05905, table 1", ge=0, le=1)
    tau: PerMember[float] = option(0.005, "step of the target average; 1 copies", "1812.05905, table 1", gt=0, le=1)
    target_period: PerMember[int] = option(1, "updates between target steps", "1812.05905, table 1", ge=1, le=10**7)
    dropout_rate: PerMember[float] = option(
        0.01, "share of hidden units dropped, if `dropout` is true", "2110.02034, section 4", ge=0, lt=1
    )
    reward_scale: PerMember[float] = option(1.0, "factor on every reward", "1812.05905: none", gt=0, le=1e6)
    learn_temperature: PerMember[bool] = option(True, "learn alpha ([2] eq. 18)", "1812.05905, section 5")
    temperature: PerMember[float] = option(
        1.0,
        "alpha: initial value if learned, else fixed value",
        "softlearning sac.py, log alpha = 0",
        ge=0,
        le=1e6,
    )
    scale_temperature: PerMember[bool] = option(
        False, "multiply the initial or fixed alpha by reward_scale", "1812.05905: none"
    )
    temperature_objective: PerMember[Literal["log-alpha", "alpha"]] = option(
        "log-alpha",
        "temperature loss: [2] eq. 18 with log alpha instead of alpha, or as printed",
        "softlearning sac.py",
    )
    target_entropy_scale: PerMember[float] = option(
        1.0, "the target entropy is -dim(A) times this, for actions in [-1, 1]", "1812.05905, table 1", ge=-100, le=100
    )
    target_entropy: PerMember[float | None] = option(
        None,
        "target entropy in nats, for actions in [-1, 1]; unset: see target_entropy_scale",
        "1812.05905, table 1 (2101.05982, mbpo_target_entropy_dict.py: -1 to -4)",
        ge=-1e6,
        le=1e6,
    )
    entropy_in_backup: PerMember[bool] = option(True, "include the entropy in the value targets", "1812.05905, eq. 3")
    pessimism: PerMember[float] = option(
        1.0, "critics pooled as (1 - p) mean + p min", "1812.05905, section 6: min", ge=0, le=1
    )
    actor_objective: PerMember[Literal["pooled", "first", "mean"]] = option(
        "pooled", "critics that the policy maximises: pooled, the first, or their mean", "1812.05905, section 6"
    )
    stochastic_updates: PerMember[bool] = option(
        True, "use sampled actions in losses; false: mean actions, a deterministic policy", "1812.05905, eq. 5 and 9"
    )
    log_std_min: PerMember[float | None] = option(
        None,
        "lower bound of log sigma; unset: -20 if clipped, -5 if mapped by a tanh",
        "softlearning gaussian_policy.py; tanh: denisyarats/pytorch_sac, CleanRL",
        ge=-80,
    )
    log_std_max: PerMember[float] = option(2.0, "upper bound of log sigma", "softlearning gaussian_policy.py", le=80)

    @property
    def option_versions(self) -> dict[str, int]:
        """The options with version 2.

        Version 1 of the score-function estimate had the mean cost of the batch's other states as baseline.
        """
        own = {
            "gradient_estimator": self.gradient_estimator == "score-function",
            "mixture": self.mixture > 1,
            "normalize_observations": self.normalize_observations,  # version 1 counted the batches of all updates
            "log_std_min": self.log_std_form == "tanh" and self.log_std_min is None,  # version 1: -20
        }
        return super().option_versions | {option: 2 for option, used in own.items() if used}

    @property
    def initial_temperature(self) -> Temperature:
        """The temperature at the start, multiplied by `reward_scale` if `scale_temperature`."""
        scale = self.reward_scale if self.scale_temperature else 1.0
        return Temperature(self.temperature * scale, self.learn_temperature)

    @property
    def lower_bound(self) -> float:
        """The lower bound of log sigma."""
        return LOWER_BOUNDS[self.log_std_form] if self.log_std_min is None else self.log_std_min

    def resolved(self) -> dict[str, Any]:
        """Return numbers such that the target entropy is target_entropy - target_entropy_scale dim(A)."""
        nats = {} if self.target_entropy is None else {"target_entropy_scale": 0.0}
        entropy = {"target_entropy": self.target_entropy or 0.0} | nats
        own = {"temperature": self.initial_temperature.value, "log_std_min": self.lower_bound}
        return super().resolved() | entropy | own

    @property
    def delays(self) -> dict[Moved, int]:
        """{what is moved: the number of critic updates per such update}."""
        return {"actor": self.actor_delay, "temperature": self.temperature_delay or self.actor_delay}

    @property
    def networks(self) -> int:
        """The critics, the policy, and V or the policy's target."""
        return 2 + self.critics

    @property
    def actions_per_state(self) -> int:
        """Actions that the policy's loss samples in each state."""
        by_score = self.gradient_estimator == "score-function" or self.mixture > 1
        return self.score_samples if by_score and not self.value_network else 1

    @property
    def rows(self) -> int:
        """Pairs of a batch's states and the actions that the policy's loss samples in them."""
        return self.batch_size * self.actions_per_state

    @property
    def scratch_bytes(self) -> int:
        """Memory of the dropout masks and their random words, in bytes; 0 without dropout."""
        units = (2 + self.actions_per_state) * self.batch_size * sum(self.critic_sizes) if self.dropout else 0
        return self.critics * units * (16 + 2 * self.dtype.itemsize)

    @model_validator(mode="before")
    @classmethod
    def _without_default_bound(cls, values: Any) -> Any:
        """Treat -20 of the clipped form as unset: it was the default, which no run's id contains."""
        if not isinstance(values, dict) or values.get("log_std_form", "clipped") != "clipped":
            return values
        return {k: v for k, v in values.items() if (k, v) != ("log_std_min", LOWER_BOUNDS["clipped"])}

    @model_validator(mode="after")
    def _consistent(self) -> SACConfig:
        alpha = self.initial_temperature.value
        if self.learn_temperature and alpha < MIN_LEARNED_TEMPERATURE:
            raise ValueError(
                f"temperature = {alpha:g} is too low an initial value; set learn_temperature = false, or "
                f"temperature to at least {MIN_LEARNED_TEMPERATURE:g}"
            )
        if self.target_entropy is not None and self.target_entropy_scale != 1.0:
            raise ValueError("target_entropy and target_entropy_scale exclude each other; remove one")
        if self.lower_bound > self.log_std_max:
            raise ValueError(f"log_std_min = {self.lower_bound} is above log_std_max = {self.log_std_max}")
        if not self.stochastic_updates and (self.learn_temperature or self.temperature > 0):
            raise ValueError(
                "stochastic_updates = false leaves no entropy: set learn_temperature = false and temperature = 0"
            )
        if not self.stochastic_updates and (self.gradient_estimator == "score-function" or self.mixture > 1):
            raise ValueError("gradient_estimator = score-function and mixture > 1 require stochastic_updates = true")
        if self.mixture > 1 and not self.state_dependent_std:
            raise ValueError(f"mixture = {self.mixture} requires state_dependent_std = true")
        if self.target_critics > self.critics:
            raise ValueError(f"target_critics = {self.target_critics} is above critics = {self.critics}")
        if self.value_network and (self.target_critics or self.target_policy):
            raise ValueError(
                "target_critics and target_policy require value_network = false, since they apply to targets from Q"
            )
        return self


# -- the mathematics ------------------------------------------------------------------------------------------


def v_values(nets: Networks, value: Network, observation: Tensor) -> Tensor:
    """Return V [B] of observation [B, D]."""
    return nets.forward(value, observation).squeeze(-1)


def soft_value(q: Tensor, log_pi: Tensor, alpha: Tensor) -> Tensor:
    """Return V(s) = Q(s, a) - alpha log pi(a|s) for a ~ pi; all [B] ([2] eq. 3)."""
    return q - alpha * log_pi


def value_loss(
    value: Network, nets: Networks, observation: Tensor, target: Tensor, delta: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return J_V = 1/2 E (V(s) - (Q - alpha log pi))^2 [] ([1] eq. 5), and V [B]; with `delta` [], Huber's loss."""
    v = v_values(nets, value, observation)
    return 0.5 * penalty(v - target, delta).mean(), v


def actor_loss(
    actor: Actor,
    nets: Networks,
    critic: Network,
    observation: Tensor,
    noise: Tensor,
    alpha: Tensor,
    hyper: Hyperparameters,
    masks: Sequence[Tensor] = (),
    value: Tensor | None = None,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return J_pi = E [alpha log pi(a|s) - Q(s, a)] [] ([1] eq. 10 and 12, [2] eq. 7 and 9), and (log pi, a).

    noise [k B, ...] samples k actions in each of B states. `value` [B] is V(s), or None if there is no V network: minus
    V(s) is the baseline of the score function, as in haarnoja/sac, or else the mean over the state's other actions.
    """
    repeated = for_samples(observation, noise)
    sample = policy(nets, actor, repeated, noise, hyper)
    q = q_values(nets, critic, repeated, sample.action, masks)
    climbed = torch.where(hyper["actor_objective"] > 0, q[0], pooled(q, hyper["pessimism"]))
    climbed = torch.where(hyper["actor_objective"] > 1, q.mean(0), climbed)
    cost = alpha * sample.log_pi - climbed
    if sample.score is None:
        return cost.mean(), (sample.log_pi, sample.action)
    baseline = leave_one_out(cost, len(observation)) if value is None else -value
    return mean_with_score(cost, sample.score, baseline), (sample.log_pi, sample.action)


def baseline_value(nets: Networks, params: dict[str, Any], observation: Tensor) -> Tensor | None:
    """Return V [B] for the score function's baseline; None without a V network, or if the policy has no score."""
    return v_values(nets, params["value"], observation) if nets.by_score and "value" in params else None


def temperature_loss(
    log_alpha: Tensor, log_pi: Tensor, target_entropy: Tensor, hyper: Hyperparameters
) -> tuple[Tensor, Tensor]:
    """Return J(alpha) = -alpha E [log pi + target entropy] [] ([2] eq. 18); with log alpha: softlearning 01cd86e."""
    weight = torch.where(hyper["temperature_objective"] > 0, log_alpha.exp(), log_alpha)
    return -hyper["learn_temperature"] * weight * (log_pi + target_entropy).mean(), log_alpha


# -- the learner ----------------------------------------------------------------------------------------------

TEMPERATURE = Metric("temperature", "temperature", "log", topic="policy")
TEMPERATURE_LOSS = Metric("temperature_loss", "temperature loss", drawn=False, topic="loss")
V = Metric("v", "V of replayed states\n(units of return)", "symlog", 1, topic="V")
METRICS = (CRITIC_LOSS, ACTOR_LOSS, TEMPERATURE_LOSS, Q, Q_TARGET, TEMPERATURE, ENTROPY, SATURATION)
"""Metrics of every update, in the order of training.csv."""
VALUE_METRICS = (VALUE_LOSS, V)
"""Metrics of a V network."""
MOVES: tuple[tuple[Moved, ...], ...] = ((), ("actor",), ("temperature",), ("actor", "temperature"))
"""What different updates move besides the critics."""
POLICY_METRICS = names((ACTOR_LOSS, TEMPERATURE_LOSS, ENTROPY, SATURATION))
"""Metrics that only updates of the policy or the temperature compute."""


def init(config: SACConfig, nets: Networks, action_dim: int, draw: Draw, hyper: Hyperparameters) -> State:
    """Return one learner's initial state. Critic i does not depend on the number of critics."""
    of_critics, of_policy = config.layer_norm != "none", config.layer_norm == "all"
    params: dict[str, Any] = {
        "actor": init_policy(draw, nets, action_dim, of_policy, config.state_dependent_std),
        "critic": init_mlp(draw, "critic", nets.critic, nets.critics, of_critics, nets.initialisation),
    }
    params["temperature"] = torch.where(hyper["temperature"] > 0, hyper["temperature"], 1.0).log()
    if config.value_network:
        params["value"] = init_mlp(draw, "value", nets.value, None, of_critics, nets.initialisation)
    state = {
        "params": params,
        "target": tree_map(torch.clone, params["value" if config.value_network else "critic"]),
        "adam": {name: adam_init(p) for name, p in params.items()},
        "target_in": hyper["target_period"].clone(),  # updates until the target's next step
        "updates": torch.zeros((), dtype=torch.int64),
    }
    if max(config.delays.values()) > 1:
        state["of_policy"] = {name: torch.zeros_like(params["temperature"]) for name in POLICY_METRICS}
    if config.target_policy:
        state["target_policy"] = tree_map(torch.clone, params["actor"])
    if config.normalize_observations:
        state["normalizer"] = empty_statistics(params["temperature"], nets.actor[0])
    return state


def acting(state: State) -> dict[str, Any]:
    """Return the part of a state that acting needs: a run's policy."""
    normalizer = {"normalizer": state["normalizer"]} if "normalizer" in state else {}
    return {"actor": state["params"]["actor"]} | normalizer


def weights(state: State) -> State:
    """Return what a run passes on: parameters and the statistics of observations."""
    return {name: state[name] for name in ("params", "normalizer") if name in state}


def with_temperature(weights: State, alpha: Tensor) -> State:
    """Return the weights with another alpha [], for a learner that learns it."""
    return weights | {"params": weights["params"] | {"temperature": alpha.log()}}


def start(state: State, weights: State, hyper: Hyperparameters) -> State:
    """Return a new state with another learner's weights, including its alpha unless that is fixed."""
    own, params = state["params"]["temperature"], weights["params"]
    learned = hyper["learn_temperature"] > 0
    params = params | {"temperature": torch.where(learned, params["temperature"], own)}
    targets = {name: tree_map(torch.clone, part) for name, part in followed(params).items() if name in state}
    return state | weights | targets | {"params": params}


def followed(params: State) -> State:
    """Return the networks that each target follows."""
    return {"target": params["value" if "value" in params else "critic"], "target_policy": params["actor"]}


def act(
    nets: Networks, acting: dict[str, Any], hyper: Hyperparameters, observation: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return sampled and mean actions [N, A] of observation [N, D], noise [N, A] (of a mixture [N, A + 1])."""
    if "normalizer" in acting:
        observation = standardized(observation, acting["normalizer"])
    sample = policy(nets, acting["actor"], observation, noise, hyper)
    return sample.action, sample.mean


def drawn_critics(nets: Networks, target: Network, noise: dict[str, Tensor]) -> Network:
    """Return the target critics of an update: all, or a random subset (REDQ: arXiv 2101.05982, Algorithm 1)."""
    if not nets.target_critics:
        return target
    subset = noise["target_critics"].argsort()[: nets.target_critics]
    return tree_map(lambda leaf: leaf[subset], target)


def temperature(params: dict[str, Any], hyper: Hyperparameters) -> Tensor:
    """Return alpha []."""
    return torch.where(hyper["learn_temperature"] > 0, params["temperature"].exp(), hyper["temperature"])


def update(
    nets: Networks,
    moves: Collection[Moved],
    state: State,
    hyper: Hyperparameters,
    batch: Batch,
    noise: dict[str, Tensor],
) -> tuple[State, dict[str, Tensor]]:
    """Update (V), Q, then the policy and the temperature as `moves` says, then targets; return state and metrics [].

    Metrics of the policy that this update does not compute are those of the last that did, 0 before the first.
    """
    params, adam_state, metrics = dict(state["params"]), dict(state["adam"]), {}
    new = state | {"updates": state["updates"] + 1}
    if "normalizer" in state:
        seen = {name: standardized(batch[name], state["normalizer"]) for name in ("observation", "next_observation")}
        batch = batch | seen
    observation, next_observation = batch["observation"], batch["next_observation"]
    spread = {name: hyper["stochastic_updates"] * noise[name] for name in ("policy", "next_policy") if name in noise}
    alpha = temperature(params, hyper)
    backup_alpha = alpha * hyper["entropy_in_backup"]
    has_value = "value" in params

    def masks(name: str) -> list[Tensor]:
        return dropout(noise, name, hyper["dropout_rate"])

    def descend(name: str, loss: Callable[..., Any], *arguments: Any) -> Any:
        gradient, (metrics[f"{name}_loss"], extras) = grad_and_value(loss, has_aux=True)(params[name], *arguments)
        params[name], adam_state[name] = step(
            nets.optimizer, name, params[name], gradient, adam_state[name], state["updates"], hyper
        )
        return extras

    if has_value:
        sample = policy(nets, params["actor"], observation, spread["policy"], hyper)
        q = q_values(nets, params["critic"], observation, sample.action, masks("target"))
        v_target = soft_value(pooled(q, hyper["pessimism"]), sample.log_pi, backup_alpha)
        metrics["v"] = descend("value", value_loss, nets, observation, v_target, threshold(nets, hyper)).mean()
        next_value = v_values(nets, state["target"], next_observation)
    else:
        actor = state.get("target_policy", params["actor"])
        sample = policy(nets, actor, next_observation, spread["next_policy"], hyper)
        critics = drawn_critics(nets, state["target"], noise)
        q = q_values(nets, critics, next_observation, sample.action, masks("target"))
        next_value = soft_value(pooled(q, hyper["pessimism"]), sample.log_pi, backup_alpha)

    target = bellman_target(batch, next_value, hyper)
    q = descend("critic", critic_loss, nets, batch, target, masks("critic"), threshold(nets, hyper))
    if "actor" in moves:
        v = baseline_value(nets, state["params"], observation)  # before its step, which had the same actions
        log_pi, action = descend(
            "actor", actor_loss, nets, params["critic"], observation, spread["policy"], alpha, hyper, masks("actor"), v
        )
    elif moves:
        repeated = for_samples(observation, spread["policy"])
        sample = policy(nets, params["actor"], repeated, spread["policy"], hyper)
        log_pi, action = sample.log_pi, sample.action
    if "temperature" in moves:
        target_entropy = -hyper["target_entropy_scale"] * action.shape[-1] + hyper["target_entropy"]
        descend("temperature", temperature_loss, log_pi, target_entropy, hyper)
    if moves:
        metrics |= {"entropy": -log_pi.mean(), "saturation": (action.abs() > 0.99).to(q.dtype).mean()}
    if "of_policy" in state:
        metrics = state["of_policy"] | metrics
        new["of_policy"] = {name: metrics[name] for name in POLICY_METRICS}

    online = {name: part for name, part in followed(params).items() if name in state}
    targets, target_in = follow({name: state[name] for name in online}, online, state["target_in"], hyper)
    metrics |= {"q": q.mean(), "q_target": target.mean(), "temperature": alpha}
    return new | targets | {"params": params, "adam": adam_state, "target_in": target_in}, metrics


def value(
    nets: Networks, state: State, hyper: Hyperparameters, observation: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return Q [N], pooled as in targets, and -alpha log pi [N] of sampled actions; noise as in `act`.

    The latter is 0 if the targets leave out the entropy. Both are NaN if losses use mean actions.
    """
    if "normalizer" in state:
        observation = standardized(observation, state["normalizer"])
    params = state["params"]
    sample = policy(nets, params["actor"], observation, noise, hyper)
    q = q_values(nets, params["critic"], observation, sample.action)
    sampled = torch.where(hyper["stochastic_updates"] > 0, 1.0, torch.nan)
    bonus = -temperature(params, hyper) * hyper["entropy_in_backup"] * sample.log_pi
    return sampled * expected_pool(q, nets.target_critics or nets.critics, hyper["pessimism"]), sampled * bonus


def bound(action_dim: int, hyper: Hyperparameters, metrics: dict[str, Tensor], reward: Tensor) -> Tensor:
    """Return the largest |Q| [] that rewards up to `reward` [] and the recorded temperature allow.

    An entropy is at most A log 2, that of uniform actions. It has no lower bound: where its recorded mean is further
    from 0, that counts.
    """
    entropy = metrics["entropy"].abs().clamp(min=action_dim * math.log(2))
    return q_bound(hyper, reward, metrics["temperature"] * hyper["entropy_in_backup"] * entropy)


def diagnose(
    nets: Networks, state: State, hyper: Hyperparameters, batch: Batch, noise: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Return the variance of the policy's gradient on a batch over sampled actions, by both estimators of `policies`.

    noise["gradient"] is [K, B, A] ([2] section 4.2), and noise["others"], if there is no V network, that of the other
    actions per state which the score function's baseline requires. NaN if losses use mean actions. Dropout is off.
    """
    observation = batch["observation"]
    if "normalizer" in state:
        observation = standardized(observation, state["normalizer"])
    params, alpha, results = state["params"], temperature(state["params"], hyper), {}
    sampled = torch.where(hyper["stochastic_updates"] > 0, 1.0, torch.nan)
    for metric, by_score in ((gradients.VARIANCE_LIKELIHOOD_RATIO, True), (gradients.VARIANCE_REPARAMETERISED, False)):
        own = replace(nets, score_function=by_score)
        sampled_by = torch.cat(list(noise.values()), dim=1) if own.by_score else noise["gradient"]
        v = baseline_value(own, params, observation)
        loss = partial(grad(actor_loss, has_aux=True), params["actor"], own)

        def gradient(z: Tensor, loss: Callable[..., Any] = loss, v: Tensor | None = v) -> Any:
            return loss(params["critic"], observation, z, alpha, hyper, (), v)[0]

        together = max(1, ROWS_AT_ONCE // sampled_by.shape[1])
        variance, squared_norm = gradients.gradient_spread(gradient, sampled_by, together)
        results[metric.name] = sampled * variance
    return results | {gradients.SQUARED_NORM.name: sampled * squared_norm}


MEASURED_GRADIENTS = 32  # gradients whose variance is measured
ROWS_AT_ONCE = 8192  # inputs that are passed through the networks at once for them
MAX_MEASURED_ROWS = 32 * ROWS_AT_ONCE  # inputs in total: larger batches have fewer gradients


def learner(config: SACConfig, observation_dim: int, action_dim: int) -> Learner:
    """Return SAC's learner for these dimensions."""
    d, a, b = observation_dim, action_dim, config.batch_size
    heads = outputs(a, config.mixture, config.state_dependent_std)
    nets = Networks(
        (d, *config.actor_sizes, heads),
        (d + a, *config.critic_sizes, 1),
        (d, *config.critic_sizes, 1),
        config.critics,
        config.activation,
        config.precision,
        config.mixture,
        config.gradient_estimator == "score-function",
        config.log_std_form == "tanh",
        config.target_critics,
        initialisation=config.initialisation,
        huber=config.huber_delta > 0,
        optimizer=optimizer(config),
    )
    extra_noise = int(config.mixture > 1)
    programs = {moves: partial(update, nets, moves) for moves in MOVES}
    draws = min(MEASURED_GRADIENTS, max(2, MAX_MEASURED_ROWS // b))
    diagnosis_noise: Shapes = {"gradient": (draws, b, a + extra_noise)}
    if not config.value_network:
        diagnosis_noise["others"] = (draws, (config.score_samples - 1) * b, a + extra_noise)
    update_noise: Shapes = {"policy": (config.rows, a + extra_noise)}
    if not config.value_network:
        update_noise["next_policy"] = (b, a + extra_noise)
    update_uniforms: Shapes = {"target_critics": (config.critics,)} if config.target_critics else {}
    if config.dropout:
        passes = {
            "target": (config.target_critics or config.critics, b),
            "critic": (config.critics, b),
            "actor": (config.critics, config.rows),
        }
        update_uniforms |= {
            f"dropout/{name}/{i}": (*shape, units)
            for name, shape in passes.items()
            for i, units in enumerate(config.critic_sizes)
        }
    return Learner(
        data="replay",
        init=partial(init, config, nets, a),
        policy=acting,
        act=partial(act, replace(nets, precision="float32")),
        update=programs["actor", "temperature"],
        schedule=lambda number: programs[tuple(what for what, delay in config.delays.items() if number % delay == 0)],
        action_dim=a,
        update_noise=update_noise,
        update_uniforms=update_uniforms,
        extra_noise=extra_noise,
        batch_size=b,
        metrics=names(METRICS + (VALUE_METRICS if config.value_network else ())),
        q_bound=partial(bound, a),
        value=Value(partial(value, replace(nets, precision="float32")), "sample", config.n_step),
        diagnosis=Diagnosis(partial(diagnose, nets), diagnosis_noise, names(gradients.METRICS)),
        observe=merged if config.normalize_observations else None,
        weights=weights,
        start=start,
        with_temperature=with_temperature,
    )
