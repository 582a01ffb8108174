"""MuJoCo environments whose bodies are heavier than they were."""

from __future__ import annotations

from typing import Any

import gymnasium
import mujoco
from gymnasium.envs.mujoco.half_cheetah_v5 import HalfCheetahEnv

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
