"""Environments behind one contract: every vector step is one transition of every environment.

EnvPool ids are written as they are ("HalfCheetah-v5", "HumanoidWalk-v1"), any registered Gymnasium
environment, those in this package too, as "gymnasium:ID". Actions come in [-1, 1] and reach the environment in its own
bounds.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import chdir, contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, NamedTuple

import gymnasium
import numpy as np

from sac_bench.envs import (
    sources,  # which imports our tasks: they are registered in every process that has environments
)
from sac_bench.envs.contract import Checked, check_declared, leaves
from sac_bench.envs.guard import Fails, Guarded, StandIn, raise_at_once
from sac_bench.envs.output import captured
from sac_bench.errors import InputError, nearest

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
    definition: sources.Definition = field(default_factory=dict, hash=False)
    """What a user's own environment is made of."""

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

    def __init__(
        self,
        env_id: str,
        seeds: Sequence[int],
        threads: int = 1,
        wrapper: Wrapper | None = None,
        drawn: bool = False,
        idle: Collection[int] = (),
        fails: Fails = raise_at_once,
    ) -> None:
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
    with told_in_one_line(env_id, "cannot be made"):
        space, observations, limit, definition = _declared(env_id)
    check_declared(env_id, space, observations, limit)
    if not env_id.startswith(GYMNASIUM_PREFIX):  # which was made to see all this
        with told_in_one_line(env_id, "cannot be made"):
            _make(env_id, 1, [0], 1).close()
    return EnvSpec(
        id=env_id,
        backend=backend,
        observation_dim=sum(int(np.prod(leaf.shape or ())) for leaf in leaves(observations)),
        action_dim=int(np.prod(space.shape)),
        max_episode_steps=int(limit),
        action_low=tuple(space.low.astype(np.float64).flatten().tolist()),
        action_high=tuple(space.high.astype(np.float64).flatten().tolist()),
        definition=definition,
    )


def alone(env_id: str) -> gymnasium.Env:
    """One of Gymnasium's environments, wrapped as in a pool."""
    with _quiet_mujoco():
        return _one(env_id, None)


def _declared(env_id: str) -> tuple[Any, Any, Any, sources.Definition]:
    """An environment's action space, observation space, limit of steps or None, and what it is made of if a user's."""
    if env_id.startswith(GYMNASIUM_PREFIX):
        env = alone(env_id)
        definition = sources.of_environment(gymnasium.spec(env_id.removeprefix(GYMNASIUM_PREFIX)), env)
        wrong = _is_solved_wrongly(env.unwrapped)
        env.close()
        if wrong:
            raise InputError(
                f"environment {env_id!r}: MuJoCo 4.0.0's Newton solver computes wrong accelerations for models with a "
                "sparse constraint Jacobian (from 60 degrees of freedom on, if the model does not say); install "
                'another version (4.0.1 is right), or write <option jacobian="dense"/> into the model'
            )
        limit = env.spec.max_episode_steps if env.spec else None  # as registered, or of a TimeLimit of its own
        return env.action_space, env.observation_space, limit, definition
    import envpool

    spec = envpool.make_spec(env_id)  # VizDoom's write files, or crash, when they are made
    return spec.action_space, spec.observation_space, getattr(spec.config, "max_episode_steps", None), {}


def _is_solved_wrongly(env: gymnasium.Env) -> bool:
    """Whether MuJoCo 4.0.0's fault in the sparse Cholesky factorization (its issue 3767) changes an environment."""
    import mujoco

    models = [value for value in getattr(env, "__dict__", {}).values() if isinstance(value, mujoco.MjModel)]
    return mujoco.mj_versionString() == "4.0.0" and any(
        mujoco.mj_isSparse(model) and model.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON for model in models
    )


@contextmanager
def told_in_one_line(env_id: str, fault: str) -> Iterator[None]:
    """Whatever a third party's code raises is an InputError; what it prints is captured, its warnings are not shown."""
    try:
        with chdir("."), captured(env_id), warnings.catch_warnings(action="ignore"):  # it may change the folder
            yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"environment {env_id!r} {fault}: {first_line(error)}") from error


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


def first_line(error: BaseException) -> str:
    """What kind of error it is and what it says first."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


def _make(
    env_id: str,
    count: int,
    seeds: list[int],
    threads: int,
    wrapper: Wrapper | None = None,
    idle: Collection[int] = (),
    fails: Fails = raise_at_once,
    **more: Any,
) -> Any:
    if env_id.startswith(GYMNASIUM_PREFIX):
        stand_in = functools.partial(_stand_in, env_id)
        one = functools.partial(_one, env_id, wrapper, **more)
        guarded = lambda place: functools.partial(Guarded, one, stand_in, place, fails)
        with _quiet_mujoco():
            return _in_turn([stand_in if place in idle else guarded(place) for place in range(count)])
    if wrapper:
        raise ValueError(f"{env_id}: EnvPool's environments cannot be wrapped")
    import envpool

    return envpool.make_gymnasium(env_id, num_envs=count, seed=seeds, num_threads=min(threads, count), **more)


def _one(env_id: str, wrapper: Wrapper | None, **more: Any) -> Checked:
    """One of Gymnasium's environments, that is checked at every step."""
    env = gymnasium.make(env_id.removeprefix(GYMNASIUM_PREFIX), **more)
    return Checked(wrapper(env) if wrapper else env, env_id)


def _in_turn(makers: Sequence[Callable[[], Any]]) -> gymnasium.vector.SyncVectorEnv:
    """Gymnasium's environments as one, stepped one after the other."""
    return gymnasium.vector.SyncVectorEnv(makers, autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED)


@functools.cache
def _spaces(env_id: str) -> tuple[Any, Any]:
    """An environment's spaces of observations and actions."""
    actions, observations, *_ = _declared(env_id)
    return observations, actions


def _stand_in(env_id: str) -> StandIn:
    return StandIn(*_spaces(env_id))
