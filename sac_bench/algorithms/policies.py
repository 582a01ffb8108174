"""SAC's policies: a squashed Gaussian or a mixture of them, and what their gradients are estimated with.

[1] arXiv 1801.01290, [2] arXiv 1812.05905. One learner: B states, A action dimensions in [-1, 1], D observation
dimensions, K components. u is an action before the tanh.

A gradient of E f(a) is a mean over actions drawn from the policy. "reparameterised": the action is a differentiable
function of noise, grad f(a(noise)) ([1] eq. 11). "score-function": the action is a constant, f(a) grad log pi(a)
(Williams 1992). A choice among K components is no differentiable function of noise: there the reparameterised gradient
is that inside the chosen component, and the choice's own is by its score function.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sac_bench.algorithms.critics import Networks
from sac_bench.algorithms.networks import (
    Draw,
    gaussian_log_prob,
    init_mlp,
    log_slope,
    squashed_gaussian,
)
from sac_bench.algorithms.protocol import Hyperparameters

Actor = Any
"""A network; with a deviation of its own, {"mean": network, "log_std": [A]}."""


class Sample(NamedTuple):
    """One action in each of B states, and what the gradient of its cost is made of.

    action [B, A] and log_pi [B] have the derivatives of the path through the action, and none where gradients are by
    the score function; score [B] is the log-probability of what has no path, None where everything has.
    """

    action: Tensor
    log_pi: Tensor
    mean: Tensor
    score: Tensor | None


def outputs(action_dim: int, components: int, state_dependent_std: bool) -> int:
    """Outputs of the policy's network."""
    if components > 1:
        return components * (2 * action_dim + 1)
    return 2 * action_dim if state_dependent_std else action_dim


def init_policy(draw: Draw, nets: Networks, action_dim: int, layer_norm: bool, state_dependent_std: bool) -> Actor:
    """A policy's parameters; a deviation of its own begins at 1, as PPO's does."""
    network = init_mlp(draw, "actor", nets.actor, layer_norm=layer_norm)
    if state_dependent_std:
        return network
    return {"mean": network, "log_std": network[-1].bias.new_zeros(action_dim)}


def bounded(nets: Networks, log_std: Tensor, hyper: Hyperparameters) -> Tensor:
    """log sigma between its bounds: clipped to them, or a tanh that spans them (denisyarats/pytorch_sac, CleanRL)."""
    low, high = hyper["log_std_min"], hyper["log_std_max"]
    if nets.tanh_log_std:
        return low + 0.5 * (high - low) * (torch.tanh(log_std) + 1)
    return torch.clamp(log_std, low, high)


def policy(nets: Networks, actor: Actor, observation: Tensor, noise: Tensor, hyper: Hyperparameters) -> Sample:
    """observation [B, D], normal noise [B, A] (of a mixture [B, A + 1]) -> one action in each state."""
    if nets.components > 1:
        return mixture(nets, actor, observation, noise, hyper)
    mean, log_std = gaussian(nets, actor, observation, hyper)
    action, log_pi = squashed_gaussian(mean, log_std, noise)
    if not nets.score_function:
        return Sample(action, log_pi, torch.tanh(mean), None)
    u = (mean + torch.exp(log_std) * noise).detach()
    return Sample(action.detach(), log_pi.detach(), torch.tanh(mean), gaussian_log_prob(mean, log_std, u))


def gaussian(nets: Networks, actor: Actor, observation: Tensor, hyper: Hyperparameters) -> tuple[Tensor, Tensor]:
    """observation [B, D] -> mean and log sigma of u, [B, A] each."""
    if isinstance(actor, dict):
        mean = nets.forward(actor["mean"], observation)
        return mean, bounded(nets, actor["log_std"], hyper).expand_as(mean)
    mean, log_std = nets.forward(actor, observation).chunk(2, dim=-1)
    return mean, bounded(nets, log_std, hyper)


def components(
    nets: Networks, actor: Actor, observation: Tensor, hyper: Hyperparameters
) -> tuple[Tensor, Tensor, Tensor]:
    """observation [B, D] -> log weights [B, K], means and log sigmas [B, K, A] of a mixture."""
    weights, gaussians = nets.forward(actor, observation).tensor_split([nets.components], dim=-1)
    mean, log_std = gaussians.unflatten(-1, (nets.components, -1)).chunk(2, dim=-1)
    return weights.log_softmax(-1), mean, bounded(nets, log_std, hyper)


def chosen(log_weight: Tensor, normal: Tensor) -> Tensor:
    """log weights [B, K], one normal number [B] a state -> 1 at the component drawn, 0 elsewhere [B, K]."""
    uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))
    below = (log_weight.detach().exp().cumsum(-1)[..., :-1] <= uniform[..., None]).sum(-1)
    return one_hot(below, log_weight)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """index [B] -> [B, K] as `like`."""
    return (torch.arange(like.shape[-1], device=like.device) == index[..., None]).to(like.dtype)


def mixture(nets: Networks, actor: Actor, observation: Tensor, noise: Tensor, hyper: Hyperparameters) -> Sample:
    """A mixture of K squashed Gaussians (the first policy of [1]'s code, haarnoja/sac gmm.py, there by score function).

    The last of the noise chooses the component, the others draw in it. The mean action is the likeliest component's.
    """
    log_weight, mean, log_std = components(nets, actor, observation, hyper)
    choice = chosen(log_weight, noise[..., -1])
    of = lambda which, x: (which[..., None] * x).sum(-2)
    u = of(choice, mean) + torch.exp(of(choice, log_std)) * noise[..., :-1]
    log_density = lambda u: torch.logsumexp(log_weight + gaussian_log_prob(mean, log_std, u[..., None, :]), -1)
    action, log_pi = torch.tanh(u), log_density(u) - log_slope(u).sum(-1)
    likeliest = torch.tanh(of(one_hot(log_weight.argmax(-1), log_weight), mean))
    if nets.score_function:
        return Sample(action.detach(), log_pi.detach(), likeliest, log_density(u.detach()))
    return Sample(action, log_pi, likeliest, (choice * log_weight).sum(-1))


def mean_with_score(cost: Tensor, score: Tensor | None) -> Tensor:
    """The mean of costs [B], whose gradient is also that of the choices that have no path: cost * grad score.

    The baseline of each cost is the mean of the batch's others (Williams 1992's baseline without the sample itself, so
    that the gradient's expectation stays as it is). The constant alpha of [2] eq. 9's score-function form needs none:
    E grad log pi = 0.
    """
    if score is None:
        return cost.mean()
    others = (cost.sum() - cost) / max(1, len(cost) - 1)
    return cost.mean() + ((cost - others).detach() * (score - score.detach())).mean()
