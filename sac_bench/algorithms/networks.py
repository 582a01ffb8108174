"""Multilayer perceptrons and the squashed Gaussian, written for one learner.

A network's parameters are one vector [P], so that the optimizer and the target average are one operation each, and
`layers` views it as weights and biases. An ensemble of C networks is one vector, too: layer by layer, the C weights
side by side, then the C biases, so that a layer of all of them is one product of contiguous matrices.
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


def init_mlp(draw: Draw, name: str, sizes: Sizes, ensemble: int | None = None) -> Tensor:
    """A parameter vector [P]: weights and biases ~ U(-1/sqrt(fan_in), 1/sqrt(fan_in)), layer by layer.

    This is torch.nn.Linear's default, which Stable-Baselines3, CleanRL and Spinning Up train SAC with. Network i of an
    ensemble is the same however many there are.
    """
    names = [name] if ensemble is None else [f"{name}/{i}" for i in range(ensemble)]
    parts: list[Tensor] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        uniform = torch.stack([draw(f"{one}/{i}", ((fan_in + 1) * fan_out,)) for one in names])
        parts += (
            part.flatten() for part in ((2 * uniform - 1) / math.sqrt(fan_in)).split([fan_in * fan_out, fan_out], 1)
        )
    return torch.cat(parts)


def layers(params: Tensor, sizes: Sizes, ensemble: int | None = None) -> list[tuple[Tensor, Tensor]]:
    """Views of params [P] as (weight [in, out], bias [out]) of each layer; of an ensemble [C, in, out] and [C, out]."""
    many = () if ensemble is None else (ensemble,)
    shapes = [shape for fan_in, fan_out in pairwise(sizes) for shape in ((*many, fan_in, fan_out), (*many, fan_out))]
    parts = params.split([math.prod(shape) for shape in shapes], dim=-1)
    views = [part.unflatten(-1, shape) for part, shape in zip(parts, shapes, strict=True)]
    return list(zip(views[::2], views[1::2], strict=True))


def mlp(params: Tensor, sizes: Sizes, x: Tensor, activation: str, ensemble: int | None = None) -> Tensor:
    """params [P], x [B, in] -> [B, out]; of an ensemble [C, B, out]."""
    product = torch.mm
    if ensemble is not None:
        # One batched product; torch.matmul would fold the networks into one matrix, depending on strides, and copy.
        x, product = x.expand(ensemble, *x.shape), torch.bmm
    for i, (weight, bias) in enumerate(layers(params, sizes, ensemble)):
        x = product(ACTIVATIONS[activation](x) if i else x, weight) + bias.unsqueeze(-2)
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
