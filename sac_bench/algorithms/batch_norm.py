"""Batch normalisation (arXiv 1502.03167) and renormalisation (1702.03275), written for one learner.

Running statistics are values that go in and come out, since `vmap` cannot update buffers in place. In an ensemble of C
networks, all tensors have a leading axis of C, and each network has the statistics of its own batch.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

R_MAX, D_MAX = 3.0, 5.0
"""The bounds of batch renormalisation (arXiv 1702.03275) in the code of CrossQ (arXiv 1902.05605)."""


class Norm(NamedTuple):
    """A normalisation's gain and shift [units]."""

    gain: Tensor
    shift: Tensor


class Statistics(NamedTuple):
    """The running mean and variance [units] of a batch normalisation."""

    mean: Tensor
    variance: Tensor


class Training(NamedTuple):
    """How batch normalisation normalises in updates of a network's parameters: by the batch.

    momentum []: the batch's weight in the running statistics
    renormalised []: whether batches are renormalised towards the running statistics (arXiv 1702.03275); None: never
    """

    momentum: Tensor
    renormalised: Tensor | None = None


def normalised(
    norm: Norm, running: Statistics, x: Tensor, training: Training | None, epsilon: float
) -> tuple[Tensor, Statistics]:
    """Normalise x [(C,) B, units] by the batch or, if not training, by the statistics; return it and new statistics.

    Variances are without Bessel's correction. A renormalised batch is multiplied by r, then d is added (arXiv
    1702.03275, algorithm 1).
    """
    if training is None:
        mean, variance = running
        new = running
    else:
        mean, variance = x.mean(-2), x.var(-2, correction=0)
        old = tree_map(lambda leaf: leaf.detach(), running)
        new = Statistics(
            old.mean + training.momentum * (mean.detach() - old.mean),
            old.variance + training.momentum * (variance.detach() - old.variance),
        )
        if training.renormalised is not None:
            deviation, usual = torch.sqrt(variance + epsilon), torch.sqrt(old.variance + epsilon)
            r = (deviation / usual).detach().clamp(1 / R_MAX, R_MAX)
            d = ((mean - old.mean) / usual).detach().clamp(-D_MAX, D_MAX)
            gain = torch.where(training.renormalised, r * norm.gain, norm.gain)
            norm = Norm(gain, torch.where(training.renormalised, d * norm.gain + norm.shift, norm.shift))
    scale = norm.gain * torch.rsqrt(variance + epsilon)
    return (x - mean.unsqueeze(-2)) * scale.unsqueeze(-2) + norm.shift.unsqueeze(-2), new
