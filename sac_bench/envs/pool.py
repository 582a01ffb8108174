"""Environments behind one contract: every vector step is one transition of every environment.

EnvPool ids have no prefix ("HalfCheetah-v5", "HumanoidWalk-v1"). Registered Gymnasium environments, including those of
this package, are "gymnasium:ID". Actions in [-1, 1] are scaled to the environment's bounds.
"""

from __future__ import annotations

import ctypes
import functools
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import chdir, contextmanager
from typing import Any, NamedTuple

import gymnasium
import numpy as np
from gymnasium.vector.utils import concatenate, create_empty_array

from sac_bench.envs import (
    registry,  # noqa: F401 - registers our tasks in every process that has environments
    sources,
)
from sac_bench.envs.contract import Checked, check_declared, leaves
from sac_bench.envs.guard import Fails, Guarded, StandIn, raise_at_once
from sac_bench.envs.known import GYMNASIUM_PREFIX, EnvSpec, backend
from sac_bench.envs.output import captured
from sac_bench.errors import InputError, nearest

Wrapper = Callable[[gymnasium.Env], Any]
_LIBC = ctypes.CDLL(None)

# EnvPool's float64 bounds become Gymnasium's float32 spaces; we cast once ourselves.
warnings.filterwarnings("ignore", message=".*precision lowered by casting.*")


class Step(NamedTuple):
    """One vector step of K environments.

    `observation` is that for the next action, after finished environments were reset. `final_observation` is the result
    of the action, and differs from it only where an episode ended.
    """

    observation: np.ndarray  # [K, D] float32
    final_observation: np.ndarray  # [K, D] float32
    reward: np.ndarray  # [K] float32
    terminated: np.ndarray  # [K] bool
    truncated: np.ndarray  # [K] bool


class Pool:
    """K environments with a seed each, stepped together; each is reset as soon as it has finished.

    wrapper: applied to each Gymnasium environment (EnvPool's cannot be wrapped). drawn: whether `picture` is available.
    idle: indices of environments that are replaced by stand-ins from the start, if the backend supports it. An error of
    an environment is passed to `fails` (guard.py), and a stand-in replaces it. EnvPool does not report which one
    failed: all are replaced.
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
        # EnvPool takes its seeds when it is created, Gymnasium when it is reset.
        self._reset_options = {"seed": seeds} if env_id.startswith(GYMNASIUM_PREFIX) else {}
        space = _single_action_space(self._env)
        self._action_dtype, self._action_shape = space.dtype, (len(seeds), *space.shape)

    def reset(self) -> np.ndarray:
        """Reset every environment; return observations [K, D]."""
        return flatten(self._call("reset", **self._reset_options)[0])

    def step(self, action: np.ndarray) -> Step:
        """Step with actions [K, A] in [-1, 1]; the returned observation is never written to again."""
        scaled = self._spec.scaled(action).astype(self._action_dtype).reshape(self._action_shape)
        raw, reward, terminated, truncated, _ = self._call("step", scaled)
        final = flatten(raw)
        terminated, truncated = np.array(terminated, dtype=bool), np.array(truncated, dtype=bool)
        truncated &= ~terminated
        done = terminated | truncated
        observation = final
        if done.any():
            restarted, info = self._call("reset", options={"reset_mask": done})
            rows = flatten(restarted)
            observation = final.copy()
            if len(rows) == len(done):
                observation[done] = rows[done]
            else:  # EnvPool returns only the rows it reset
                observation[np.asarray(info["env_id"])] = rows
        return Step(observation, final, np.array(reward, dtype=np.float32), terminated, truncated)

    def play(self, action: np.ndarray, running: np.ndarray) -> Step:
        """Step only the environments that are `running` [K], and reset none: for one episode of each.

        Actions are [K, A] as in `step`. The rows of the other environments are zeros.
        """
        places = np.flatnonzero(running).astype(np.int32)
        scaled = self._spec.scaled(action[places]).astype(self._action_dtype).reshape(-1, *self._action_shape[1:])
        raw, *others, _ = self._call("step", scaled, places)
        observation, reward, terminated, truncated = (
            _spread(np.asarray(rows, dtype), places, len(running))
            for rows, dtype in zip((flatten(raw), *others), (np.float32, np.float32, bool, bool), strict=True)
        )
        return Step(observation, observation, reward, terminated, truncated & ~terminated)

    def _call(self, method: str, *arguments: Any, **options: Any) -> Any:
        try:
            return getattr(self._env, method)(*arguments, **options)
        except Exception as error:  # of the whole pool: Guarded handles errors of single environments
            self._env = self._all_idle(f"{method}()", error, self._action_shape[0])
            return getattr(self._env, method)(*arguments, **options)

    def _all_idle(self, method: str, error: Exception, count: int) -> Any:
        """Report all environments as failed and return stand-ins for them."""
        if isinstance(error, MemoryError):
            raise error
        for place in range(count):
            self._fails(place, method, error)
        return _in_turn([functools.partial(_stand_in, self._spec.id)] * count)

    def picture(self) -> np.ndarray:
        """Return a picture of the first environment, [height, width, 3] uint8, or raise the backend's error."""
        return np.asarray(self._env.render()[0])

    def close(self) -> None:
        """Close the environments and return their memory to the system."""
        self._env.close()
        del self._env
        if hasattr(_LIBC, "malloc_trim"):
            _LIBC.malloc_trim(0)  # glibc keeps freed memory: 100 MB after 600 pools of 20 Hoppers


