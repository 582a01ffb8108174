"""Trust Region Policy Optimization: a natural-gradient step by conjugate gradient, and a line search.

[1] arXiv 1502.05477: maximise the surrogate (eq. 14) subject to a mean KL divergence of at most delta, in the direction
of appendix C. Details that the paper leaves open follow sb3-contrib (TRPO), which
- measures KL(new || old) instead of KL(old || new): both have the same second-order form;
- averages the divergence over action dimensions. Here it is their sum, the divergence of the policies.
What it shares with PPO and A2C is in on_policy.py.

When a rollout is prepared, the policy takes its step, in stages: the gradient, iterations of conjugate gradient, and
the line search. The updates that follow are those of V. Numbers of iterations are fixed, and what ends early is masked,
so that the members of a cohort share their programs.

Everything here is written for one learner: a rollout of B samples. `training.cohort` lifts it to M members.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.func import grad, grad_and_value, vjp, vmap
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms import on_policy
from sac_bench.algorithms.adam import Params, adam, adam_init
from sac_bench.algorithms.networks import Draw, Network, gaussian_log_prob
from sac_bench.algorithms.on_policy import ADAM_EPSILON, Structure, entropy, normalized_advantage, structure_of
from sac_bench.algorithms.protocol import Batch, Hyperparameters, Learner, State
from sac_bench.options.metric import names
from sac_bench.options.trpo import METRICS, TRPOConfig

TOLERANCE = 1e-10
"""Squared norm of the residual below which conjugate gradient stops, as in sb3-contrib."""
OF_THE_STEP = ("improvement", "kl", "accepted", "advantage_std")
"""Metrics of the policy's step."""

Actor = dict[str, Any]
"""The policy's parameters: `mean`, a network, and `log_std` [A]. Directions have the same form."""
Search = dict[str, Any]
"""Conjugate gradient's x, residual and direction p, the squared residual [], and whether it is active []."""

Rollout = dict[str, Any]
"""Observations and returns of a rollout's samples and, during the policy's step, the samples that it uses (`used`) and
its `search`."""


# -- the mathematics ------------------------------------------------------------------------------------------


def advantage_of(samples: Batch, hyper: Hyperparameters) -> Tensor:
    """Return the advantages [B] of the surrogate."""
    return normalized_advantage(samples["advantage"], samples["advantage"].std(), hyper)


def surrogate(structure: Structure, actor: Actor, samples: Batch, advantage: Tensor) -> tuple[Tensor, Tensor]:
    """Return E [pi(a|s) / pi_old(a|s) A] [] ([1] eq. 14) and the means [B, A] of the policy."""
    mean = structure.forward(actor["mean"], samples["observation"])
    log_prob = gaussian_log_prob(mean, actor["log_std"], samples["action"])
    return (torch.exp(log_prob - samples["log_prob"]) * advantage).mean(), mean


def divergence(mean: Tensor, log_std: Tensor, old_mean: Tensor, old_log_std: Tensor) -> Tensor:
    """Return the mean over states of KL(new || old) [], in nats; means [B, A], log_std [A]."""
    difference = log_std - old_log_std
    z = (mean - old_mean) * torch.exp(-old_log_std)
    return (0.5 * (torch.exp(2 * difference) + z**2 - 1) - difference).sum(-1).mean()


def fisher_product(
    structure: Structure, actor: Actor, observation: Tensor, damping: Tensor
) -> Callable[[Actor], Actor]:
    """Return v -> (F + damping I) v, F the Hessian of `divergence` at the old policy ([1] appendix C)."""
    old = structure.forward(actor["mean"], observation)

    def kl(new: Actor) -> Tensor:
        return divergence(structure.forward(new["mean"], observation), new["log_std"], old, actor["log_std"])

    _, pull_back, *_ = vjp(grad(kl), actor)  # F is symmetric: v F is F v

    def product(v: Actor) -> Actor:
        damped: Actor = along(pull_back(v)[0], damping, v)
        return damped

    return product


def dot(a: Params, b: Params) -> Tensor:
    """Return the scalar product []."""
    return torch.stack([(x * y).sum() for x, y in zip(tree_leaves(a), tree_leaves(b), strict=True)]).sum()


def along(x: Params, factor: Tensor, direction: Params) -> Params:
    """Return x + factor direction; factor []."""
    return tree_map(lambda p, d: p + factor * d, x, direction)


def search_for(b: Params) -> Search:
    """Return the start of conjugate gradient for F x = b, at x = 0."""
    squared = dot(b, b)
    return {
        "x": tree_map(torch.zeros_like, b),
        "residual": b,
        "p": b,
        "squared": squared,
        "active": squared >= TOLERANCE,
    }


def iteration(product: Callable[[Params], Params], search: Search) -> Search:
    """Return the search after an iteration; x no longer changes once the squared residual is below TOLERANCE."""
    active, p = search["active"], search["p"]
    image = product(p)
    alpha = torch.where(active, search["squared"] / dot(p, image), 0.0)
    residual = along(search["residual"], -alpha, image)
    squared = dot(residual, residual)
    still = active & (squared >= TOLERANCE)
    beta = torch.where(still, squared / search["squared"], 0.0)
    x, p = along(search["x"], alpha, p), along(residual, beta, p)
    return {"x": x, "residual": residual, "p": p, "squared": squared, "active": still}


def initial_search(structure: Structure, actor: Actor, samples: Batch, hyper: Hyperparameters) -> Search:
    """Return the start of the search for F^-1 g, g the surrogate's gradient on a rollout's samples [B, ...]."""
    advantage = advantage_of(samples, hyper)
    return search_for(grad(lambda new: surrogate(structure, new, samples, advantage)[0])(actor))


