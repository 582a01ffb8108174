"""Soft Actor-Critic, every published form of it that the config can name.

[1] arXiv 1801.01290: with a V network and a fixed temperature (Algorithm 1).
[2] arXiv 1812.05905: without the V network, with a learned temperature (Algorithm 1). The defaults.

Everything here is written for one learner: a batch of B transitions, C critics, A action dimensions in
[-1, 1], D observation dimensions. `training.cohort` lifts it to M members.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar, Literal

import torch
from pydantic import model_validator
from torch import Tensor
from torch.func import grad_and_value
from torch.utils._pytree import tree_map

from sac_bench.algorithms.config import Activation, Layers, PerMember, ReplayConfig, option
from sac_bench.algorithms.critics import Networks, bellman_target, critic_loss, follow, pooled, q_values
from sac_bench.algorithms.networks import Draw, Network, init_mlp, squashed_gaussian
from sac_bench.algorithms.protocol import Batch, Learner, Numbers, Shapes, State
from sac_bench.training.optimizer import adam, adam_init

SEMANTICS = 2
"""Raised whenever the numbers that SAC computes for a config change, a changed default included; in every run's id."""


class SACConfig(ReplayConfig):
    """Defaults are those of arXiv 1812.05905 (table 1) and its authors' code, softlearning."""

    algorithm: ClassVar[str] = "sac"

    layers: Layers = option((256, 256), "units of each hidden layer, actor and critics", "1812.05905, table 1")
    activation: Activation = option("relu", "nonlinearity of the hidden layers", "1812.05905, table 1")
    critics: int = option(2, "number of Q networks", "1812.05905, section 6", ge=1, le=64)
    value_network: bool = option(False, "a separate V network with its own target", "1812.05905, section 4.2")

    actor_lr: PerMember[float] = option(3e-4, "Adam's rate for the policy", "1812.05905, table 1", gt=0, le=1)
    critic_lr: PerMember[float] = option(3e-4, "Adam's rate for the Q networks", "1812.05905, table 1", gt=0, le=1)
    value_lr: PerMember[float] = option(3e-4, "Adam's rate for the V network", "1801.01290, table 1", gt=0, le=1)
    temperature_lr: PerMember[float] = option(3e-4, "Adam's rate for log alpha", "1812.05905, table 1", gt=0, le=1)
    gamma: PerMember[float] = option(0.99, "discount", "1812.05905, table 1", ge=0, le=1)
    tau: PerMember[float] = option(0.005, "step of the target average; 1 copies", "1812.05905, table 1", gt=0, le=1)
    target_period: PerMember[int] = option(1, "updates between target steps", "1812.05905, table 1", ge=1, le=10**7)
    reward_scale: PerMember[float] = option(1.0, "factor on every reward", "1812.05905: none", gt=0, le=1e6)
    learn_temperature: PerMember[bool] = option(True, "learn alpha by [2] eq. 18", "1812.05905, section 5")
    temperature: PerMember[float] = option(
        1.0,
        "alpha: where it starts if learned, else its fixed value",
        "softlearning sac.py, log alpha = 0",
        ge=0,
        le=1e6,
    )
    target_entropy_scale: PerMember[float] = option(
        1.0, "target entropy is minus this times dim(A), for actions in [-1, 1]", "1812.05905, table 1", ge=-100, le=100
    )
    entropy_in_backup: PerMember[bool] = option(True, "entropy counts in the value targets", "1812.05905, eq. 3")
    pessimism: PerMember[float] = option(
        1.0, "critics pooled as (1 - p) mean + p min", "1812.05905, section 6: min", ge=0, le=1
    )
    actor_objective: PerMember[Literal["pooled", "first"]] = option(
        "pooled", "the actor climbs the pooled critics or the first one", "1812.05905, section 6"
    )
    stochastic_updates: PerMember[bool] = option(
        True, "losses take sampled actions; false: mean actions, a deterministic policy", "1812.05905, eq. 5 and 9"
    )
    log_std_min: PerMember[float] = option(-20.0, "lower clip of log sigma", "softlearning gaussian_policy.py", ge=-80)
    log_std_max: PerMember[float] = option(2.0, "upper clip of log sigma", "softlearning gaussian_policy.py", le=80)

    @model_validator(mode="after")
    def _consistent(self) -> SACConfig:
        if self.learn_temperature and self.temperature < 1e-6:
            raise ValueError(
                f"temperature = {self.temperature:g} cannot be learned from; set learn_temperature = false or start at "
                "1e-6 or above"
            )
        if self.log_std_min > self.log_std_max:
            raise ValueError(f"log_std_min = {self.log_std_min} is above log_std_max = {self.log_std_max}")
        if not self.stochastic_updates and (self.learn_temperature or self.temperature > 0):
            raise ValueError(
                "stochastic_updates = false leaves no entropy to weigh: set learn_temperature = false, temperature = 0"
            )
        return self