def _spread(rows: np.ndarray, places: np.ndarray, count: int) -> np.ndarray:
    """Return rows [P, ...] at their places in zeros [count, ...]."""
    everywhere = np.zeros((count, *rows.shape[1:]), rows.dtype)
    everywhere[places] = rows
    return everywhere


def flatten(observation: Any) -> np.ndarray:
    """Return a batch of observations, arrays or dicts of arrays, as float32 [K, D]."""
    if isinstance(observation, dict):
        parts = [np.asarray(part, dtype=np.float32).reshape(len(part), -1) for part in observation.values()]
        return np.concatenate(parts, axis=1)
    observation = np.asarray(observation)
    return observation.reshape(len(observation), -1).astype(np.float32)


@functools.cache
def describe(env_id: str) -> EnvSpec:
    """Return an environment's properties; raise InputError if it cannot be trained on."""
    if env_id.startswith(GYMNASIUM_PREFIX):
        name = env_id.removeprefix(GYMNASIUM_PREFIX)
        module, colon, bare = name.rpartition(":")
        if colon:  # Gymnasium would import the module, but experiment files must not run code
            raise InputError(f"{env_id!r} names a module: write {GYMNASIUM_PREFIX + bare!r}, and --import {module}")
        if name not in gymnasium.registry:
            hint = nearest(name, gymnasium.registry)
            raise InputError(
                f"unknown Gymnasium environment {name!r}{hint} (user-defined ones require --import MODULE)"
            )
    else:
        known = envpool_ids()
        if env_id not in known:
            registered = f"; Gymnasium has it: 'gymnasium:{env_id}'" if env_id in gymnasium.registry else ""
            raise InputError(f"unknown environment {env_id!r}{registered or nearest(env_id, known)}")
    with errors_as_input_error(env_id, "cannot be made"):
        space, observations, limit, definition = _declared(env_id)
    check_declared(env_id, space, observations, limit)
    if not env_id.startswith(GYMNASIUM_PREFIX):  # Gymnasium's was created by _declared
        with errors_as_input_error(env_id, "cannot be made"):
            _make(env_id, 1, [0], 1).close()
    return EnvSpec(
        id=env_id,
        backend=backend(env_id),
        observation_dim=sum(int(np.prod(leaf.shape or ())) for leaf in leaves(observations)),
        action_dim=int(np.prod(space.shape)),
        max_episode_steps=int(limit),
        action_low=tuple(space.low.astype(np.float64).flatten().tolist()),
        action_high=tuple(space.high.astype(np.float64).flatten().tolist()),
        definition=definition,
    )


def alone(env_id: str) -> gymnasium.Env:
    """Create one Gymnasium environment, wrapped as in a pool."""
    with _quiet_mujoco():
        return _one(env_id, None)


