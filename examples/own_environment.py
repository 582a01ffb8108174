"""A custom environment: move a point on a line to 0.

sac-bench run my.toml --import own_environment      with envs = ["gymnasium:Reach-v0"] in my.toml
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np


class Reach(gymnasium.Env):
    """Observation: the place, in [-2, 2]. Action: a step in [-0.5, 0.5]. Reward: minus the distance from 0."""

    metadata: ClassVar[dict[str, Any]] = {"render_modes": []}

    def __init__(self) -> None:
        self.observation_space = gymnasium.spaces.Box(-2.0, 2.0, (1,), np.float32)
        self.action_space = gymnasium.spaces.Box(-0.5, 0.5, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict]:
        super().reset(seed=seed)  # all random numbers must come from self.np_random
        self.place = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.place.copy(), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        self.place = np.clip(self.place + action, -2, 2).astype(np.float32)
        return self.place.copy(), -float(abs(self.place[0])), False, False, {}


gymnasium.register("Reach-v0", entry_point=Reach, max_episode_steps=20)
