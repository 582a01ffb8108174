"""Checks of an environment's declared spaces, and of the return values of a Gymnasium environment."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

from sac_bench.errors import InputError

MAX_EPISODE_STEPS = 100_000
"""Evaluations play whole episodes, and a random policy's score takes 100 of them."""
MAX_ACTION = 1e9
"""Larger bounds are placeholders for no bounds: uniform actions within them would be useless."""
_PARTS = {
    "reset": ("observation", "info"),
    "step": ("observation", "reward", "terminated", "truncated", "info"),
}
_FINITE_BOUNDS = (
    "declare the bounds that matter, in the environment or by wrapping it in gymnasium.wrappers.TransformAction(env, "
    "lambda action: action, gymnasium.spaces.Box(-1, 1, env.action_space.shape))"
)


def check_declared(env_id: str, actions: Any, observations: Any, limit: int | None) -> None:
    """Raise InputError unless an environment with these spaces and this step limit can be trained on."""
    where = f"environment {env_id!r}"
    if not isinstance(actions, spaces.Box):
        raise InputError(f"{where} has {type(actions).__name__} actions; only continuous ones are supported")
    if not np.issubdtype(actions.dtype, np.floating):
        raise InputError(
            f"{where} has actions of type {actions.dtype}; only continuous ones are supported: declare a Box of "
            "float32, and round in step() if the environment requires whole numbers"
        )
    for leaf in leaves(observations):
        if not isinstance(leaf, spaces.Box) or len(leaf.shape) > 2 or leaf.dtype == np.uint8:
            raise InputError(f"{where} observes {leaf}; only vectors of numbers are supported")
    if not sum(int(np.prod(leaf.shape)) for leaf in leaves(observations)):
        raise InputError(f"{where} observes nothing; at least one number is required")
    if not actions.low.size:
        raise InputError(f"{where} has actions of shape {actions.shape}; at least one number is required")
    bound = float(np.maximum(np.abs(actions.low), np.abs(actions.high)).max())
    if not bound <= MAX_ACTION:
        kind = "unbounded actions" if np.isinf(bound) else f"action bounds of {bound:.3g}, effectively unbounded"
        raise InputError(f"{where} has {kind}: {_FINITE_BOUNDS}")
    if not limit:
        raise InputError(
            f"{where} declares no max_episode_steps: register it with gymnasium.register(..., max_episode_steps=N), "
            "or wrap it in gymnasium.wrappers.TimeLimit"
        )
    if limit > MAX_EPISODE_STEPS:
        raise InputError(
            f"{where} declares max_episode_steps = {limit:,}; at most {MAX_EPISODE_STEPS:,} are supported, because an "
            "evaluation plays whole episodes: register it with fewer, gymnasium.register(..., max_episode_steps=N)"
        )


def leaves(observations: Any) -> list[Any]:
    """Return the spaces whose observations are concatenated to one vector, in that order."""
    return list(observations.values()) if isinstance(observations, spaces.Dict) else [observations]


class Checked(gymnasium.Wrapper):
    """A wrapper that returns observations of the declared type, rewards and flags as Python scalars, and empty infos.

    Raises InputError, with what was returned and what is required, if a return value is not as declared.
    """

    def __init__(self, env: gymnasium.Env, env_id: str) -> None:
        super().__init__(env)
        self._id, self._space = env_id, env.observation_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode. Return its first observation and an empty info."""
        result = self.env.reset(seed=seed, options=options)
        check_parts(self._id, "reset", result)
        return self._observation("reset", result[0]), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Return the observation, the reward, whether the episode terminated or was truncated, and an empty info."""
        result = self.env.step(action)
        check_parts(self._id, "step", result)
        observation, reward, terminated, truncated, _ = result
        return (
            self._observation("step", observation),
            float(self._scalar("reward", reward)),
            bool(self._scalar("terminated", terminated)),
            bool(self._scalar("truncated", truncated)),
            {},
        )

    def _observation(self, method: str, observation: Any) -> Any:
        space = self._space
        if not isinstance(space, spaces.Dict):
            return self._leaf(method, "observation", observation, space)
        keys = list(observation) if isinstance(observation, Mapping) else None
        if keys is None or not set(space) <= set(keys):
            form = _form(observation) if keys is None else f"a dict with the keys {keys}"
            raise _fault(self._id, method, "observation", form, f"a dict with the keys {list(space)}")
        return {key: self._leaf(method, f"observation[{key!r}]", observation[key], leaf) for key, leaf in space.items()}

    def _leaf(self, method: str, part: str, value: Any, leaf: Any) -> np.ndarray:
        if type(value) is np.ndarray and value.shape == leaf.shape and value.dtype == leaf.dtype:
            return value
        array = _as_array(value)
        if array is None or array.shape != leaf.shape or not np.can_cast(array.dtype, leaf.dtype, "same_kind"):
            declared = f"an array of shape {leaf.shape} and type {leaf.dtype}, as its observation_space declares"
            raise _fault(self._id, method, part, _form(value), declared)
        return array.astype(leaf.dtype)

    def _scalar(self, part: str, value: Any) -> float | bool:
        if type(value) in (float, bool):
            return value
        array = _as_array(value)
        if array is None or array.size != 1 or array.dtype.kind not in "biuf":
            must = "one number" if part == "reward" else "True or False"
            raise _fault(self._id, "step", part, _form(value), must)
        return array.item()


def check_parts(env_id: str, method: str, result: Any) -> None:
    """Raise InputError unless this is the tuple that `reset` or `step` must return."""
    parts = _PARTS[method]
    if not isinstance(result, tuple) or len(result) != len(parts):
        form = f"a tuple of {len(result)}" if isinstance(result, tuple) else _form(result)
        raise InputError(f"environment {env_id!r}: {method}() returned {form}; it must be a tuple ({', '.join(parts)})")


def _fault(env_id: str, method: str, part: str, form: str, must: str) -> InputError:
    return InputError(f"environment {env_id!r}: {method}() returned as {part} {form}; it must be {must}")


def _as_array(value: Any) -> np.ndarray | None:
    """Return the value as an array, or None if it is not an array of numbers."""
    try:
        array = np.asarray(value)
    except Exception:  # a library's tensor, or a list whose rows differ in length
        return None
    return array if array.dtype.kind in "biufc" else None


def _form(value: Any) -> str:
    """Describe a value in an error message."""
    array = _as_array(value)
    if array is None:
        return f"{value!r:.60} of type {type(value).__name__}"
    if isinstance(value, (int, float)):
        return repr(value)
    return f"an array of shape {array.shape} and type {array.dtype}"
