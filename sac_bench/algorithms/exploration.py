"""Noise that is held for several steps, for one learner with N environments and A action dimensions (FlashSAC)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from sac_bench.algorithms.protocol import Hyperparameters, State

MOST_STEPS = 16
"""The most steps for which noise is held. The probability of n steps is proportional to n^-2."""


def no_noise(like: Tensor, num_envs: int, action_dim: int) -> State:
    """Return the state before the first step, with the type and device of `like`: noise [N, A], steps left [N]."""
    return {"noise": like.new_zeros(num_envs, action_dim), "left": like.new_zeros(num_envs)}


def held_steps(normal: Tensor) -> Tensor:
    """Return for how many steps noise is held [N], given standard normal numbers [N]."""
    weights = torch.arange(1, MOST_STEPS + 1, dtype=normal.dtype, device=normal.device) ** -2
    below = (weights / weights.sum()).cumsum(0)[:-1]
    uniform = 0.5 * (1 + torch.erf(normal / math.sqrt(2)))
    return 1 + (uniform[:, None] >= below).to(normal.dtype).sum(-1)


def explore(
    act: Callable[..., tuple[Tensor, Tensor]],
    policy: Any,
    hyper: Hyperparameters,
    observation: Tensor,
    noise: Tensor,
    held: State,
    started: Tensor,
) -> tuple[Tensor, State]:
    """Return the actions [N, A] in training, and the noise to hold.

    The last column of noise [N, A + 1] determines how long it is held. The end of an episode does not change that.
    """
    new = held["left"] <= 0
    used = torch.where(new[:, None], noise[:, :-1], held["noise"])
    left = torch.where(new, held_steps(noise[:, -1]), held["left"]) - 1
    return act(policy, hyper, observation, used)[0], {"noise": used, "left": left}
