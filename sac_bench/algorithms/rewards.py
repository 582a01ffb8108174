"""Rewards divided by the spread of discounted returns (arXiv 2502.15280), for one learner."""

from __future__ import annotations

import torch
from torch import Tensor

from sac_bench.algorithms.protocol import Hyperparameters, State
from sac_bench.algorithms.running_stats import deviation, empty_statistics, merged


def no_returns(like: Tensor, num_envs: int) -> State:
    """Return the state before the first reward, with the type and device of `like`.

    running [N]: each environment's discounted sum of the episode's rewards so far; largest []: the largest size of any.
    """
    return {
        "running": like.new_zeros(num_envs),
        "largest": like.new_zeros(()),
        "statistics": empty_statistics(like),
    }


def collect(returns: State, hyper: Hyperparameters, reward: Tensor, done: Tensor) -> State:
    """Return the state after a vector step with these rewards [N]; `done` [N] is 1 where an episode ended."""
    running = hyper["gamma"] * returns["running"] + reward
    return {
        "running": running * (1 - done),
        "largest": torch.maximum(returns["largest"], running.abs().amax()),
        "statistics": merged(returns["statistics"], running),
    }


def spread(returns: State, hyper: Hyperparameters) -> Tensor:
    """Return the number [] by which rewards are divided: a standard deviation or, if larger, largest / return_bound."""
    bound = hyper["return_bound"]
    largest = torch.where(bound > 0, returns["largest"] / torch.where(bound > 0, bound, 1.0), 0.0)
    return torch.maximum(deviation(returns["statistics"]), largest)