def _declared(env_id: str) -> tuple[Any, Any, Any, sources.Definition]:
    """Return an environment's action space, observation space, step limit (or None) and definition."""
    if env_id.startswith(GYMNASIUM_PREFIX):
        env = alone(env_id)
        definition = sources.of_environment(gymnasium.spec(env_id.removeprefix(GYMNASIUM_PREFIX)), env)
        is_faulty = _has_solver_fault(env.unwrapped)
        env.close()
        if is_faulty:
            raise InputError(
                f"environment {env_id!r}: MuJoCo 4.0.0's Newton solver computes wrong accelerations for models with a "
                "sparse constraint Jacobian (by default from 60 degrees of freedom on); install "
                'another version (4.0.1 is correct), or write <option jacobian="dense"/> into the model'
            )
        limit = env.spec.max_episode_steps if env.spec else None  # as registered, or from its own TimeLimit
        return env.action_space, env.observation_space, limit, definition
    import envpool

    spec = envpool.make_spec(env_id)  # without creating it: VizDoom's then write files, or crash
    return spec.action_space, spec.observation_space, getattr(spec.config, "max_episode_steps", None), {}


def _has_solver_fault(env: gymnasium.Env) -> bool:
    """Return whether MuJoCo 4.0.0's fault in sparse Cholesky factorization (its issue 3767) affects an environment."""
    import mujoco

    models = [value for value in getattr(env, "__dict__", {}).values() if isinstance(value, mujoco.MjModel)]
    return mujoco.mj_versionString() == "4.0.0" and any(
        mujoco.mj_isSparse(model) and model.opt.solver == mujoco.mjtSolver.mjSOL_NEWTON for model in models
    )


@contextmanager
def errors_as_input_error(env_id: str, fault: str) -> Iterator[None]:
    """Turn any error of third-party code into an InputError, capture its output and hide its warnings."""
    try:
        with (
            chdir("."),
            captured(env_id),
            warnings.catch_warnings(action="ignore"),
        ):  # it may change the working directory
            yield
    except InputError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"environment {env_id!r} {fault}: {first_line(error)}") from error


@contextmanager
def _quiet_mujoco() -> Iterator[None]:
    """Suppress MuJoCo's warnings: it writes one per HalfCheetah, about an old file, also to ./MUJOCO_LOG.TXT."""
    import mujoco

    before = mujoco.get_mju_user_warning()
    mujoco.set_mju_user_warning(lambda message: None)
    try:
        yield
    finally:
        mujoco.set_mju_user_warning(before)


@functools.cache
def envpool_ids() -> frozenset[str]:
    """Return all ids of EnvPool."""
    import envpool

    return frozenset(envpool.list_all_envs())


def _single_action_space(env: Any) -> Any:
    return getattr(env, "single_action_space", None) or env.action_space


def first_line(error: BaseException) -> str:
    """Return an error's type and the first line of its message."""
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

        def guarded(place: int) -> Callable[[], Guarded]:
            return functools.partial(Guarded, one, stand_in, place, fails)

        with _quiet_mujoco():
            return _in_turn([stand_in if place in idle else guarded(place) for place in range(count)])
    if wrapper:
        raise ValueError(f"{env_id}: EnvPool's environments cannot be wrapped")
    import envpool

    return envpool.make_gymnasium(env_id, num_envs=count, seed=seeds, num_threads=min(threads, count), **more)


def _one(env_id: str, wrapper: Wrapper | None, **more: Any) -> Checked:
    """Create one Gymnasium environment, which is checked at every step."""
    env = gymnasium.make(env_id.removeprefix(GYMNASIUM_PREFIX), **more)
    return Checked(wrapper(env) if wrapper else env, env_id)


class _InTurn(gymnasium.vector.SyncVectorEnv):
    """Gymnasium environments that are stepped one after the other."""

    def step(self, actions: np.ndarray, env_id: np.ndarray | None = None) -> Any:
        """Step all environments, or those with these indices [P] and return their rows, as EnvPool does."""
        if env_id is None:
            return super().step(actions)
        stepped = [self.envs[k].step(action) for k, action in zip(env_id, actions, strict=True)]
        raw, reward, terminated, truncated, _ = zip(*stepped, strict=True)
        space = self.single_observation_space
        observation = concatenate(space, raw, create_empty_array(space, len(stepped)))  # type: ignore[arg-type]
        return observation, np.array(reward), np.array(terminated), np.array(truncated), {}


def _in_turn(makers: Sequence[Callable[[], Any]]) -> _InTurn:
    return _InTurn(makers, autoreset_mode=gymnasium.vector.AutoresetMode.DISABLED)


@functools.cache
def _spaces(env_id: str) -> tuple[Any, Any]:
    """Return an environment's observation and action space."""
    actions, observations, *_ = _declared(env_id)
    return observations, actions


def _stand_in(env_id: str) -> StandIn:
    return StandIn(*_spaces(env_id))
