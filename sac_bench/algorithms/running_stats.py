"""Running mean and variance of what a learner has seen, written for one learner."""

from __future__ import annotations

import torch
from torch import Tensor

Statistics = dict[str, Tensor]
"""mean and var [...], count []."""
VARIANCE_EPSILON = 1e-8  # added to running variances, as Gymnasium and Stable-Baselines3 do
LIMIT = 10.0  # of what is standardised, either way, as there


def nothing_seen(like: Tensor, *shape: int) -> Statistics:
    """Statistics of nothing: mean 0 and variance 1, of the type and device of `like`."""
    return {"mean": like.new_zeros(shape), "var": like.new_ones(shape), "count": like.new_zeros(())}


def merged(statistics: Statistics, x: Tensor) -> Statistics:
    """Mean, variance and count of all before and of x [K, ...] (Chan, Golub & LeVeque 1979)."""
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
    return torch.sqrt(statistics["var"] + VARIANCE_EPSILON)


def standardized(x: Tensor, statistics: Statistics) -> Tensor:
    """x [..., D] by its mean and deviation, within the limits."""
    return ((x - statistics["mean"]) / deviation(statistics)).clamp(-LIMIT, LIMIT)
