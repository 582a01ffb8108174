"""Environments behind one contract: every vector step is one transition of every environment.

EnvPool ids are written as they are ("HalfCheetah-v5", "HumanoidWalk-v1"), any registered Gymnasium
environment, those in tasks/ too, as "gymnasium:ID". Actions come in [-1, 1] and reach the environment in its own
bounds.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium import spaces

import sac_bench.tasks  # noqa: F401 - registers them, in every process that has environments
from sac_bench.errors import InputError, nearest
from sac_bench.training.guard import Fails, Guarded, StandIn, raise_at_once

GYMNASIUM_PREFIX = "gymnasium:"
Wrapper = Callable[[gymnasium.Env], Any]
_LIBC = ctypes.CDLL(None)

# EnvPool's float64 bounds become Gymnasium's float32 spaces; we cast once ourselves.
warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")


@dataclass(frozen=True)
class EnvSpec:
    """What the trainer and the record need to know of an environment."""

    id: str
    backend: str
    observation_dim: int
    action_dim: int
    max_episode_steps: int
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]

    def scaled(self, action: np.ndarray) -> np.ndarray:
        """Actions [..., A] in [-1, 1] -> float64 in the environment's own bounds, clipped to them."""
        low, high = self._bounds
        return np.clip(low + (action.astype(np.float64) + 1) / 2 * (high - low), low, high)

    @functools.cached_property
    def _bounds(self) -> tuple[np.ndarray, np.ndarray]:
        return np.array(self.action_low), np.array(self.action_high)


class Step(NamedTuple):
    """One vector step of K environments. `observation` is what to act on next, after the reset of the finished
    ones; `final_observation` is what the action led to, and differs from it only where an episode ended."""

    observation: np.ndarray  # [K, D] float32
    final_observation: np.ndarray  # [K, D] float32
    reward: np.ndarray  # [K] float32
    terminated: np.ndarray  # [K] bool
    truncated: np.ndarray  # [K] bool


class Pool:
    """K environments with a seed each, stepped together; finished ones are reset at once and alone.

    wrapper: what each of Gymnasium's environments is changed by (EnvPool's cannot be). One that is `drawn` can give
    pictures of itself. Those at the places `idle` stand still from the start, where the backend can do that.
    What an environment raises goes to `fails` (guard.py), and it stands still from then on. EnvPool's cannot be told
    apart: all of them do.
    """

    def __init__(self, env_id: str, seeds: Sequence[int], threads: int = 1, wrapper: Wrapper | None = None,
                 drawn: bool = False, idle: Collection[int] = (), fails: Fails = raise_at_once) -> None:  # fmt: skip
        seeds = [int(seed) for seed in seeds]
        self._spec, self._fails = describe(env_id), fails
        more = {"render_mode": "rgb_array"} if drawn else {}
        try:
            self._env = _make(env_id, len(seeds), seeds, threads, wrapper, idle, fails, **more)
        except Exception as error:
            self._env = self._all_idle("__init__()", error, len(seeds))
        # EnvPool takes its seeds when it is made, Gymnasium when it is reset.
        self._reset_options = {"seed": seeds} if env_id.startswith(GYMNASIUM_PREFIX) else {}
        space = _single_action_space(self._env)
        self._action_dtype, self._action_shape = space.dtype, (len(seeds), *space.shape)

    def reset(self) -> np.ndarray:
        """Start every environment: observations [K, D]."""
        return flatten(self._ask("reset", **self._reset_options)[0])

    def step(self, action: np.ndarray) -> Step:
        """Take actions [K, A] in [-1, 1]; the observation returned is never written to again."""
        scaled = self._spec.scaled(action).astype(self._action_dtype).reshape(self._action_shape)
        raw, reward, terminated, truncated, _ = self._ask("step", scaled)
        final = flatten(raw)
        terminated, truncated = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        truncated &= ~terminated
        done = terminated | truncated
        observation = final
        if done.any():
            restarted, info = self._ask("reset", options={"reset_mask": done})
            rows = flatten(restarted)
            observation = final.copy()
            if len(rows) == len(done):
                observation[done] = rows[done]
            else:  # EnvPool returns only the rows it reset
                observation[np.asarray(info["env_id"])] = rows
        return Step(observation, final, np.array(reward, dtype=np.float32), terminated, truncated)

    def _ask(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self._env, method)(*arguments, **options)
        except Exception as error:  # of all together: of one alone it is told where that is made
            self._env = self._all_idle(f"{method}()", error, self._action_shape[0])
            return getattr(self._env, method)(*arguments, **options)

    def _all_idle(self, method: str, error: Exception, count: int) -> Any:
        """Stand-ins for all environments, which have all failed."""
        if isinstance(error, MemoryError):
            raise error
        for place in range(count):
            self._fails(place, method, error)
        return _in_turn([functools.partial(_stand_in, self._spec.id)] * count)

    def picture(self) -> np.ndarray:
        """The first environment as it is now, [height, width, 3] uint8; the backend's own error where it cannot."""
        return np.asarray(self._env.render()[0])

    def close(self) -> None:
        """End the environments and give their memory back to the system."""
        self._env.close()
        del self._env
        if hasattr(_LIBC, "malloc_trim"):
            _LIBC.malloc_trim(0)  # glibc keeps what is freed: without this 600 pools of 20 Hoppers keep 100 MB


def flatten(observation: Any) -> np.ndarray:
    """A batch of observations, arrays or dicts of arrays, as float32 [K, D]."""
    if isinstance(observation, dict):
        parts = [np.asarray(part, dtype=np.float32).reshape(len(part), -1) for part in observation.values()]
        return np.concatenate(parts, axis=1)
    observation = np.asarray(observation)
    return observation.reshape(len(observation), -1).astype(np.float32)