# -- the mathematics ------------------------------------------------------------------------------------------


def policy(nets: Networks, actor: Network, observation: Tensor, noise: Tensor, numbers: Numbers):
    """observation [B, D], noise [B, A] -> action [B, A], log pi [B], mean action [B, A]."""
    mean, log_std = nets.forward(actor, observation).chunk(2, dim=-1)
    log_std = torch.clamp(log_std, numbers["log_std_min"], numbers["log_std_max"])
    action, log_pi = squashed_gaussian(mean, log_std, noise)
    return action, log_pi, torch.tanh(mean)


def v_values(nets: Networks, value: Network, observation: Tensor) -> Tensor:
    """observation [B, D] -> V [B]."""
    return nets.forward(value, observation).squeeze(-1)


def soft_value(q: Tensor, log_pi: Tensor, alpha: Tensor) -> Tensor:
    """V(s) = Q(s, a) - alpha log pi(a|s) for a ~ pi; all [B] ([2] eq. 3)."""
    return q - alpha * log_pi


def value_loss(value: Network, nets: Networks, observation: Tensor, target: Tensor):
    """J_V = 1/2 E (V(s) - (Q - alpha log pi))^2 ([1] eq. 5) -> loss [], V [B]."""
    v = v_values(nets, value, observation)
    return 0.5 * ((v - target) ** 2).mean(), v


def actor_loss(actor: Network, nets: Networks, critic: Network, observation: Tensor, noise: Tensor, alpha: Tensor,
               numbers: Numbers):  # fmt: skip
    """J_pi = E [alpha log pi(a|s) - Q(s, a)], a reparameterised ([1] eq. 12, [2] eq. 9) -> loss [], (log pi, a)."""
    action, log_pi, _ = policy(nets, actor, observation, noise, numbers)
    q = q_values(nets, critic, observation, action)
    climbed = torch.where(numbers["actor_objective"] > 0, q[0], pooled(q, numbers["pessimism"]))
    return (alpha * log_pi - climbed).mean(), (log_pi, action)


def temperature_loss(log_alpha: Tensor, log_pi: Tensor, target_entropy: Tensor, learned: Tensor):
    """J(alpha) = -log alpha E [log pi + target entropy]: [2] eq. 18, log alpha for alpha as softlearning 01cd86e."""
    return -learned * log_alpha * (log_pi + target_entropy).mean(), log_alpha


# -- the learner ----------------------------------------------------------------------------------------------


def init(config: SACConfig, nets: Networks, draw: Draw, numbers: Numbers) -> State:
    """One learner's parameters, targets and optimizer state. Critic i starts the same however many there are."""
    params: dict[str, Any] = {
        "actor": init_mlp(draw, "actor", nets.actor),
        "critic": init_mlp(draw, "critic", nets.critic, nets.critics),
    }
    params["temperature"] = torch.where(numbers["temperature"] > 0, numbers["temperature"], 1.0).log()
    if config.value_network:
        params["value"] = init_mlp(draw, "value", nets.value)
    return {
        "params": params,
        "target": tree_map(torch.clone, params["value" if config.value_network else "critic"]),
        "adam": {name: adam_init(p) for name, p in params.items()},
        "target_in": numbers["target_period"].clone(),  # updates until the target's next step
        "updates": torch.zeros((), dtype=torch.int64),
    }


