"""Soft Q-learning: a soft Q function, and a network that samples from exp(Q).

[1] arXiv 1702.08165 (Algorithm 1; appendix C for its expectations). Defaults, and details that the paper leaves open,
follow the authors' code, github haarnoja/softqlearning 6f51eac. alpha is 1 throughout; reward_scale is its inverse.

Everything here is written for one learner: a batch of B transitions, C critics, A action dimensions in [-1, 1], D
observation dimensions; K particles, actions of one state. `training.cohort` lifts it to M members.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, grad_and_value
from torch.utils._pytree import tree_map

from sac_bench.algorithms.adam import adam_init
from sac_bench.algorithms.critics import (
    Networks,
    bellman_target,
    critic_loss,
    follow,
    q_bound,
    threshold,
)
from sac_bench.algorithms.heads import pooled
from sac_bench.algorithms.networks import ACTIVATIONS, Draw, Network, init_mlp, mlp, product
from sac_bench.algorithms.optimizer import optimizer, step
from sac_bench.algorithms.protocol import Batch, Hyperparameters, Learner, Shapes, State
from sac_bench.options.metric import names
from sac_bench.options.sql import METRICS, SQLConfig

SQUASH_EPSILON = 1e-6  # the authors' EPS, in log(1 - a^2 + EPS)

# -- the mathematics ------------------------------------------------------------------------------------------


def joined(nets: Networks, network: Network, observation: Tensor, other: Tensor) -> Tensor:
    """Evaluate a network of [observation, other] for K others in each state -> [B, K, out].

    observation [B, D], other [B, K, A], or [1, K, A] if they are the same in every state. The first layer's product is
    split, so that states are not repeated.
    """
    first, d = network[0], observation.shape[-1]
    precise = torch.bfloat16 if nets.precision == "bfloat16" else first.weight.dtype

    def by_first(x: Tensor, weight: Tensor) -> Tensor:
        return product(x.to(precise), weight.to(precise)).to(first.bias.dtype)

    of_other = by_first(other.flatten(0, 1), first.weight[d:]).unflatten(0, other.shape[:2])
    hidden = by_first(observation, first.weight[:d])[:, None] + of_other + first.bias
    output = mlp(network[1:], ACTIVATIONS[nets.activation](hidden).flatten(0, 1), nets.activation, nets.precision)
    by_action: Tensor = output.unflatten(0, hidden.shape[:2])
    return by_action


def q_particles(nets: Networks, critic: Network, observation: Tensor, action: Tensor) -> Tensor:
    """Return Q [C, B, K] of observation [B, D], action [B, K, A] or [1, K, A]."""
    return torch.vmap(lambda one: joined(nets, one, observation, action).squeeze(-1))(critic)


def uniform_actions(noise: Tensor) -> Tensor:
    """Map standard normal noise z to uniform actions in [-1, 1], 2 Phi(z) - 1, exact to the type's rounding."""
    return torch.erf(noise / math.sqrt(2))


def soft_value(q: Tensor, action_dim: int) -> Tensor:
    """Return V(s) = log mean_k exp Q(s, a_k) + A log 2 [B] of Q [B, K]; a_k uniform, density 2^-A ([1] eq. 10)."""
    return torch.logsumexp(q, -1) - math.log(q.shape[-1]) + action_dim * math.log(2)


def sample(nets: Networks, actor: Network, observation: Tensor, noise: Tensor) -> Tensor:
    """Return u = f(s, xi) [B, K, A], whose tanh is the action: observation [B, D], noise [B, K, A]."""
    return joined(nets, actor, observation, noise)


