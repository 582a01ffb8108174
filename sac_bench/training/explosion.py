"""Whether a run's Q exploded: whether |Q| exceeds what the run's rewards so far allow.

An algorithm defines the bound (`Learner.q_bound`). It is compared with the mean of Q over a segment's updates, which is
recorded anyway. The largest |Q| is at least that, so a run that is marked did exceed its bound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sac_bench.options.metric import Q
from sac_bench.training.metrics import Q_BOUND

if TYPE_CHECKING:
    from sac_bench.training.cohort import Cohort

UNTRAINED_Q_BOUND = 1.0
"""Every run's bound at first: untrained networks return values of up to about this size, whatever the rewards."""
Q_BOUND_TOLERANCE = 0.1
"""Q exceeds its bound by more than this share before it counts, since it is an estimate: if every reward is the
largest, the true Q is the bound itself."""


class Explosions:
    """What M runs' |Q| may be, and when it was first more. A bound never falls, as Q follows its causes slowly.

    reward [M]: the largest |r| in training; bound [M]; first [M]: the steps at which a run exploded, -1 if it did not.
    """

    def __init__(self, cohort: Cohort, members: int) -> None:
        self._bound_of = cohort.learner.q_bound
        self._hyper = {name: values[:members].cpu().double() for name, values in cohort.hyper.items()}
        self.reward, self.bound, self.first = (
            np.zeros(members),
            np.full(members, UNTRAINED_Q_BOUND),
            np.full(members, -1.0),
        )

    def add(self, reward: NDArray) -> None:
        """Add the rewards [M * N] of a step in N environments of each run."""
        np.maximum(self.reward, np.abs(reward).reshape(len(self.reward), -1).max(1), out=self.reward)

    def check(self, steps: int, metrics: Mapping[str, Tensor], running: NDArray) -> dict[str, Tensor]:
        """Note which of the `running` [M] runs exploded by the metrics {name: [M]} of a segment that ends at `steps`.

        Return the bounds as a metric; nothing if the algorithm has none.
        """
        if self._bound_of is None:
            return {}
        metrics = {name: values.double() for name, values in metrics.items()}
        bound = self._bound_of(self._hyper, metrics, torch.from_numpy(self.reward.copy())).numpy()
        self.bound = np.fmax(self.bound, bound)  # NaN without updates
        beyond = metrics[Q.name].abs().numpy() > (1 + Q_BOUND_TOLERANCE) * self.bound
        self.first = np.where(beyond & running & (self.first < 0), steps, self.first)
        return {Q_BOUND.name: torch.from_numpy(self.bound.copy())}

    def at(self, member: int) -> int | None:
        """Return the steps at which a run was first seen to have exploded, or None."""
        return int(self.first[member]) if self.first[member] >= 0 else None

    def state(self) -> Tensor:
        """Return the state [M, 3], to be saved."""
        return torch.from_numpy(np.stack([self.reward, self.bound, self.first], 1))

    def restore(self, state: Tensor | None) -> None:
        """Continue from a saved state. An older checkpoint has none: its rewards are unknown, so any Q is allowed."""
        if state is None:
            self.reward = np.full_like(self.reward, np.inf)
        else:
            self.reward, self.bound, self.first = state.numpy().T.copy()
