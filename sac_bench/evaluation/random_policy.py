"""A random policy's returns and observations, measured once per version of an environment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from sac_bench.envs.known import properties
from sac_bench.errors import InputError
from sac_bench.store.atomic import finite, read_json, write_json
from sac_bench.store.store import Store

VERSION = 2
"""Raised when what is measured changes; what was stored with another version is measured again."""


def measure_random_policies(store: Store, envs: Iterable[str]) -> list[str]:
    """Measure a random policy in each environment where that is missing; return one line per failure."""
    failures = []
    for env in envs:
        if random_policy(store, env):
            continue
        try:
            measured = measured_random_policy(store, env)
        except InputError as error:
            failures.append(str(error))
            continue
        if measured["return_mean"] is None:
            failures.append(f"no random policy's return for {env}: its rewards are not finite")
    return failures


def measured_random_policy(store: Store, env: str) -> dict[str, Any]:
    """Return what `random_policy` returns, and measure it if it is missing.

    Raises InputError if the environment raises.
    """
    from sac_bench.training.evaluate import random_episodes

    if known := random_policy(store, env):
        return known
    spec = properties(env)
    try:
        played = random_episodes(spec)
    except Exception as error:  # a user's environment may raise anything
        raise InputError(f"no random policy's return for {env}: {type(error).__name__}: {error}") from error
    measured = {
        "episodes": len(played.returns),
        "return_mean": float(played.returns.mean()),
        "return_std": float(played.returns.std(ddof=1)),
        "observation_std": played.deviation.tolist(),
    }
    known = _version(env) | finite(measured)
    write_json(store.environment(env), known)
    return known


def random_policy(store: Store, env: str) -> dict[str, Any] | None:
    """Return what was measured in the environment as it is now, None if nothing.

    It has episodes, return_mean, return_std, and observation_std: the standard deviation of each observed number over
    all steps. A number that is not finite is None.
    """
    with contextlib.suppress(FileNotFoundError, InputError):
        measured = read_json(store.environment(env))
        if measured.items() >= _version(env).items():
            return measured
    return None


def _version(env: str) -> dict[str, Any]:
    spec = properties(env)
    version = {"env": env, "backend": spec.backend, "version": VERSION}
    return version | ({"definition": spec.definition} if spec.definition else {})
