"""Multilayer perceptrons and the squashed Gaussian, written for one learner.

A network is a tuple of layers. In an ensemble of C networks, every tensor has a leading axis of C, so that one batched
product computes a layer of all of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

Draw = Callable[[str, tuple[int, ...]], Tensor]
"""(name, shape) -> uniform draws in [0, 1) of that shape, a function of the run's seed and the name."""
Sizes = tuple[int, ...]
"""Units of every layer, input and output included."""

# Eager torch computes the last elements of a tensor by other functions than the rest in its elu, silu, gelu and
# softplus, so a member's digits would depend on its place in the cohort. These do not.


def elu(x: Tensor) -> Tensor:
    """Return x where x > 0, else exp(x) - 1."""
    return torch.where(x > 0, x, torch.expm1(x.clamp(max=0)))


def silu(x: Tensor) -> Tensor:
    """Return x sigmoid(x)."""
    return 0.5 * x * (1 + torch.tanh(0.5 * x))


def gelu(x: Tensor) -> Tensor:
    """Return x Phi(x)."""
    return 0.5 * x * (1 + torch.erf(math.sqrt(0.5) * x))


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": F.relu,
    "tanh": torch.tanh,
    "elu": elu,
    "silu": silu,
    "gelu": gelu,
}


class Layer(NamedTuple):
    """A linear layer: weight [in, out], bias [out]; of an ensemble [C, in, out], [C, out]."""

    weight: Tensor
    bias: Tensor


class NormalizedLayer(NamedTuple):
    """A linear layer followed by layer normalisation (arXiv 1607.06450) with gain and shift [out]."""

    weight: Tensor
    bias: Tensor
    gain: Tensor
    shift: Tensor


Network = tuple[Layer | NormalizedLayer, ...]
NORM_EPSILON = 1e-5  # torch.nn.LayerNorm's


def torch_layer(draw: Draw, name: str, fan_in: int, fan_out: int, gain: float) -> Layer:
    """Return weights and biases ~ U(-1/sqrt(fan_in), 1/sqrt(fan_in)), torch.nn.Linear's; the gain has no effect.

    As in SAC of Stable-Baselines3, CleanRL and Spinning Up.
    """
    uniform = draw(name, ((fan_in + 1) * fan_out,))
    weight, bias = ((2 * uniform - 1) / math.sqrt(fan_in)).split([fan_in * fan_out, fan_out])
    return Layer(weight.reshape(fan_in, fan_out), bias)


def orthogonal_layer(draw: Draw, name: str, fan_in: int, fan_out: int, gain: float) -> Layer:
    """Return an orthogonal matrix times the gain, and zero biases (arXiv 1312.6120, section 3)."""
    long, short = max(fan_in, fan_out), min(fan_in, fan_out)
    uniform = draw(name, (2, (long * short + 1) // 2))
    radius, angle = torch.sqrt(-2 * torch.log(1 - uniform[0].double())), 2 * math.pi * uniform[1].double()
    normal = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)])[: long * short]
    q, r = torch.linalg.qr(normal.reshape(long, short))
    q = q * r.diagonal().sign()  # uniform over the orthogonal matrices, arXiv math-ph/0609050
    weight = (gain * (q if fan_in == long else q.T)).to(uniform.dtype).contiguous()
    return Layer(weight, weight.new_zeros(fan_out))


def glorot_layer(draw: Draw, name: str, fan_in: int, fan_out: int, gain: float) -> Layer:
    """Return weights ~ U(-b, b), b = sqrt(6 / (fan_in + fan_out)), and zero biases; the gain has no effect.

    Glorot & Bengio 2010, eq. 16, as in softlearning.
    """
    uniform = draw(name, (fan_in, fan_out))
    weight = math.sqrt(6 / (fan_in + fan_out)) * (2 * uniform - 1)
    return Layer(weight, weight.new_zeros(fan_out))


INITIALISATIONS: dict[str, Callable[[Draw, str, int, int, float], Layer]] = {
    "torch": torch_layer,
    "orthogonal": orthogonal_layer,
    "glorot": glorot_layer,
}


