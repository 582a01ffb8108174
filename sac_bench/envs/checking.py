"""Check whether an environment can be trained on, before training starts."""

from __future__ import annotations

import functools
import warnings

import numpy as np
from gymnasium.utils.env_checker import check_env

from sac_bench.envs.contract import check_parts
from sac_bench.envs.known import GYMNASIUM_PREFIX
from sac_bench.envs.output import captured
from sac_bench.envs.pool import Pool, alone, describe, errors_as_input_error, first_line

CHECKED_STEPS = 3


@functools.cache
def check(env_id: str) -> None:
    """Describe an environment and, if it is one of Gymnasium's, take a few steps; raise InputError if that fails."""
    spec = describe(env_id)
    if not env_id.startswith(GYMNASIUM_PREFIX):
        return
    _check_parts(env_id)
    with errors_as_input_error(env_id, "cannot be made twice in one process"):
        pool = Pool(env_id, [0, 1])
    with errors_as_input_error(env_id, "cannot be reset"):
        pool.reset()
    generator = np.random.default_rng(0)
    with errors_as_input_error(env_id, "cannot be stepped"):
        for _ in range(CHECKED_STEPS):
            pool.step(generator.uniform(-1, 1, (2, spec.action_dim)))
    with errors_as_input_error(env_id, "cannot be closed"):
        pool.close()


@functools.cache
def objection(env_id: str) -> str:
    """Return the first complaint of Gymnasium's `check_env`, which may be harmless, or ""."""
    if not env_id.startswith(GYMNASIUM_PREFIX):
        return ""
    with captured(f"{env_id}, check_env"), warnings.catch_warnings(action="ignore"):
        env = alone(env_id)
        try:
            check_env(env, skip_render_check=True, skip_close_check=True)
        except Exception as error:  # a failed assertion, or any error of a user's environment
            return first_line(error)
        finally:
            env.close()
    return ""


def _check_parts(env_id: str) -> None:
    """Check the return values of the environment's own methods, which Gymnasium's wrappers would unpack first."""
    with errors_as_input_error(env_id, "cannot be made"):
        env = alone(env_id)
    own = env.unwrapped
    try:
        with captured(env_id), warnings.catch_warnings(action="ignore"):
            results = {"reset": own.reset(seed=0), "step": own.step(own.action_space.sample())}
    except Exception:  # reported later, when the environment is stepped with its wrappers
        return
    finally:
        with errors_as_input_error(env_id, "cannot be closed"):
            env.close()
    for method, result in results.items():
        check_parts(env_id, method, result)
