"""TD3, and DDPG as a configuration of it.

[1] arXiv 1802.09477: TD3 (Algorithm 1); its authors' code is sfujim/TD3. [2] arXiv 1509.02971: DDPG (Algorithm 1).

Everything here is written for one learner: a batch of B transitions, C critics, A action dimensions in [-1, 1], D
observation dimensions. The policy is deterministic; exploration adds noise to its actions.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.utils._pytree import tree_map

from sac_bench.algorithms.adam import adam_init
from sac_bench.algorithms.critics import (
    Networks,
    bellman_target,
    critic_loss,
    polyak,
    q_bound,
    q_values,
    threshold,
)
from sac_bench.algorithms.heads import pooled
from sac_bench.algorithms.networks import Draw, Network, init_mlp
from sac_bench.algorithms.optimizer import optimizer, step
from sac_bench.algorithms.protocol import Batch, Hyperparameters, Learner, State, Value
from sac_bench.options.metric import names
from sac_bench.options.td3 import METRICS, TD3Config

# -- the mathematics ------------------------------------------------------------------------------------------


def policy(nets: Networks, actor: Network, observation: Tensor) -> Tensor:
    """Return mu(s): observation [B, D] -> action [B, A] in [-1, 1]."""
    return torch.tanh(nets.forward(actor, observation))


def smoothed(action: Tensor, noise: Tensor, hyper: Hyperparameters) -> Tensor:
    """Add clipped noise to the target policy's actions [B, A] ([1] eq. 14); noise [B, A] is N(0, 1)."""
    bound = hyper["target_noise_clip"]
    return (action + (hyper["target_noise"] * noise).clamp(-bound, bound)).clamp(-1, 1)


