"""Replace an environment that raises by a stand-in, so that the others of its pool continue."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, create_empty_array, iterate
from typing_extensions import override

from sac_bench.errors import InputError, one_line

Raised = (Exception, SystemExit)
"""Errors of an environment. MemoryError is excluded: it concerns the process, and a restart may fix it."""
Fails = Callable[[int, str, BaseException], None]
"""Called with an environment's index in its pool, the method, and the error; may raise itself."""


def raise_at_once(place: int, method: str, error: BaseException) -> None:
    """Raise the error, for pools that require every environment."""
    if isinstance(error, SystemExit):  # would end the command without a message
        raise RuntimeError(f"the environment's {method} calls sys.exit({error.code!r})") from error
    raise error


class Stop(NamedTuple):
    """Why one member of a cohort stops while the others continue."""

    status: str
    """"failed" or "diverged"."""
    step: int
    reason: str
    log: str = ""
    """Details of more than one line, such as a traceback."""


def failed(error: BaseException, method: str, step: int, where: str) -> Stop:
    """Return the stop of a member whose environment raised."""
    reason = f"{in_full(error)} (environment's {method}, {where}, step {step})"
    log = "".join(traceback.format_exception(error)).encode(errors="backslashreplace").decode()
    return Stop("failed", step, reason, log)


def diverged(step: int, what: str) -> Stop:
    """Return the stop of a member of which `what` was the first to be non-finite."""
    return Stop("diverged", step, f"NaN or infinity at step {step}: {what}")


def in_full(error: BaseException) -> str:
    """Return an exception's name (unless it is InputError) and whole message, in one line."""
    name = "" if isinstance(error, InputError) else type(error).__name__
    try:
        message = " ".join(str(error).split())
    except Exception:  # of a user-defined exception
        message = "(its message cannot be read)"
    return one_line(": ".join(filter(None, (name, message))))


class StandIn(gymnasium.Env):
    """An environment whose observations and rewards are zero and whose episodes never end."""

    def __init__(self, observations: spaces.Space, actions: spaces.Space) -> None:
        self.observation_space, self.action_space = observations, actions
        self._zeros = next(iterate(batch_space(observations), create_empty_array(observations)))

    @override
    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._zeros, {}

    @override
    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._zeros, 0.0, False, False, {}


class Guarded(gymnasium.Wrapper):
    """An environment with empty infos; once it raises, `fails` is called and a stand-in replaces it."""

    def __init__(self, make: Callable[[], Any], stand_in: Callable[[], StandIn], place: int, fails: Fails) -> None:
        self._stand_in, self._place, self._fails = stand_in, place, fails
        try:
            env = make()
        except MemoryError:
            raise
        except Raised as error:
            fails(place, "__init__()", error)
            env = stand_in()
        super().__init__(env)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode. If that raises, `fails` is called and the stand-in's zeros are returned."""
        try:
            observation, _ = self.env.reset(seed=seed, options=options)
        except MemoryError:
            raise
        except Raised as error:
            self._replace("reset()", error)
            return self.env.reset()
        return observation, {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Make a step. If that raises, `fails` is called and the stand-in's zeros are returned."""
        try:
            observation, reward, terminated, truncated, _ = self.env.step(action)
        except MemoryError:
            raise
        except Raised as error:
            self._replace("step()", error)
            return self.env.step(action)
        return observation, reward, terminated, truncated, {}

    def close(self) -> None:
        """Close the environment; an error is only logged, since it does not affect the results."""
        try:
            self.env.close()
        except Raised as error:
            print(f"environment {self._place} did not close: {type(error).__name__}: {error}", file=sys.stderr)

    def _replace(self, method: str, error: BaseException) -> None:
        self._fails(self._place, method, error)
        with contextlib.suppress(*Raised):
            self.env.close()
        self.env = self._stand_in()
