"""The return of a random policy, measured once per version of an environment."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

import numpy as np

from sac_bench.envs.pool import describe
from sac_bench.errors import InputError
from sac_bench.store.atomic import read_json, write_json
from sac_bench.store.store import Store


def measure_random_policies(store: Store, envs: Iterable[str]) -> list[str]:
    """Measure a random policy in each environment where that is missing; return one line per failure."""
    from sac_bench.training.evaluate import random_returns

    failures = []
    for env in envs:
        if random_policy(store, env):
            continue
        spec = describe(env)
        try:
            returns = random_returns(spec)
        except Exception as error:  # a user's environment may raise anything, and the report matters more
            failures.append(f"no random policy's return for {env}: {type(error).__name__}: {error}")
            continue
        if not np.isfinite(returns).all():
            failures.append(f"no random policy's return for {env}: its rewards are not finite")
        write_json(
            store.environment(env),
            _version(env)
            | {
                "episodes": len(returns),
                "return_mean": float(returns.mean()),
                "return_std": float(returns.std(ddof=1)),
            },
        )
    return failures


def random_policy(store: Store, env: str) -> dict[str, Any] | None:
    """Return what was measured in the environment as it is now: episodes, return_mean, return_std; None if nothing."""
    with contextlib.suppress(FileNotFoundError, InputError):
        measured = read_json(store.environment(env))
        if measured.items() >= _version(env).items():
            return measured
    return None


def _version(env: str) -> dict[str, Any]:
    spec = describe(env)
    return {"env": env, "backend": spec.backend} | ({"definition": spec.definition} if spec.definition else {})
