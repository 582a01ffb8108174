"""A point that can go to any of four goals by equally good paths (arXiv 1702.08165, section 5.1).

Constants are those of the authors' code (github haarnoja/softqlearning, environments/multigoal.py; the limit of 30
steps is from examples/multigoal_sql.py).
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
from numpy.typing import NDArray

GOALS = ((5.0, 0.0), (-5.0, 0.0), (0.0, 5.0), (0.0, -5.0))
BOUND = 7.0
THRESHOLD = 1.0


class MultiGoal(gymnasium.Env):
    """Observation: position, in [-7, 7]. Action: velocity, in [-1, 1]. An episode ends within 1 of a goal.

    Starts about the origin with a standard deviation of 0.1 (`start_deviation`). Reward: -30 |action|^2 - the squared
    distance to the nearest goal after the step, and 10 on reaching one.
    """

    start_deviation = 0.1
    observation_space = gymnasium.spaces.Box(-BOUND, BOUND, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        """Return a random position near the origin [2]."""
        super().reset(seed=seed)
        self._x, self._y = (self.start_deviation * self.np_random.standard_normal(2)).tolist()
        return np.array((self._x, self._y), np.float32), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Move by the clipped action [2]. Return position, reward and whether a goal was reached."""
        u, v = (min(max(a, -1.0), 1.0) for a in action.tolist())  # Python numbers: NumPy scalars take ten times as long
        x, y = min(max(self._x + u, -BOUND), BOUND), min(max(self._y + v, -BOUND), BOUND)
        self._x, self._y = x, y
        squared = min((x - goal_x) ** 2 + (y - goal_y) ** 2 for goal_x, goal_y in GOALS)
        reached = squared < THRESHOLD**2
        reward = -30.0 * (u * u + v * v) - squared + 10.0 * reached
        return np.array((x, y), np.float32), reward, reached, False, {}


def from_origin(env: gymnasium.Env) -> gymnasium.Env:
    """Start every episode exactly at the origin, where all goals are equally near.

    From random starts a deterministic policy reaches several goals: it goes to the nearest one.
    """
    env.unwrapped.start_deviation = 0.0  # type: ignore[attr-defined]
    return env


def goal_shares(last: NDArray[np.floating], reached: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return the shares [4] of E episodes that ended at each goal; last positions [E, 2], goal reached [E]."""
    distance = np.linalg.norm(last[:, None] - np.array(GOALS), axis=-1)
    return np.bincount(distance.argmin(1)[reached], minlength=len(GOALS)) / len(last)


SHARE_OF_A_GOAL = 0.1


def modes(actions: NDArray[np.floating]) -> int:
    """Return how many goals are modes of a policy at the origin, given K sampled actions [K, 2]; 0 to 4.

    A sector is 45 degrees wide: one around the direction of each goal, one around each diagonal. A goal is a mode if

    - its sector has at least a tenth of the actions,
    - and at least 1.5 times as many as either neighbouring diagonal's,
    - and at most a twentieth of the sector's actions are no longer than half of their median length.

    The last excludes a Gaussian about zero that is wide along one axis, because most of its density is at zero: a
    quarter of its actions are so short, and still a tenth after a tanh. An isotropic Gaussian has no mode, and a policy
    that always goes to one goal has 1.
    """
    x, y = actions.astype(np.float64).T
    sector = np.round(np.arctan2(y, x) / (np.pi / 4)).astype(int) % 8
    count, length = np.bincount(sector, minlength=8), np.hypot(x, y)

    def is_mode(at: int) -> bool:
        if count[at] < SHARE_OF_A_GOAL * len(actions) or count[at] < 1.5 * max(count[at - 1], count[at + 1]):
            return False
        lengths = length[sector == at]
        return bool((lengths <= np.median(lengths) / 2).mean() <= 0.05)

    return sum(is_mode(at) for at in range(0, 8, 2))
