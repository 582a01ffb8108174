"""MuJoCo environments with heavier bodies."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

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
