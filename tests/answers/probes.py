"""Environments so small that their values are known, and runs of the real trainer on them.

The idea of probe environments is Andy Jones's ("Debugging RL, without the agonizing pain"); rejax tests with them.
Observation and action are one number each; the action is in [-1, 1].
"""

from __future__ import annotations

from typing import Any, ClassVar

import gymnasium
import numpy as np
import torch
from torch.utils._pytree import tree_map

from sac_bench.algorithms import ALGORITHMS, critics, sac
from sac_bench.spec.run import RunSpec
from sac_bench.training.trainer import Trainer


class Probe(gymnasium.Env):
    """A walk over observations; each probe says where it starts, what an action leads to, and its reward."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None):
        super().reset(seed=seed)
        self.at = self.start()
        return np.array([self.at], dtype=np.float32), {}

    def step(self, action: np.ndarray):
        self.at, reward, terminated = self.follow(self.at, float(action[0]))
        return np.array([self.at], dtype=np.float32), reward, terminated, False, {}

    def start(self) -> float:
        return 0.0

    def follow(self, at: float, action: float) -> tuple[float, float, bool]:
        """(observation, action) -> next observation, reward, whether the episode terminates."""
        raise NotImplementedError


class ConstantReward(Probe):
    """One step, reward 1: Q = 1."""

    def follow(self, at, action):
        return at, 1.0, True


class LaterReward(Probe):
    """Reward 1 after the second step: Q(1) = 1, Q(0) = gamma (1 + the entropy bonus of observation 1)."""

    def follow(self, at, action):
        return at + 1, float(at), at > 0


class RewardOfAction(Probe):
    """One step, reward 1 - (a - 0.5)^2: the best action is 0.5."""

    def follow(self, at, action):
        return at, 1 - (action - 0.5) ** 2, True


class RewardOfObservation(Probe):
    """One step from -1 or 1, reward as observed: Q(o) = o."""

    def start(self):
        return float(self.np_random.choice([-1.0, 1.0]))

    def follow(self, at, action):
        return at, at, True


class Stairs(Probe):
    """x' = min(1, x + 0.25), reward x'; starts anywhere on {0, 0.25, ..., 1}. A limit of four steps truncates it.

    Q(x) = sum_k gamma^k min(1, x + 0.25 (k + 1)), the limit notwithstanding. Bootstrapping from the observation
    after the reset, or not at all at the limit, gives other numbers.
    """

    step_size: ClassVar[float] = 0.25

    def start(self):
        return self.step_size * float(self.np_random.integers(5))

    def follow(self, at, action):
        following = min(1.0, at + self.step_size)
        return following, following, False


class EndingStairs(Stairs):
    """The same, terminated on reaching 1: nothing follows. Q(x) sums to the first 1."""

    def start(self):
        return self.step_size * float(self.np_random.integers(4))

    def follow(self, at, action):
        following, reward, _ = super().follow(at, action)
        return following, reward, following >= 1


def register(probe: type[gymnasium.Env], limit: int) -> str:
    """Our id of a probe, cut (truncated) after `limit` steps."""
    name = f"probes/{probe.__name__}-v0"
    if name not in gymnasium.registry:
        gymnasium.register(name, probe, max_episode_steps=limit)
    return f"gymnasium:{name}"


class Answers:
    """Members of one cohort, trained: what they learned, for one member, as functions of numbers.

    The parameters are their mean over the last quarter of the updates (Polyak & Juditsky 1992): the last ones alone
    swing about the answer with the noise of their batches.
    """

    def __init__(
        self, env: str, members: list[dict[str, Any]], updates: int, algorithm: str = "sac", **shared: Any
    ) -> None:
        config = ALGORITHMS[algorithm].config
        settings = {
            "layers": [32, 32],
            "activation": "tanh",
            "batch_size": 64,
            "num_envs": 16,
            "utd": 0.25,
            "learning_starts": 1600,
            "learn_temperature": False,
            "temperature": 0.0,
            "gamma": 0.5,
            "tau": 0.05,
            "actor_lr": 3e-3,
            "critic_lr": 3e-3,
            "value_lr": 3e-3,
            "temperature_lr": 3e-3,
            "eval_episodes": 1,
            "eval_every": 160,
        }
        settings = {name: value for name, value in settings.items() if name in config.model_fields} | shared
        steps = settings["learning_starts"] + int(updates / settings["utd"])
        specs = [RunSpec(algorithm, config.model_validate(settings | member), env, seed=0) for member in members]
        trainer = Trainer(specs, steps, compiled=False)
        late: list[Any] = []
        while trainer.steps < steps:
            trainer.train()
            if trainer.progress.updates > 0.75 * updates:
                late.append(tree_map(torch.clone, trainer.cohort.state["params"]))
        trainer.close()
        assert trainer.progress.updates == updates
        self._means = tree_map(lambda *leaves: torch.stack(leaves).mean(0), *late)
        self._nets = trainer.cohort.learner.update.args[0]

    def _params(self, member: int) -> dict[str, Any]:
        return tree_map(lambda leaf: leaf[member], self._means)

    def q(self, member: int, observation: Any, action: Any) -> np.ndarray:
        """The critics' mean of observations [B] and actions [B] (or one for all)."""
        s, a = np.broadcast_arrays(np.asarray(observation, np.float32), np.asarray(action, np.float32))
        s, a = (torch.from_numpy(np.ascontiguousarray(x)).reshape(-1, 1) for x in (s, a))
        return critics.q_values(self._nets, self._params(member)["critic"], s, a).mean(0).numpy()

    def v(self, member: int, observation: Any) -> np.ndarray:
        s = torch.as_tensor(np.asarray(observation, np.float32)).reshape(-1, 1)
        return sac.v_values(self._nets, self._params(member)["value"], s).numpy()

    def gaussian(self, member: int, observation: Any) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of the Gaussian before the squashing, [B] each."""
        s = torch.as_tensor(np.asarray(observation, np.float32)).reshape(-1, 1)
        mean, log_std = self._nets.forward(self._params(member)["actor"], s).unbind(-1)
        return mean.numpy(), log_std.exp().numpy()

    def action(self, member: int, observation: Any) -> np.ndarray:
        """The action [B] of a deterministic policy."""
        s = torch.as_tensor(np.asarray(observation, np.float32)).reshape(-1, 1)
        return self._nets.forward(self._params(member)["actor"], s).tanh().squeeze(-1).numpy()

    def alpha(self, member: int) -> float:
        return float(self._params(member)["temperature"].exp())
