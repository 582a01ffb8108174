"""Running mean and variance of a learner's data, written for one learner."""

from __future__ import annotations

import torch
from torch import Tensor

Statistics = dict[str, Tensor]
"""mean and var [...], count []."""
VARIANCE_EPSILON = 1e-8  # added to running variances, as Gymnasium and Stable-Baselines3 do
MAX_STANDARDISED = 10.0  # bound of standardised values, as in both


def empty_statistics(like: Tensor, *shape: int) -> Statistics:
    """Return statistics of no data: mean 0, variance 1, count 0, with the type and device of `like`."""
    return {"mean": like.new_zeros(shape), "var": like.new_ones(shape), "count": like.new_zeros(())}


def merged(statistics: Statistics, x: Tensor) -> Statistics:
    """Return the statistics after adding x [K, ...] (Chan, Golub & LeVeque 1979)."""
    count = statistics["count"] + len(x)
    share = len(x) / count
    mean, delta = x.mean(0), x.mean(0) - statistics["mean"]
    between = share * (1 - share) * delta**2
    return {
        "mean": statistics["mean"] + share * delta,
        "var": (1 - share) * statistics["var"] + share * ((x - mean) ** 2).mean(0) + between,
        "count": count,
    }


def deviation(statistics: Statistics) -> Tensor:
    """Return the standard deviation [...], with VARIANCE_EPSILON added to the variance."""
    return torch.sqrt(statistics["var"] + VARIANCE_EPSILON)


def standardized(x: Tensor, statistics: Statistics) -> Tensor:
    """Standardise x [..., D] by mean and deviation, clipped to MAX_STANDARDISED."""
    return ((x - statistics["mean"]) / deviation(statistics)).clamp(-MAX_STANDARDISED, MAX_STANDARDISED)
