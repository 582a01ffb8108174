"""The point that may go to any of four goals, of arXiv 1702.08165, section 5.1: its four best paths are equally good.

Constants are the authors' (github haarnoja/softqlearning 6f51eac, environments/multigoal.py).
"""

from __future__ import annotations

import gymnasium
import numpy as np

GOALS = np.array([[5.0, 0.0], [-5.0, 0.0], [0.0, 5.0], [0.0, -5.0]])


class MultiGoal(gymnasium.Env):
    """Observation: position. Action: velocity. An episode ends within 1 of a goal."""

    observation_space = gymnasium.spaces.Box(-7, 7, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.at = 0.1 * self.np_random.standard_normal(2)
        return self.at.astype(np.float32), {}

    def step(self, action: np.ndarray):
        self.at = np.clip(self.at + action, -7, 7)
        distance = np.linalg.norm(GOALS - self.at, axis=1).min()
        reached = bool(distance < 1)
        reward = -30 * float((action**2).sum()) - float(distance) ** 2 + 10 * reached
        return self.at.astype(np.float32), reward, reached, False, {}
