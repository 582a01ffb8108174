"""MuJoCo environments with heavier bodies."""

from __future__ import annotations

import functools
from functools import partial
from typing import Any

import gymnasium
import mujoco
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

from sac_bench.envs.known import GYMNASIUM_PREFIX
from sac_bench.envs.pool import Pool, describe
from sac_bench.errors import InputError


def heavier(env: gymnasium.Env, factor: float) -> gymnasium.Env:
    """Multiply the masses and inertias of all bodies by `factor`, and update what MuJoCo derives from them.

    Joint armature and damping, and motors, do not change. Raises InputError unless it is a MuJoCo environment of
    Gymnasium.
    """
    model = getattr(env.unwrapped, "model", None)
    if not isinstance(model, mujoco.MjModel):
        name = env.spec.id if env.spec else type(env.unwrapped).__name__
        raise InputError(f"{name}: not one of Gymnasium's MuJoCo environments; masses can be changed only in these")
    model.body_mass *= factor
    model.body_inertia *= factor
    mujoco.mj_setConst(model, mujoco.MjData(model))
    return env


def half_cheetah(**options: Any) -> gymnasium.Env:
    """Return HalfCheetah-v5 with twice the mass and the same observations, actions and rewards."""
    return heavier(HalfCheetahEnv(**options), 2.0)


@functools.cache
def with_masses(env_id: str) -> str:
    """Return the id of Gymnasium's environment of the same name. Raises InputError if its masses cannot be changed."""
    name = env_id.removeprefix(GYMNASIUM_PREFIX)
    if name not in gymnasium.registry:
        raise InputError(f"{env_id}: masses can be changed only in Gymnasium's environments, unlike {name}")
    standard, own = describe(GYMNASIUM_PREFIX + name), describe(env_id)
    if (standard.observation_dim, standard.action_dim) != (own.observation_dim, own.action_dim):
        raise InputError(f"{env_id}: masses can be changed in Gymnasium's {name} only, whose observations differ")
    Pool(standard.id, [0], wrapper=partial(heavier, factor=1.0)).close()
    return standard.id
