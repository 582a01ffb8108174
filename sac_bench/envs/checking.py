"""Whether an environment can be trained on, found out before anything is trained."""

from __future__ import annotations

import functools
import warnings

import numpy as np
from gymnasium.utils.env_checker import check_env

from sac_bench.envs.contract import check_parts
from sac_bench.envs.output import captured
from sac_bench.envs.pool import GYMNASIUM_PREFIX, Pool, alone, describe, first_line, told_in_one_line

STEPS = 3


@functools.cache
def check(env_id: str) -> None:
    """Describe an environment and, if it is one of Gymnasium's, take a few steps; InputError where that fails."""
    spec = describe(env_id)
    if not env_id.startswith(GYMNASIUM_PREFIX):
        return
    _check_parts(env_id)
    with told_in_one_line(env_id, "cannot be made twice in one process"):
        pool = Pool(env_id, [0, 1])
    with told_in_one_line(env_id, "cannot be reset"):
        pool.reset()
    generator = np.random.default_rng(0)
    with told_in_one_line(env_id, "cannot be stepped"):
        for _ in range(STEPS):
            pool.step(generator.uniform(-1, 1, (2, spec.action_dim)))
    with told_in_one_line(env_id, "cannot be closed"):
        pool.close()


@functools.cache
def objection(env_id: str) -> str:
    """What Gymnasium's `check_env` objects to, which may be harmless; "" where there is nothing."""
    if not env_id.startswith(GYMNASIUM_PREFIX):
        return ""
    with captured(f"{env_id}, check_env"), warnings.catch_warnings(action="ignore"):
        env = alone(env_id)
        try:
            check_env(env, skip_render_check=True, skip_close_check=True)
        except Exception as error:  # it asserts, and a user's environment may raise anything
            return first_line(error)
        finally:
            env.close()
    return ""


def _check_parts(env_id: str) -> None:
    """Look at what the environment's own methods return: Gymnasium's wrappers unpack it before we can."""
    with told_in_one_line(env_id, "cannot be made"):
        env = alone(env_id)
    own = env.unwrapped
    try:
        with captured(env_id), warnings.catch_warnings(action="ignore"):
            results = {"reset": own.reset(seed=0), "step": own.step(own.action_space.sample())}
    except Exception:  # it is raised again, and reported, when the environment is stepped with its wrappers
        return
    finally:
        with told_in_one_line(env_id, "cannot be closed"):
            env.close()
    for method, result in results.items():
        check_parts(env_id, method, result)