def kernel(x: Tensor, y: Tensor, bandwidth_min: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return kappa = exp(-|x - y|^2 / h), h = median |x - y|^2 / log Kx, at least bandwidth_min ([1] appendix D.1).

    x [B, Kx, A], y [B, Ky, A] -> kappa [B, Kx, Ky], its gradient in x [B, Kx, Ky, A], h [B]. The median of an even
    number of distances is the lower of the middle two, as in the authors' code.
    """
    difference = x[:, :, None] - y[:, None]
    distance = (difference**2).sum(-1)
    h = torch.maximum(distance.flatten(1).median(-1).values / math.log(x.shape[1]), bandwidth_min)
    kappa = torch.exp(-distance / h[:, None, None])
    return kappa, -2 * difference / h[:, None, None, None] * kappa[..., None], h


def svgd_direction(x: Tensor, score: Tensor, y: Tensor, bandwidth_min: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean_x [kappa(x, y) grad log p(x) + grad_x kappa(x, y)] ([1] eq. 13), the Stein variational gradient at y.

    x and score = grad log p(x) [B, Kx, A], y [B, Ky, A] -> direction [B, Ky, A], h [B].
    """
    kappa, gradient, h = kernel(x, y, bandwidth_min)
    return (kappa[..., None] * score[:, :, None] + gradient).mean(1), h


def score(dq: Tensor, action: Tensor, presquash: Tensor) -> Tensor:
    """Return grad log p [..., A] at particles, of their actions and dQ/da [..., A].

    In the space of actions, log p(a) = Q(s, a) + sum log(1 - a^2 + 1e-6), as in the authors' code. SVGD therefore tends
    to exp(Q) prod(1 - a^2), not exp(Q): the correction for tanh belongs to a density over u = atanh a. In the space of
    u, log p(u) = Q(s, tanh u) + sum log(1 - tanh(u)^2), whose actions have the density exp(Q).
    """
    slope = 1 - action**2
    return torch.where(presquash > 0, slope * dq - 2 * action, dq - 2 * action / (slope + SQUASH_EPSILON))


def sampler_loss(
    actor: Network,
    nets: Networks,
    observation: Tensor,
    noise: Tensor,
    x: Tensor,
    score: Tensor,
    hyper: Hyperparameters,
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return -direction . y [], summed over updated particles y and states, whose gradient is [1] eq. 14.

    The sum over states is as in the authors' code. observation [B, D], noise [B, Ky, A], x and score [B, Kx, A] ->
    loss [], (actions [B, Ky, A], h [B]).
    """
    u = sample(nets, actor, observation, noise)
    action = torch.tanh(u)
    y = torch.where(hyper["particles_in"] > 0, u, action)
    direction, h = svgd_direction(x, score, y.detach(), hyper["bandwidth_min"])
    return -(direction * y).sum(), (action, h)


def sampler_gradient(
    nets: Networks,
    actor: Network,
    q: Callable[[Tensor], Tensor],
    observation: Tensor,
    noise: Tensor,
    fixed: int,
    hyper: Hyperparameters,
) -> Any:
    """Return the sampler's gradient for any q(action [B, K, A]) -> Q [B, K]; the first `fixed` particles are fixed.

    observation [B, D], noise [B, K, A] -> gradient like actor, (loss [], (actions [B, Ky, A], h [B])).
    """
    u = sample(nets, actor, observation, noise[:, :fixed])
    action = torch.tanh(u)
    dq = grad(lambda a: q(a).sum())(action)
    x = torch.where(hyper["particles_in"] > 0, u, action)
    toward = score(dq, action, hyper["particles_in"])
    gradient = grad_and_value(sampler_loss, has_aux=True)
    return gradient(actor, nets, observation, noise[:, fixed:], x, toward, hyper)


# -- the learner ----------------------------------------------------------------------------------------------


def init(nets: Networks, draw: Draw, hyper: Hyperparameters) -> State:
    """Return one learner's initial state. Critic i does not depend on the number of critics."""
    params = {
        "actor": init_mlp(draw, "actor", nets.actor, initialisation=nets.initialisation),
        "critic": init_mlp(draw, "critic", nets.critic, nets.critics, initialisation=nets.initialisation),
    }
    return {
        "params": params,
        "target": tree_map(torch.clone, params["critic"]),
        "adam": {name: adam_init(p) for name, p in params.items()},
        "target_in": hyper["target_period"].clone(),  # updates until the target's next step
        "updates": torch.zeros((), dtype=torch.int64),
    }


def acting(state: State) -> dict[str, Any]:
    """Return the part of a state that acting needs: a run's policy."""
    return {"actor": state["params"]["actor"]}


def start(state: State, weights: State, hyper: Hyperparameters) -> State:
    """Return a new state with another learner's weights."""
    return state | weights | {"target": tree_map(torch.clone, weights["params"]["critic"])}


def act(
    nets: Networks, params: dict[str, Any], hyper: Hyperparameters, observation: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Return sampled actions and actions at xi = 0, [N, A] each, of observation [N, D], noise [N, A].

    The sampler has no mean. Its action at xi = 0 replaces it, which need not be a likely one. The authors evaluate with
    sampled actions.
    """
    both = torch.stack([noise, torch.zeros_like(noise)], 1)
    sampled, at_zero = torch.tanh(sample(nets, params["actor"], observation, both)).unbind(1)
    return sampled, at_zero


def update(
    nets: Networks, fixed: int, state: State, hyper: Hyperparameters, batch: Batch, noise: dict[str, Tensor]
) -> tuple[State, dict[str, Tensor]]:
    """Update Q, sampler and target ([1] Algorithm 1); return state and metrics []."""
    params, adam_state = dict(state["params"]), dict(state["adam"])
    observation = batch["observation"]

    def descend(name: str, gradient: Any) -> None:
        params[name], adam_state[name] = step(
            nets.optimizer, name, params[name], gradient, adam_state[name], state["updates"], hyper
        )

    uniform = uniform_actions(noise["value"])[None]  # the same for every state, as in the authors' code
    next_q = pooled(q_particles(nets, state["target"], batch["next_observation"], uniform), hyper["pessimism"])
    next_value = soft_value(next_q, uniform.shape[-1])
    target = bellman_target(batch, next_value, hyper)
    gradient, (q_loss, q) = grad_and_value(critic_loss, has_aux=True)(
        params["critic"], nets, batch, target, delta=threshold(nets, hyper)
    )
    descend("critic", gradient)

    def q_of(action: Tensor) -> Tensor:
        return pooled(q_particles(nets, params["critic"], observation, action), hyper["pessimism"])

    gradient, (actor_loss, (action, h)) = sampler_gradient(
        nets, params["actor"], q_of, observation, noise["particles"], fixed, hyper
    )
    descend("actor", gradient)

    metrics = {
        "critic_loss": q_loss,
        "actor_loss": actor_loss / action[..., 0].numel(),  # per particle
        "q": q.mean(),
        "q_target": target.mean(),
        "soft_value": next_value.mean(),
        "bandwidth": h.mean(),
        "saturation": (action.abs() > 0.99).to(q.dtype).mean(),
    }
    new_target, target_in = follow(state["target"], params["critic"], state["target_in"], hyper)
    updates = state["updates"] + 1
    new = {"params": params, "target": new_target, "adam": adam_state, "target_in": target_in, "updates": updates}
    return new, metrics


def bound(action_dim: int, hyper: Hyperparameters, metrics: dict[str, Tensor], reward: Tensor) -> Tensor:
    """Return the largest |Q| [] that rewards up to `reward` [] allow: V exceeds Q by A log 2 at most (`soft_value`)."""
    return q_bound(hyper, reward, action_dim * math.log(2))


def learner(config: SQLConfig, observation_dim: int, action_dim: int) -> Learner:
    """Return SQL's learner for these dimensions."""
    d, a, b = observation_dim, action_dim, config.batch_size
    nets = Networks(
        (d + a, *config.actor_sizes, a),
        (d + a, *config.critic_sizes, 1),
        (),
        config.critics,
        config.activation,
        config.precision,
        initialisation=config.initialisation,
        huber=config.huber_delta > 0,
        optimizer=optimizer(config),
    )
    noise: Shapes = {"value": (config.value_particles, a), "particles": (b, config.kernel_particles, a)}
    return Learner(
        data="replay",
        init=partial(init, nets),
        policy=acting,
        act=partial(act, replace(nets, precision="float32")),
        update=partial(update, nets, config.fixed_particles),
        action_dim=a,
        update_noise=noise,
        batch_size=b,
        metrics=names(METRICS),
        q_bound=partial(bound, a),
        start=start,
    )
