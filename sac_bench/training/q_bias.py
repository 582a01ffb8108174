"""Whether Q over- or underestimates: Q along evaluation episodes, compared with their returns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sac_bench.algorithms.metric import Metric, names

if TYPE_CHECKING:
    from sac_bench.training.cohort import Cohort

Q_BIAS = Metric("q_bias", "Q less Monte-Carlo return\n(units of return)", "symlog", 1, zero=True, topic="Q")
MONTE_CARLO = Metric("monte_carlo", "Monte-Carlo return\n(discounted)", "symlog", 1, topic="Q")
METRICS = (Q_BIAS, MONTE_CARLO)
REST = 0.01
"""A state of a truncated episode counts if the missing part of its discounted return has at most this weight."""
ROWS = 256  # states in every evaluation of Q: products of other sizes may differ in their last bits


class QBiasTracker:
    """Record E episodes of every member, step by step, and compare Q with their returns at the end.

    Steps after the end of an episode are recorded but do not count.
    """

    def __init__(self, cohort: Cohort, episodes: int) -> None:
        self._cohort, self._episodes, self._together = cohort, episodes, max(1, ROWS // episodes)
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
        """Return the means [M] of Q - G and of G, the return that Q estimates, for episodes of these lengths [M, E].

        They are over the states from which G is known, except for a weight of at most `REST`; NaN if there are none.
        """
        if not self._reward:
            return dict.fromkeys(names(METRICS), torch.full((len(lengths),), torch.nan))
        if self._waiting:
            self._evaluate()
        value, steps = self._cohort.learner.value, len(self._reward)
        assert value is not None
        q, bonus = np.concatenate(self._values, axis=1)[:, :steps].astype(np.float64)
        hyper = {name: self._cohort.hyper[name].cpu().double().numpy() for name in ("gamma", "reward_scale")}
        reward = hyper["reward_scale"][:, None] * np.stack(self._reward).astype(np.float64)
        gamma = hyper["gamma"][:, None]
        monte_carlo = returns_to_go(reward, lengths, gamma) + bonuses_to_go(bonus, lengths, gamma, value.steps)
        known = is_known(steps, lengths, terminated, gamma)
        return {Q_BIAS.name: _means(q - monte_carlo, known), MONTE_CARLO.name: _means(monte_carlo, known)}

    def _evaluate(self) -> None:
        steps = self._waiting + self._waiting[-1:] * (self._together - len(self._waiting))
        observation, noise = (torch.stack(parts, 1).flatten(1, 2) for parts in zip(*steps, strict=True))
        values = torch.stack(self._cohort.value(observation, noise)).unflatten(-1, (-1, self._episodes))
        self._values.append(values.transpose(1, 2).cpu().numpy())  # [2, steps, M, E]
        self._waiting = []


def _means(x: NDArray, known: NDArray) -> Tensor:
    """Return each member's mean [M] of the known entries; x, known [T, M, E]."""
    each = [x[:, m][known[:, m]] for m in range(x.shape[1])]
    return torch.tensor([own.mean() if len(own) else np.nan for own in each], dtype=torch.float64)


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


def is_known(steps: int, lengths: NDArray, terminated: NDArray, gamma: NDArray) -> NDArray:
    """Return which of T = `steps` states count: bool [T, ...]; lengths and terminated [...]."""
    left = lengths - np.arange(steps).reshape(-1, *[1] * lengths.ndim)
    return (left > 0) & (terminated | (gamma ** np.maximum(left, 0) <= REST))
