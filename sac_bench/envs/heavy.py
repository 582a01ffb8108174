"""MuJoCo environments whose bodies are heavier than they were."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import gymnasium
import mujoco
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

from sac_bench.envs.pool import GYMNASIUM_PREFIX, Pool, describe
from sac_bench.errors import InputError


def heavier(env: gymnasium.Env, factor: float) -> gymnasium.Env:
    """The environment with all masses and inertias of its bodies multiplied, and all that MuJoCo derives from them.

    What is given to joints (armature, damping) and motors stays. InputError where it is none of Gymnasium's MuJoCo
    environments.
    """
    model = getattr(env.unwrapped, "model", None)
    if not isinstance(model, mujoco.MjModel):
        name = env.spec.id if env.spec else type(env.unwrapped).__name__
        raise InputError(f"{name}: not one of Gymnasium's MuJoCo environments, only their masses can be changed")
    model.body_mass *= factor
    model.body_inertia *= factor
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return env


def half_cheetah(**options: Any) -> gymnasium.Env:
    """HalfCheetah-v5 of twice the mass: the same observations, actions and rewards, for policies trained on it."""
    return heavier(HalfCheetahEnv(**options), 2.0)


@functools.cache
def with_masses(env_id: str) -> str:
    """Return the id of Gymnasium's environment of the same name. Raises InputError if its masses cannot be changed."""
    name = env_id.removeprefix(GYMNASIUM_PREFIX)
    if name not in gymnasium.registry:
        raise InputError(f"{env_id}: masses can be changed in Gymnasium's environments only, and {name} is none")
    found, own = describe(GYMNASIUM_PREFIX + name), describe(env_id)
    if (found.observation_dim, found.action_dim) != (own.observation_dim, own.action_dim):
        raise InputError(f"{env_id}: masses can be changed in Gymnasium's {name} only, whose observations differ")
    Pool(found.id, [0], wrapper=partial(heavier, factor=1.0)).close()
    return found.id