def acting(state: State) -> dict[str, Any]:
    """What acting reads of a state, and what a run's policy is."""
    return {"actor": state["params"]["actor"]}


def act(nets: Networks, params: dict[str, Any], numbers: Numbers, observation: Tensor, noise: Tensor):
    """observation [N, D], noise [N, A] -> sampled action [N, A], mean action [N, A]."""
    action, _, mean_action = policy(nets, params["actor"], observation, noise, numbers)
    return action, mean_action


def update(nets: Networks, state: State, numbers: Numbers, batch: Batch, noise: dict[str, Tensor]):
    """One update of every network: (V), Q, policy, temperature, targets -> (state, metrics of scalars [])."""
    params, adam_state, metrics = dict(state["params"]), dict(state["adam"]), {}
    observation, next_observation = batch["observation"], batch["next_observation"]
    learned = numbers["learn_temperature"]
    noise = {name: numbers["stochastic_updates"] * drawn for name, drawn in noise.items()}
    alpha = torch.where(learned > 0, params["temperature"].exp(), numbers["temperature"])
    backup_alpha = alpha * numbers["entropy_in_backup"]
    has_value = "value" in params

    def descend(name: str, loss: Callable, *arguments: Any) -> Any:
        gradient, (metrics[f"{name}_loss"], extras) = grad_and_value(loss, has_aux=True)(params[name], *arguments)
        params[name], adam_state[name] = adam(params[name], gradient, adam_state[name], numbers[f"{name}_lr"])
        return extras

    if has_value:
        action, log_pi, _ = policy(nets, params["actor"], observation, noise["policy"], numbers)
        q = pooled(q_values(nets, params["critic"], observation, action), numbers["pessimism"])
        v = descend("value", value_loss, nets, observation, soft_value(q, log_pi, backup_alpha))
        metrics["v"] = v.mean()
        next_value = v_values(nets, state["target"], next_observation)
    else:
        action, log_pi, _ = policy(nets, params["actor"], next_observation, noise["next_policy"], numbers)
        q = pooled(q_values(nets, state["target"], next_observation, action), numbers["pessimism"])
        next_value = soft_value(q, log_pi, backup_alpha)

    target = bellman_target(batch, next_value, numbers)
    q = descend("critic", critic_loss, nets, batch, target)
    log_pi, action = descend("actor", actor_loss, nets, params["critic"], observation, noise["policy"], alpha, numbers)
    descend("temperature", temperature_loss, log_pi, -numbers["target_entropy_scale"] * action.shape[-1], learned)

    online = params["value" if has_value else "critic"]
    new_target, target_in = follow(state["target"], online, state["target_in"], numbers)
    metrics |= {
        "q": q.mean(),
        "q_target": target.mean(),
        "temperature": alpha,
        "entropy": -log_pi.mean(),
        "saturation": (action.abs() > 0.99).to(q.dtype).mean(),
    }
    updates = state["updates"] + 1
    new = {"params": params, "target": new_target, "adam": adam_state, "target_in": target_in, "updates": updates}
    return new, metrics


METRICS = ("critic_loss", "actor_loss", "temperature_loss", "q", "q_target", "temperature", "entropy", "saturation")


def learner(config: SACConfig, observation_dim: int, action_dim: int) -> Learner:
    """SAC as the trainer sees it."""
    d, a, b = observation_dim, action_dim, config.batch_size
    hidden = config.layers
    nets = Networks((d, *hidden, 2 * a), (d + a, *hidden, 1), (d, *hidden, 1), config.critics, config.activation,
                    config.precision)  # fmt: skip
    update_noise: Shapes = {"policy": (b, a)}
    if not config.value_network:
        update_noise["next_policy"] = (b, a)
    metrics: tuple[str, ...] = METRICS + (("value_loss", "v") if config.value_network else ())
    return Learner(
        data="replay",
        init=partial(init, config, nets),
        policy=acting,
        act=partial(act, replace(nets, precision="float32")),
        update=partial(update, nets),
        action_dim=a,
        update_noise=update_noise,
        batch_size=b,
        metrics=metrics,
    )
