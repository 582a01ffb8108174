"""Multilayer perceptrons and the squashed Gaussian, written for one learner.

A network's parameters are one vector [P] (an ensemble of critics: [C, P]), so that the optimizer and the
target average are one operation each, and `layers` views it as weights and biases.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor

Draw = Callable[[str, tuple[int, ...]], Tensor]
"""(name, shape) -> uniform draws in [0, 1) of that shape, a function of the run's seed and the name."""
Sizes = tuple[int, ...]
"""Units of every layer, input and output included."""

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "elu": F.elu,
    "silu": F.silu,
    "gelu": F.gelu,
}


def init_mlp(draw: Draw, name: str, sizes: Sizes) -> Tensor:
    """A parameter vector [P]: weights and biases ~ U(-1/sqrt(fan_in), 1/sqrt(fan_in)), layer by layer.

    This is torch.nn.Linear's default, which Stable-Baselines3, CleanRL and Spinning Up train SAC with.
    """
    parts = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        uniform = draw(f"{name}/{i}", (fan_in * fan_out + fan_out,))
        parts.append((2 * uniform - 1) / math.sqrt(fan_in))
    return torch.cat(parts)


def layers(params: Tensor, sizes: Sizes) -> list[tuple[Tensor, Tensor]]:
    """Views of params [..., P] as (weight [..., in, out], bias [..., out]) of each layer."""
    pairs = list(pairwise(sizes))
    parts = params.split([n for fan_in, fan_out in pairs for n in (fan_in * fan_out, fan_out)], dim=-1)
    return [(parts[2 * i].unflatten(-1, pair), parts[2 * i + 1]) for i, pair in enumerate(pairs)]


def mlp(params: Tensor, sizes: Sizes, x: Tensor, activation: str) -> Tensor:
    """params [C?, P], x [B, in] -> [C?, B, out]."""
    for i, (weight, bias) in enumerate(layers(params, sizes)):
        x = (ACTIVATIONS[activation](x) if i else x) @ weight + bias.unsqueeze(-2)
    return x


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """a = tanh(u), u = mean + exp(log_std) * noise, and its exact log-density.

    mean, log_std, noise [..., A] -> a [..., A] in (-1, 1), log pi(a) [...].
    arXiv 1801.01290, appendix C, eq. 21, with log(1 - tanh(u)^2) = 2 (log 2 - u - softplus(-2u)).
    """
    u = mean + torch.exp(log_std) * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    log_squash = 2 * (math.log(2) - u - F.softplus(-2 * u))
    return torch.tanh(u), (log_normal - log_squash).sum(-1)