@functools.cache
def describe(env_id: str) -> EnvSpec:
    """An environment's dimensions, limits and backend version; InputError when it cannot be trained on."""
    if env_id.startswith(GYMNASIUM_PREFIX):
        name = env_id.removeprefix(GYMNASIUM_PREFIX)
        module, colon, bare = name.rpartition(":")
        if colon:  # Gymnasium would import it, and what a file says is never run
            raise InputError(f"{env_id!r} names a module: write {GYMNASIUM_PREFIX + bare!r}, and --import {module}")
        if name not in gymnasium.registry:
            hint = nearest(name, gymnasium.registry)
            raise InputError(f"unknown Gymnasium environment {name!r}{hint} (one's own needs --import MODULE)")
        backend = f"gymnasium {version('gymnasium')}, mujoco {version('mujoco')}"
    else:
        known = envpool_ids()
        if env_id not in known:
            registered = f"; Gymnasium has it: 'gymnasium:{env_id}'" if env_id in gymnasium.registry else ""
            raise InputError(f"unknown environment {env_id!r}{registered or nearest(env_id, known)}")
        backend = f"envpool {version('envpool')}"
    with _told_in_one_line(env_id):
        space, observations, limit = _declared(env_id)
    if not isinstance(space, spaces.Box):
        raise InputError(f"environment {env_id!r} has {type(space).__name__} actions; only continuous ones are "
                         "supported")  # fmt: skip
    if not (np.isfinite(space.low).all() and np.isfinite(space.high).all()):
        raise InputError(f"environment {env_id!r} has unbounded actions; wrap it in RescaleAction")
    leaves = observations.values() if isinstance(observations, spaces.Dict) else [observations]
    for leaf in leaves:
        if not isinstance(leaf, spaces.Box) or len(leaf.shape) > 2 or leaf.dtype == np.uint8:
            raise InputError(f"environment {env_id!r} observes {leaf}; only vectors of numbers are supported")
    if not limit:
        raise InputError(f"environment {env_id!r} declares no max_episode_steps; register it with one")
    if not env_id.startswith(GYMNASIUM_PREFIX):  # which was made to see all this
        with _told_in_one_line(env_id):
            _make(env_id, 1, [0], 1).close()
    return EnvSpec(
        id=env_id,
        backend=backend,
        observation_dim=sum(int(np.prod(leaf.shape or ())) for leaf in leaves),
        action_dim=int(np.prod(space.shape)),
        max_episode_steps=int(limit),
        action_low=tuple(space.low.astype(np.float64).flatten().tolist()),
        action_high=tuple(space.high.astype(np.float64).flatten().tolist()),
    )


@functools.cache
def _declared(env_id: str) -> tuple[Any, Any, int | None]:
    """An environment's action space, observation space and limit of steps."""
    if env_id.startswith(GYMNASIUM_PREFIX):
        with _quiet_mujoco():
            env = _one(env_id.removeprefix(GYMNASIUM_PREFIX), None)
        env.close()
        return env.action_space, env.observation_space, env.spec.max_episode_steps
    import envpool

    spec = envpool.make_spec(env_id)  # VizDoom's write files, or crash, when they are made
    return spec.action_space, spec.observation_space, getattr(spec.config, "max_episode_steps", None)


@contextmanager
def _told_in_one_line(env_id: str) -> Iterator[None]:
    """Whatever a third-party constructor raises is an InputError, and its warnings are not shown."""
    try:
        with chdir("."), warnings.catch_warnings(action="ignore"):  # it may change the folder
            yield
    except Exception as error:
        raise InputError(f"environment {env_id!r} cannot be made: {first_line(error)}") from error


@contextmanager
def _quiet_mujoco() -> Iterator[None]:
    """Its compiler says of each HalfCheetah, on standard error and in ./MUJOCO_LOG.TXT, that the file is an old one."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


@functools.cache
def envpool_ids() -> frozenset[str]:
    """Every id EnvPool knows."""
    import envpool

    return frozenset(envpool.list_all_envs())


def _single_action_space(env: Any) -> Any:
    return getattr(env, "single_action_space", None) or env.action_space


def first_line(error: Exception) -> str:
    """What kind of error it is and what it says first."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _make(env_id: str, count: int, seeds: list[int], threads: int, wrapper: Wrapper | None = None,
          idle: Collection[int] = (), fails: Fails = raise_at_once, **more: Any) -> Any:  # fmt: skip
    if env_id.startswith(GYMNASIUM_PREFIX):
        stand_in = functools.partial(_stand_in, env_id)
        one = functools.partial(_one, env_id.removeprefix(GYMNASIUM_PREFIX), wrapper, **more)
        guarded = lambda place: functools.partial(Guarded, one, stand_in, place, fails)
        with _quiet_mujoco():
            return _in_turn([stand_in if place in idle else guarded(place) for place in range(count)])
    if wrapper:
        raise ValueError(f"{env_id}: EnvPool's environments cannot be wrapped")
    import envpool

    return envpool.make_gymnasium(env_id, num_envs=count, seed=seeds, num_threads=min(threads, count), **more)


def _one(name: str, wrapper: Wrapper | None, **more: Any) -> Any:
    """One of Gymnasium's environments."""
    env = gymnasium.make(name, **more)
    return wrapper(env) if wrapper else env


def _in_turn(makers: Sequence[Callable[[], Any]]) -> gymnasium.vector.SyncVectorEnv:
    """Gymnasium's environments as one, stepped one after the other."""
    return gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED)


def _stand_in(env_id: str) -> StandIn:
    actions, observations, _ = _declared(env_id)
    return StandIn(observations, actions)
