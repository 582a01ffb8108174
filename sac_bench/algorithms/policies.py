"""SAC's policies: a squashed Gaussian or a mixture of them, and the estimators of their gradients.

[1] arXiv 1801.01290, [2] arXiv 1812.05905. One learner: B states, A action dimensions in [-1, 1], D observation
dimensions, K components. u is an action before the tanh.

The gradient of E f(a) is a mean over actions drawn from the policy. "reparameterised": the action is a differentiable
function of noise, grad f(a(noise)) ([1] eq. 11). "score-function": the action is a constant, f(a) grad log pi(a)
(Williams 1992). The choice among K components is not a differentiable function of noise: its gradient is always the
score-function estimate, and the reparameterised gradient applies within the chosen component.
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
"""A network, or {"mean": network, "log_std": [A]} if log sigma does not depend on the state."""


class Sample(NamedTuple):
    """One action in each of B states, and what is needed for the gradient of its cost.

    action [B, A] and log_pi [B] are differentiable, unless the estimator is the score function. mean [B, A] is the mean
    action. score [B] is the log-probability of the choices that are not differentiable; None if all are. statistics are
    the network's new running statistics, if it has any.
    """

    action: Tensor
    log_pi: Tensor
    mean: Tensor
    score: Tensor | None
    statistics: Any = ()


def outputs(action_dim: int, components: int, state_dependent_std: bool) -> int:
    """Return the number of outputs of the policy's network."""
    if components > 1:
        return components * (2 * action_dim + 1)
    return 2 * action_dim if state_dependent_std else action_dim


def init_policy(draw: Draw, nets: Networks, action_dim: int, layer_norm: bool, state_dependent_std: bool) -> Actor:
    """Return a policy's initial parameters; a log sigma that is a parameter is 0, as in PPO."""
    network = init_mlp(draw, "actor", nets.actor, layer_norm=layer_norm, initialisation=nets.initialisation)
    if state_dependent_std:
        return network
    return {"mean": network, "log_std": network[-1].bias.new_zeros(action_dim)}


def bounded(nets: Networks, log_std: Tensor, hyper: Hyperparameters) -> Tensor:
    """Bound log sigma: clip it, or map it to the bounds by a tanh (as denisyarats/pytorch_sac, CleanRL)."""
    low, high = hyper["log_std_min"], hyper["log_std_max"]
    if nets.tanh_log_std:
        return low + 0.5 * (high - low) * (torch.tanh(log_std) + 1)
    return torch.clamp(log_std, low, high)


def policy(nets: Networks, actor: Actor, observation: Tensor, noise: Tensor, hyper: Hyperparameters) -> Sample:
    """Sample an action in each state: observation [B, D], normal noise [B, A] (of a mixture [B, A + 1])."""
    if nets.components > 1:
        return mixture(nets, actor, observation, noise, hyper)
    mean, log_std, statistics = gaussian(nets, actor, observation, hyper)
    action, log_pi = squashed_gaussian(mean, log_std, noise)
    if not nets.score_function:
        return Sample(action, log_pi, torch.tanh(mean), None, statistics)
    u = (mean + torch.exp(log_std) * noise).detach()
    score = gaussian_log_prob(mean, log_std, u)
    return Sample(action.detach(), log_pi.detach(), torch.tanh(mean), score, statistics)


def gaussian(nets: Networks, actor: Actor, observation: Tensor, hyper: Hyperparameters) -> tuple[Tensor, Tensor, Any]:
    """Return mean and log sigma of u, [B, A] each, of observation [B, D], and the network's new statistics."""
    if isinstance(actor, dict):
        mean, statistics = nets.run(actor["mean"], observation)
        return mean, bounded(nets, actor["log_std"], hyper).expand_as(mean), statistics
    outputs, statistics = nets.run(actor, observation)
    mean, log_std = outputs.chunk(2, dim=-1)
    return mean, bounded(nets, log_std, hyper), statistics


def components(
    nets: Networks, actor: Actor, observation: Tensor, hyper: Hyperparameters
) -> tuple[Tensor, Tensor, Tensor]:
    """Return log weights [B, K], means and log sigmas [B, K, A] of a mixture, of observation [B, D]."""
    weights, gaussians = nets.forward(actor, observation).tensor_split([nets.components], dim=-1)
    mean, log_std = gaussians.unflatten(-1, (nets.components, -1)).chunk(2, dim=-1)
    return weights.log_softmax(-1), mean, bounded(nets, log_std, hyper)


def chosen(log_weight: Tensor, normal: Tensor) -> Tensor:
    """Draw a component by normal noise [B]: log weights [B, K] -> one-hot [B, K]."""
    uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))
    below = (log_weight.detach().exp().cumsum(-1)[..., :-1] <= uniform[..., None]).sum(-1)
    return one_hot(below, log_weight)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """Return index [B] as one-hot [B, K], with the size and type of `like`."""
    return (torch.arange(like.shape[-1], device=like.device) == index[..., None]).to(like.dtype)


def mixture(nets: Networks, actor: Actor, observation: Tensor, noise: Tensor, hyper: Hyperparameters) -> Sample:
    """Sample from a mixture of K squashed Gaussians (haarnoja/sac gmm.py, there by score function).

    The last column of the noise chooses the component. The mean action is that of the likeliest component.
    """
    log_weight, mean, log_std = components(nets, actor, observation, hyper)
    choice = chosen(log_weight, noise[..., -1])

    def select(which: Tensor, x: Tensor) -> Tensor:
        return (which[..., None] * x).sum(-2)

    def log_density(u: Tensor) -> Tensor:
        return torch.logsumexp(log_weight + gaussian_log_prob(mean, log_std, u[..., None, :]), -1)

    u = select(choice, mean) + torch.exp(select(choice, log_std)) * noise[..., :-1]
    action, log_pi = torch.tanh(u), log_density(u) - log_slope(u).sum(-1)
    likeliest = torch.tanh(select(one_hot(log_weight.argmax(-1), log_weight), mean))
    if nets.score_function:
        return Sample(action.detach(), log_pi.detach(), likeliest, log_density(u.detach()))
    return Sample(action, log_pi, likeliest, (choice * log_weight).sum(-1))


def for_samples(observation: Tensor, noise: Tensor) -> Tensor:
    """Repeat observation [B, D] for noise [k B, ...] of k actions per state: [k B, D], all states once, then again."""
    samples = len(noise) // len(observation)
    return observation if samples == 1 else observation.repeat(samples, 1)


def leave_one_out(cost: Tensor, states: int) -> Tensor:
    """Return, for each of costs [k B] in B states, the mean of its state's other k - 1 costs [k B]; 0 if k is 1.

    As a baseline it leaves the score-function estimate unbiased, since it does not depend on the sample (Kool, van Hoof
    & Welling 2019, "Buy 4 REINFORCE samples, get a baseline for free!").
    """
    by_state: Tensor = cost.unflatten(0, (-1, states))
    return ((by_state.sum(0) - by_state) / max(1, len(by_state) - 1)).flatten()


def mean_with_score(cost: Tensor, score: Tensor, baseline: Tensor) -> Tensor:
    """Return the mean of costs [B], whose gradient includes (cost - baseline) grad score (Williams 1992).

    The constant alpha of the score-function form of [2] eq. 9 has no effect, since E grad log pi = 0.
    """
    return cost.mean() + ((cost - baseline).detach() * (score - score.detach())).mean()
