"""An environment that raises is replaced by one that stands still, so that the others of its pool go on."""

from __future__ import annotations

import contextlib
import sys
import traceback
from collections.abc import Callable
from typing import Any, NamedTuple

import gymnasium
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, create_empty_array, iterate

from sac_bench.errors import InputError, one_line

Raised = (Exception, SystemExit)
"""What an environment may raise, beside MemoryError: that is the process's trouble, which starting again may cure."""
Fails = Callable[[int, str, BaseException], None]
"""Called with the place of an environment in its pool, its method, and what that raised; may raise itself."""


def raise_at_once(place: int, method: str, error: BaseException) -> None:
    """For pools in which no environment can be spared."""
    if isinstance(error, SystemExit):  # which would end the command without a word
        raise RuntimeError(f"the environment's {method} calls sys.exit({error.code!r})") from error
    raise error


class Stop(NamedTuple):
    """Why one member of a cohort ends while the others go on."""

    status: str
    """"failed" or "diverged"."""
    step: int
    reason: str
    log: str = ""
    """More than a line, where there is more to say."""


def failed(error: BaseException, method: str, step: int, where: str) -> Stop:
    """The stop of a member whose environment raised."""
    reason = f"{in_full(error)} (environment's {method}, {where}, step {step})"
    log = "".join(traceback.format_exception(error)).encode(errors="backslashreplace").decode()
    return Stop("failed", step, reason, log)


def diverged(step: int, what: str) -> Stop:
    """The stop of a member of which `what` was the first that was not a finite number."""
    return Stop("diverged", step, f"NaN or infinity at step {step}: {what}")


def in_full(error: BaseException) -> str:
    """An exception's name, unless it is ours, and all of its message, in one line."""
    name = "" if isinstance(error, InputError) else type(error).__name__
    try:
        message = " ".join(str(error).split())
    except Exception:  # of an exception of one's own
        message = "(its message cannot be read)"
    return one_line(": ".join(filter(None, (name, message))))


class StandIn(gymnasium.Env):
    """Observes zeros, pays nothing and never ends."""

    def __init__(self, observations: spaces.Space, actions: spaces.Space) -> None:
        self.observation_space, self.action_space = observations, actions
        self._zeros = next(iterate(batch_space(observations), create_empty_array(observations)))

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        return self._zeros, {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        return self._zeros, 0.0, False, False, {}


class Guarded(gymnasium.Wrapper):
    """An environment; once it raises, `fails` is called and a stand-in takes its place. Its infos are dropped."""

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
        try:
            observation, _ = self.env.reset(seed=seed, options=options)
        except MemoryError:
            raise
        except Raised as error:
            self._replace("reset()", error)
            return self.env.reset()
        return observation, {}

    def step(self, action: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        try:
            observation, reward, terminated, truncated, _ = self.env.step(action)
        except MemoryError:
            raise
        except Raised as error:
            self._replace("step()", error)
            return self.env.step(action)
        return observation, reward, terminated, truncated, {}

    def close(self) -> None:
        """What was found stands, even where ending the environment fails."""
        try:
            self.env.close()
        except Raised as error:
            print(f"environment {self._place} did not close: {type(error).__name__}: {error}", file=sys.stderr)

    def _replace(self, method: str, error: BaseException) -> None:
        self._fails(self._place, method, error)
        with contextlib.suppress(*Raised):
            self.env.close()
        self.env = self._stand_in()
