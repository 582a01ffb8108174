"""Whether Q over- or underestimates: Q along evaluation episodes, compared with their returns.

[1] arXiv 2101.05982 (REDQ), section 4.1: the bias is divided by the size of the mean return.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sac_bench.options.metric import names
from sac_bench.training.metrics import Q_BIAS_METRICS

if TYPE_CHECKING:
    from sac_bench.training.cohort import Cohort

MAX_REST_WEIGHT = 0.01
"""A state counts if whatever comes after the time limit has at most this weight in its discounted return."""
STATES_PER_EVALUATION = 256  # states in every evaluation of Q: products of other sizes may differ in their last bits


class QBiasTracker:
    """Record E episodes of every member, step by step, and compare Q with their returns at the end.

    limit: the environment's time limit. Steps after the end of an episode are recorded but do not count.
    """

    def __init__(self, cohort: Cohort, episodes: int, limit: int) -> None:
        self._cohort, self._episodes, self._limit = cohort, episodes, limit
        self._together = max(1, STATES_PER_EVALUATION // episodes)
        self._waiting: list[tuple[Tensor, Tensor]] = []
        self._reward: list[NDArray] = []
        self._values: list[NDArray] = []

    def add(self, observation: Tensor, noise: Tensor, reward: NDArray) -> None:
        """Add a step: observations [M, E, D], noise of the actions [M, E, noise_dim], rewards [M, E]."""
        self._waiting.append((observation, noise))
        self._reward.append(reward)
        if len(self._waiting) == self._together:
            self._evaluate()

    def bias(self, lengths: NDArray, terminated: NDArray) -> dict[str, Tensor]:
        """Return Q_BIAS_METRICS [M], from Q and G, the return that Q estimates, in episodes of these lengths [M, E].

        They are over the states that count (`counted`); NaN if there are none.
        """
        if not self._reward:
            return dict.fromkeys(names(Q_BIAS_METRICS), torch.full((len(lengths),), torch.nan))
        if self._waiting:
            self._evaluate()
        value, steps = self._cohort.learner.value, len(self._reward)
        assert value is not None
        q, bonus = np.concatenate(self._values, axis=1)[:, :steps].astype(np.float64)
        hyper = {name: self._cohort.hyper[name].cpu().double().numpy() for name in ("gamma", "reward_scale")}
        reward = hyper["reward_scale"][:, None] * np.stack(self._reward).astype(np.float64)
        gamma = hyper["gamma"][:, None]
        monte_carlo = returns_to_go(reward, lengths, gamma) + bonuses_to_go(bonus, lengths, gamma, value.steps)
        counts = counted(steps, lengths, terminated, gamma, self._limit)
        members = [compared(q[:, m][counts[:, m]], monte_carlo[:, m][counts[:, m]]) for m in range(len(lengths))]
        return dict(zip(names(Q_BIAS_METRICS), torch.tensor(members, dtype=torch.float64).unbind(1), strict=True))

    def _evaluate(self) -> None:
        steps = self._waiting + self._waiting[-1:] * (self._together - len(self._waiting))
        observation, noise = (torch.stack(parts, 1).flatten(1, 2) for parts in zip(*steps, strict=True))
        values = torch.stack(self._cohort.value(observation, noise)).unflatten(-1, (-1, self._episodes))
        self._values.append(values.transpose(1, 2).cpu().numpy())  # [2, steps, M, E]
        self._waiting = []


def compared(q: NDArray, monte_carlo: NDArray) -> tuple[float, float, float]:
    """Return mean and standard deviation of Q - G over |mean of G| ([1] section 4.1), and the mean of G; both [states].

    All are NaN without states; the first two also if the mean is 0.
    """
    if not len(q):
        return math.nan, math.nan, math.nan
    bias, mean = q - monte_carlo, float(monte_carlo.mean())
    size = abs(mean) or math.nan
    return float(bias.mean()) / size, float(bias.std()) / size, mean


def returns_to_go(reward: NDArray, lengths: NDArray, gamma: NDArray) -> NDArray:
    """Return sum_k gamma^k r_{t+k} [T, ...] up to the ends of episodes; rewards [T, ...], lengths [...] <= T."""
    total = np.zeros_like(reward)
    after = np.zeros_like(reward[0])
    for t in reversed(range(len(reward))):
        after = total[t] = np.where(t < lengths, reward[t] + gamma * after, 0.0)
    return total


def bonuses_to_go(bonus: NDArray, lengths: NDArray, gamma: NDArray, steps: int) -> NDArray:
    """Return sum_{k >= 1} gamma^(k n) b_{t + k n}, n = `steps`, as in n-step targets: shapes as in returns_to_go."""
    total = np.zeros_like(bonus)
    for t in reversed(range(len(bonus) - steps)):
        total[t] = np.where(t + steps < lengths, gamma**steps * (bonus[t + steps] + total[t + steps]), 0.0)
    return total


def horizon(gamma: NDArray) -> NDArray:
    """Return after how many steps gamma^k is at most `MAX_REST_WEIGHT`, at least 1; infinite if gamma is 1."""
    with np.errstate(divide="ignore"):
        steps = np.ceil(math.log(MAX_REST_WEIGHT) / np.log(gamma))
    return np.where(gamma < 1, np.maximum(steps, 1), np.inf)


def counted(steps: int, lengths: NDArray, terminated: NDArray, gamma: NDArray, limit: int) -> NDArray:
    """Return which of T = `steps` states count: bool [T, ...]; lengths and terminated [...].

    A state at time t counts if t < limit - horizon, whether or not its episode terminates later. So how an episode ends
    does not change which times count, and variants are measured on comparable states. None counts if the limit is not
    longer than the horizon: of the terminated episodes alone, returns would be known, but not of comparable states. An
    episode that was truncated before the limit has its own limit there, since its later rewards are unknown.
    """
    t = np.arange(steps).reshape(-1, *[1] * lengths.ndim)
    rest = horizon(gamma)
    return (t < lengths) & (t < limit - rest) & (terminated | (t < lengths - rest))
