"""The options of A2C, and the metrics that it reports. The mathematics is in algorithms/a2c.py."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import model_validator

from sac_bench.options.config import PerMember, option
from sac_bench.options.metric import ADVANTAGE_STD, ENTROPY, POLICY_LOSS, VALUE_LOSS, Metric, V
from sac_bench.options.on_policy import OnPolicyConfig

VERSION = 1
"""Part of every run's id: raise it whenever the results of a config change, with a default or the mathematics."""


class A2CConfig(OnPolicyConfig):
    """Defaults are those of Stable-Baselines3's A2C. An update learns once from all transitions since the last one."""

    algorithm: ClassVar[str] = "a2c"

    # ClassVar: these are no options of A2C, but follow from `rollout_steps` and `num_envs`.
    epochs: ClassVar[int] = 1  # type: ignore[misc]
    rollout: ClassVar[Any] = property(lambda self: self.rollout_steps * self.num_envs)  # type: ignore[misc]
    batch_size: ClassVar[Any] = property(lambda self: self.rollout)  # type: ignore[misc]

    rollout_steps: int = option(
        5, "steps of every environment between updates", "Stable-Baselines3 (1602.01783: t_max)", ge=1, le=10**6
    )
    learning_rate: PerMember[float] = option(7e-4, "learning rate", "Stable-Baselines3", gt=0, le=1)
    anneal_steps: PerMember[int] = option(
        0,
        "steps over which the learning rate falls linearly to 0, update by update; 0: constant",
        "Stable-Baselines3 (1602.01783: annealed)",
        ge=0,
        le=10**12,
    )
    rmsprop_decay: PerMember[float] = option(
        0.99, "decay of RMSprop's mean square", "Stable-Baselines3 (1602.01783: alpha)", ge=0, lt=1
    )
    rmsprop_epsilon: PerMember[float] = option(
        1e-5, "added to the root of RMSprop's mean square", "Stable-Baselines3", ge=1e-30, le=1
    )
    gamma: PerMember[float] = option(0.99, "discount", "Stable-Baselines3, 1602.01783", ge=0, le=1)
    gae_lambda: PerMember[float] = option(
        1.0, "lambda of the advantages; 1: returns of the rollout minus V", "Stable-Baselines3, 1602.01783", ge=0, le=1
    )
    normalize_advantage: PerMember[bool] = option(False, "standardise the advantages of an update", "Stable-Baselines3")
    value_coefficient: PerMember[float] = option(0.5, "weight of the value loss", "Stable-Baselines3", ge=0, le=1e6)
    entropy_coefficient: PerMember[float] = option(
        0.0, "beta: weight of the entropy", "Stable-Baselines3 (1602.01783: 1e-4 for MuJoCo)", ge=0, le=1e6
    )
    max_grad_norm: PerMember[float] = option(
        0.5,
        "largest norm of the gradient; a larger gradient is scaled down; 0: no limit",
        "Stable-Baselines3",
        ge=0,
        le=1e6,
    )
    normalize_observations: PerMember[bool] = option(
        False, "standardise observations by their running mean and deviation, clipped to 10", "Stable-Baselines3"
    )
    normalize_rewards: PerMember[bool] = option(
        False, "divide rewards by the running deviation of discounted returns, clipped to 10", "Stable-Baselines3"
    )

    @property
    def learns_until(self) -> int | None:
        """Transitions after which the learning rate is 0, or None if it is constant."""
        return self.anneal_steps or None

    @model_validator(mode="after")
    def _several_transitions(self) -> A2CConfig:
        if self.rollout < 2:
            raise ValueError("rollout_steps = 1 with num_envs = 1: an update requires at least 2 transitions")
        return self


METRICS = (
    Metric("loss", "loss", drawn=False, topic="loss"),
    POLICY_LOSS,
    VALUE_LOSS,
    ENTROPY,
    V,
    ADVANTAGE_STD,
)
