"""The environments of the shipped experiments, so that reading an experiment's file imports no simulator.

`properties` and `check` answer from this table, for the versions of the packages that it names. They ask any other
environment, as `pool.describe` and `checking.check` do, which imports EnvPool, Gymnasium and MuJoCo.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version

import numpy as np

from sac_bench.envs import sources
from sac_bench.errors import InputError

GYMNASIUM_PREFIX = "gymnasium:"
BACKENDS = {"envpool": "EnvPool", "gymnasium": "Gymnasium"}
"""{backend as files name it: as readers do}."""


@dataclass(frozen=True)
class EnvSpec:
    """An environment's properties, for training and for the record."""

    id: str
    backend: str
    observation_dim: int
    action_dim: int
    max_episode_steps: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    definition: sources.Definition = field(default_factory=dict, hash=False)
    """The sources of a user-defined environment; empty for others."""

    def scaled(self, action: np.ndarray) -> np.ndarray:
        """Scale actions [..., A] from [-1, 1] to the environment's bounds, clipped, in float64."""
        low, high = self._bounds
        return np.clip(low + (action.astype(np.float64) + 1) / 2 * (high - low), low, high)

    @functools.cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.action_low), np.array(self.action_high)


def _row(env_id: str, observation_dim: int, action_dim: int, steps: int = 1000, bound: float = 1.0) -> EnvSpec:
    backend = "gymnasium 1.4.0, mujoco 4.0.0" if env_id.startswith(GYMNASIUM_PREFIX) else "envpool 1.2.5"
    low, high = (-bound,) * action_dim, (bound,) * action_dim
    return EnvSpec(env_id, backend, observation_dim, action_dim, steps, low, high)


MULTIGOAL = "gymnasium:MultiGoal-v0"
_ROWS = (
    _row("Ant-v5", 105, 8),
    _row("HalfCheetah-v5", 17, 6),
    _row("Hopper-v5", 11, 3),
    _row("Humanoid-v5", 348, 17, bound=0.4),
    _row("Walker2d-v5", 17, 6),
    _row("HumanoidRun-v1", 95, 21),
    _row("HumanoidStand-v1", 95, 21),
    _row("HumanoidWalk-v1", 95, 21),
    _row("BipedalWalker-v3", 24, 4, steps=1600),
    _row("gymnasium:HalfCheetah-v5", 17, 6),
    _row("gymnasium:HeavyHalfCheetah-v5", 17, 6),
    _row(MULTIGOAL, 2, 2, steps=30),
)
KNOWN = {row.id: row for row in _ROWS}
WITH_MASSES = ("Ant-v5", "HalfCheetah-v5", "Hopper-v5", "Humanoid-v5", "Walker2d-v5")
"""Those whose masses can be changed in Gymnasium's environment of the same name."""


def backend_of(env_id: str) -> str:
    """Return which of BACKENDS simulates an environment."""
    return "gymnasium" if env_id.startswith(GYMNASIUM_PREFIX) else "envpool"


def task_of(env_id: str) -> str:
    """Return an environment's id without its backend: the same task has the same one on both."""
    return env_id.removeprefix(GYMNASIUM_PREFIX)


def on_backend(task: str, backend: str) -> str:
    """Return the id of a task's environment on one of BACKENDS."""
    return GYMNASIUM_PREFIX + task if backend == "gymnasium" else task


def by_task(env_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Return {task: those of some environments that are of it}, in their order."""
    tasks: dict[str, tuple[str, ...]] = {}
    for env in env_ids:
        tasks[task_of(env)] = (*tasks.get(task_of(env), ()), env)
    return tasks


def properties(env_id: str) -> EnvSpec:
    """Return an environment's properties; raise InputError if it cannot be trained on."""
    if known := _known(env_id):
        return known
    from sac_bench.envs.pool import describe

    return describe(env_id)


def check(env_id: str) -> None:
    """Raise InputError if an environment cannot be trained on."""
    if _known(env_id):
        return
    from sac_bench.envs import checking

    checking.check(env_id)


def check_masses(env_id: str) -> None:
    """Raise InputError unless the environment's masses can be changed (`heavy.with_masses`)."""
    if _known(env_id) and env_id in WITH_MASSES:
        return
    from sac_bench.envs.heavy import with_masses

    with_masses(env_id)


def check_goals(env_id: str) -> None:
    """Raise InputError unless the environment is MultiGoal-v0, the only one with goals to count."""
    if env_id != MULTIGOAL:
        raise InputError(f"{env_id}: goals are counted in {MULTIGOAL} only")


def _known(env_id: str) -> EnvSpec | None:
    """Return an environment's row, or None if the environment may have other properties."""
    row = KNOWN.get(env_id)
    if row is None or row.backend != backend(env_id):
        return None
    if env_id.startswith(GYMNASIUM_PREFIX) and "gymnasium" in sys.modules:
        return None  # a user's module may have registered another environment under this id
    return row


@functools.cache
def _version(package: str) -> str:
    return version(package)


def backend(env_id: str) -> str:
    """Return the packages that simulate an environment, with their versions."""
    if env_id.startswith(GYMNASIUM_PREFIX):
        return f"gymnasium {_version('gymnasium')}, mujoco {_version('mujoco')}"
    return f"envpool {_version('envpool')}"