def squared_error(
    critic: Network, nets: Networks, batch: Batch, target: Tensor, delta: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return E (Q_i - target)^2 [], summed over the critics ([1] Algorithm 1), and Q [C, B].

    With `delta` [], twice Huber's loss, so that errors below it count as without.
    """
    half, q = critic_loss(critic, nets, batch, target, delta=delta)
    return 2 * half, q


def actor_loss(actor: Network, nets: Networks, critic: Network, observation: Tensor) -> tuple[Tensor, Tensor]:
    """Return -E Q_1(s, mu(s)) [], whose gradient is [2] eq. 6 with the first critic, and actions [B, A]."""
    action = policy(nets, actor, observation)
    first = tree_map(lambda leaf: leaf[:1], critic)
    return -q_values(nets, first, observation, action).mean(), action


def exploration(noise: Tensor, before: Tensor, started: Tensor, hyper: Hyperparameters) -> Tensor:
    """Return rho * before + sigma * N(0, 1) [N, A]; `before` [N, A] is 0 where `started` [N] is 1.

    With rho = 1 - theta this is the Ornstein-Uhlenbeck process of [2], section 7, in steps of one.
    """
    before = torch.where(started[:, None] > 0, 0.0, before)
    return hyper["noise_correlation"] * before + hyper["exploration_noise"] * noise


# -- the learner ----------------------------------------------------------------------------------------------


def init(config: TD3Config, nets: Networks, draw: Draw, hyper: Hyperparameters) -> State:
    """Return one learner's initial state."""
    params: dict[str, Any] = {
        "actor": init_mlp(draw, "actor", nets.actor, initialisation=nets.initialisation),
        "critic": init_mlp(draw, "critic", nets.critic, nets.critics, initialisation=nets.initialisation),
    }
    weight = params["actor"][0].weight
    return {
        "params": params,
        "target": tree_map(torch.clone, params),
        "adam": {name: adam_init(p) for name, p in params.items()},
        "exploration": weight.new_zeros(config.num_envs, nets.actor[-1]),
        "of_actor": {"actor_loss": weight.new_zeros(()), "saturation": weight.new_zeros(())},
        "updates": torch.zeros((), dtype=torch.int64),
    }


def acting(state: State) -> dict[str, Any]:
    """Return the part of a state that acting needs: a run's policy."""
    return {"actor": state["params"]["actor"]}


def start(state: State, weights: State, hyper: Hyperparameters) -> State:
    """Return a new state with another learner's weights."""
    return state | weights | {"target": tree_map(torch.clone, weights["params"])}


def act(
    nets: Networks, acting: dict[str, Any], hyper: Hyperparameters, observation: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return actions with independent exploration noise, and mu(s), [N, A] each; noise [N, A] is N(0, 1)."""
    mean = policy(nets, acting["actor"], observation)
    spread = hyper["exploration_noise"] / torch.sqrt(1 - hyper["noise_correlation"] ** 2)
    return (mean + spread * noise).clamp(-1, 1), mean


def explore(
    nets: Networks,
    acting: dict[str, Any],
    hyper: Hyperparameters,
    observation: Tensor,
    noise: Tensor,
    before: Tensor,
    started: Tensor,
) -> tuple[Tensor, Tensor]:
    """Return the actions [N, A] in training, and the noise [N, A] to carry to the next step."""
    noise = exploration(noise, before, started, hyper)
    return (policy(nets, acting["actor"], observation) + noise).clamp(-1, 1), noise


def update(
    nets: Networks, moves_policy: bool, state: State, hyper: Hyperparameters, batch: Batch, noise: dict[str, Tensor]
) -> tuple[State, dict[str, Tensor]]:
    """Update the critics and, if `moves_policy`, policy and targets; return state and metrics [].

    Metrics of the policy are those of its last update, 0 before the first.
    """
    params, target, adam_state = dict(state["params"]), state["target"], dict(state["adam"])
    observation, next_observation = batch["observation"], batch["next_observation"]

    def descend(name: str, loss: Callable[..., Any], *arguments: Any) -> Any:
        gradient, (value, extras) = grad_and_value(loss, has_aux=True)(params[name], *arguments)
        params[name], adam_state[name] = step(
            nets.optimizer, name, params[name], gradient, adam_state[name], state["updates"], hyper
        )
        return value, extras

    next_action = smoothed(policy(nets, target["actor"], next_observation), noise["target_policy"], hyper)
    next_q = pooled(q_values(nets, target["critic"], next_observation, next_action), hyper["pessimism"])
    q_target = bellman_target(batch, next_q, hyper)
    loss, q = descend("critic", squared_error, nets, batch, q_target, threshold(nets, hyper))
    of_actor = state["of_actor"]
    if moves_policy:
        of_policy, action = descend("actor", actor_loss, nets, params["critic"], observation)
        of_actor = {"actor_loss": of_policy, "saturation": (action.abs() > 0.99).to(q.dtype).mean()}
        target = polyak(target, params, hyper["tau"])
    new = {
        "params": params,
        "target": target,
        "adam": adam_state,
        "exploration": state["exploration"],
        "of_actor": of_actor,
        "updates": state["updates"] + 1,
    }
    return new, {"critic_loss": loss, "q": q.mean(), "q_target": q_target.mean()} | of_actor


def value(
    nets: Networks, state: State, hyper: Hyperparameters, observation: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return Q(s, mu(s)) [N], pooled as in targets, and a bonus of 0 [N]; observation [N, D].

    Targets smooth the policy, which evaluations do not.
    """
    params = state["params"]
    q = q_values(nets, params["critic"], observation, policy(nets, params["actor"], observation))
    return pooled(q, hyper["pessimism"]), torch.zeros_like(q[0])


def bound(hyper: Hyperparameters, metrics: dict[str, Tensor], reward: Tensor) -> Tensor:
    """Return the largest |Q| [] that rewards up to `reward` [] allow."""
    return q_bound(hyper, reward)


def learner(config: TD3Config, observation_dim: int, action_dim: int) -> Learner:
    """Return the learner of TD3 or DDPG for these dimensions."""
    d, a = observation_dim, action_dim
    nets = Networks(
        (d, *config.actor_sizes, a),
        (d + a, *config.critic_sizes, 1),
        (),
        config.critics,
        config.activation,
        config.precision,
        initialisation=config.initialisation,
        huber=config.huber_delta > 0,
        optimizer=optimizer(config),
    )
    exact = replace(nets, precision="float32")
    full, of_critics = (partial(update, nets, moves_policy) for moves_policy in (True, False))
    return Learner(
        data="replay",
        init=partial(init, config, nets),
        policy=acting,
        act=partial(act, exact),
        explore=partial(explore, exact),
        update=full,
        schedule=lambda number: of_critics if number % config.policy_delay else full,
        action_dim=a,
        update_noise={"target_policy": (config.batch_size, a)},
        batch_size=config.batch_size,
        metrics=names(METRICS),
        q_bound=bound,
        value=Value(partial(value, exact), "mean"),
        start=start,
    )