def init_mlp(
    draw: Draw,
    name: str,
    sizes: Sizes,
    ensemble: int | None = None,
    layer_norm: bool = False,
    initialisation: str = "torch",
    last_gain: float = 1.0,
) -> Network:
    """Return a network with initial weights; with `layer_norm`, hidden layers are normalised.

    Network i of an ensemble does not depend on the ensemble's size. Orthogonal weights have gain sqrt(2), as in OpenAI
    Baselines, Stable-Baselines3 and CleanRL, and those of the last layer `last_gain`: 1 as in denisyarats/pytorch_sac,
    which uses 1 in every layer.
    """
    names = [name] if ensemble is None else [f"{name}/{i}" for i in range(ensemble)]
    network: list[Layer | NormalizedLayer] = []
    for i, (fan_in, fan_out) in enumerate(pairwise(sizes)):
        hidden = i < len(sizes) - 2
        gain = math.sqrt(2) if hidden else last_gain
        each = [INITIALISATIONS[initialisation](draw, f"{one}/{i}", fan_in, fan_out, gain) for one in names]
        layer = each[0] if ensemble is None else Layer(*map(torch.stack, zip(*each, strict=True)))
        ones = torch.ones_like(layer.bias)
        network.append(NormalizedLayer(*layer, ones, torch.zeros_like(ones)) if layer_norm and hidden else layer)
    return tuple(network)


SMALL_PRODUCT = 4096
"""Multiplications up to which torch chooses the library by the number of products in a batch."""


def product(x: Tensor, weight: Tensor) -> Tensor:
    """Return x @ weight [(C,) B, out] of x [(C,) B, in], weight [(C,) in, out], whose bits no neighbour changes.

    Libraries compute small products, and those with one row or column, by different methods that depend on the batch
    size or memory alignment. These are written as sums of products, as compiled code computes them. Tensors without
    memory are exempt, since arithmetic is counted in products (training/flops.py).
    """
    rows, columns = x.shape[-2], weight.shape[-1]
    small = rows * x.shape[-1] * columns <= SMALL_PRODUCT or rows == 1 or columns == 1
    if small and x.dtype != torch.bfloat16 and x.device.type != "meta":  # bfloat16 products sum in float32
        return (x.unsqueeze(-1) * weight.unsqueeze(-3)).sum(-2)
    # torch.matmul would fold an ensemble into one matrix, depending on strides, and copy.
    return torch.bmm(x, weight) if weight.ndim == 3 else torch.mm(x, weight)


def mlp(
    network: Network, x: Tensor, activation: str, precision: str = "float32", masks: Sequence[Tensor] = ()
) -> Tensor:
    """Evaluate a network: x [B, in] -> [B, out]; of an ensemble [C, B, out].

    `masks` [(C,) B, units], one for each hidden layer, drop units. A hidden layer is a product, dropout, normalisation
    and the activation, in the order of DroQ (arXiv 2110.02034, section 3).

    With precision "bfloat16", hidden layers multiply in bfloat16 and sum in float32. The last layer, whose output is a
    value or a distribution, uses float32.
    """
    if network[0].weight.ndim == 3:
        x = x.expand(len(network[0].weight), *x.shape)
    for i, layer in enumerate(network):
        x = ACTIVATIONS[activation](x) if i else x
        if precision == "bfloat16" and i < len(network) - 1:
            x = product(x.bfloat16(), layer.weight.bfloat16()).to(layer.bias.dtype)
        else:
            x = product(x, layer.weight)
        x = x + layer.bias.unsqueeze(-2)
        if masks and i < len(network) - 1:
            x = x * masks[i]
        if isinstance(layer, NormalizedLayer):
            x = F.layer_norm(x, x.shape[-1:], eps=NORM_EPSILON)
            x = x * layer.gain.unsqueeze(-2) + layer.shift.unsqueeze(-2)
    return x


def log_slope(u: Tensor) -> Tensor:
    """Return log(d tanh(u) / du) = log(1 - tanh(u)^2), which is exact in the tails, as is its gradient."""
    return 2 * (math.log(2) - u.abs() - torch.log1p(torch.exp(-2 * u.abs())))


def squashed_gaussian(mean: Tensor, log_std: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Return a = tanh(u), u = mean + exp(log_std) * noise, and its exact log-density.

    mean, log_std, noise [..., A] -> a [..., A] in (-1, 1), log pi(a) [...].
    arXiv 1801.01290, appendix C, eq. 21.
    """
    u = mean + torch.exp(log_std) * noise
    log_normal = -0.5 * noise**2 - log_std - 0.5 * math.log(2 * math.pi)
    log_squash = log_slope(u)
    return torch.tanh(u), (log_normal - log_squash).sum(-1)


def gaussian_log_prob(mean: Tensor, log_std: Tensor, action: Tensor) -> Tensor:
    """Return log N(a; mean, exp(log_std)^2) [...]; mean, action [..., A], log_std [..., A] or [A]."""
    z = (action - mean) * torch.exp(-log_std)
    return (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