def line_search(
    structure: Structure, steps: int, actor: Actor, samples: Batch, hyper: Hyperparameters, direction: Actor
) -> tuple[Actor, dict[str, Tensor]]:
    """Return the policy after a step s in this direction, or a shorter one, and metrics [].

    It takes the first of s, f s, f^2 s, ... that improves the surrogate with a divergence of at most delta; s would
    have the divergence delta if that were quadratic. If none does, the policy stays as it was.
    """
    advantage = advantage_of(samples, hyper)
    product = fisher_product(structure, actor, samples["observation"], hyper["cg_damping"])
    length = torch.sqrt(2 * hyper["max_kl"] / dot(direction, product(direction)))
    old, old_mean = surrogate(structure, actor, samples, advantage)

    def tried(factor: Tensor) -> tuple[Tensor, Tensor]:
        new = along(actor, factor * length, direction)
        reached, mean = surrogate(structure, new, samples, advantage)
        return reached, divergence(mean, new["log_std"], old_mean, actor["log_std"])

    factors = [torch.ones_like(length)]
    for _ in range(steps - 1):
        factors.append(factors[-1] * hyper["line_search_factor"])
    every = torch.stack(factors)
    reached, kl = vmap(tried)(every)
    factor = torch.where((kl <= hyper["max_kl"]) & (reached > old), every, 0.0).amax()
    accepted, taken = factor > 0, every == factor
    new = tree_map(lambda o, n: torch.where(accepted, n, o), actor, along(actor, factor * length, direction))
    return new, {
        "improvement": torch.where(taken, reached - old, 0.0).sum(),
        "kl": torch.where(taken, kl, 0.0).sum(),
        "accepted": accepted.to(kl.dtype),
        "advantage_std": samples["advantage"].std(),
    }


def value_loss(critic: Network, structure: Structure, observation: Tensor, returns: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean of (V - R)^2 [] and of V []; observation [B, D], returns [B]."""
    value = structure.forward(critic, observation).squeeze(-1)
    return ((value - returns) ** 2).mean(), value.mean()


# -- the learner ----------------------------------------------------------------------------------------------


def init(structure: Structure, draw: Draw, hyper: Hyperparameters) -> State:
    """Return one learner's initial state; `step` holds the metrics of the policy's last step."""
    common = on_policy.init(structure, draw)
    none = common["params"]["actor"]["log_std"].new_zeros(())
    return common | {
        "adam": adam_init(common["params"]["critic"]),
        "step": {name: none.clone() for name in OF_THE_STEP},
        "updates": torch.zeros((), dtype=torch.int64),
    }


def prepare(
    structure: Structure, sub_sampling: int, state: State, hyper: Hyperparameters, transitions: Batch
) -> tuple[State, Rollout]:
    """Return state and samples of a rollout's transitions [T * N, ...], with the start of the policy's search."""
    new, samples = on_policy.prepare(structure, state, hyper, transitions)
    used = {name: x.unflatten(0, (-1, structure.num_envs))[::sub_sampling].flatten(0, 1) for name, x in samples.items()}
    search = initial_search(structure, state["params"]["actor"], used, hyper)
    return new, {"observation": samples["observation"], "return": samples["return"], "used": used, "search": search}


def iterate(structure: Structure, state: State, hyper: Hyperparameters, samples: Rollout) -> tuple[State, Rollout]:
    """Make one iteration of the search for the policy's direction."""
    actor, observation = state["params"]["actor"], samples["used"]["observation"]
    product = fisher_product(structure, actor, observation, hyper["cg_damping"])
    return state, samples | {"search": iteration(product, samples["search"])}


def move(
    structure: Structure, steps: int, state: State, hyper: Hyperparameters, samples: Rollout
) -> tuple[State, Rollout]:
    """Take the policy's step in the direction that was found; return state and samples for the updates of V."""
    params = state["params"]
    actor, metrics = line_search(structure, steps, params["actor"], samples["used"], hyper, samples["search"]["x"])
    new = {"params": {"actor": actor, "critic": params["critic"]}, "step": metrics}
    return state | new, {name: samples[name] for name in ("observation", "return")}


def update(
    structure: Structure, state: State, hyper: Hyperparameters, batch: Batch, noise: dict[str, Tensor]
) -> tuple[State, dict[str, Tensor]]:
    """Take one step of Adam on V's loss on a minibatch; return state and metrics []."""
    actor, critic = state["params"]["actor"], state["params"]["critic"]
    of = structure, batch["observation"], batch["return"]
    gradient, (loss, value) = grad_and_value(value_loss, has_aux=True)(critic, *of)
    critic, moments = adam(critic, gradient, state["adam"], hyper["learning_rate"], ADAM_EPSILON)
    new = {"params": {"actor": actor, "critic": critic}, "adam": moments, "updates": state["updates"] + 1}
    return state | new, state["step"] | {"value_loss": loss, "value": value, "entropy": entropy(actor)}


def learner(config: TRPOConfig, observation_dim: int, action_dim: int) -> Learner:
    """Return TRPO's learner for these dimensions."""
    structure = structure_of(config, observation_dim, action_dim)
    return on_policy.learner(
        structure,
        partial(init, structure),
        partial(prepare, structure, config.sub_sampling),
        partial(update, structure),
        config.batch_size,
        config.epochs,
        names(METRICS),
        ((partial(iterate, structure), config.cg_steps), (partial(move, structure, config.line_search_steps), 1)),
    )
