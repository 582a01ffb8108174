"""The options of TRPO, and the metrics that it reports. The mathematics is in algorithms/trpo.py."""

from __future__ import annotations

import math
from typing import ClassVar

from pydantic import model_validator
from typing_extensions import override

from sac_bench.options.config import PerMember, option
from sac_bench.options.metric import ADVANTAGE_STD, ENTROPY, VALUE_LOSS, Metric, V
from sac_bench.options.on_policy import OnPolicyConfig

VERSION = 1
"""Part of every run's id: raise it whenever the results of a config change, with a default or the mathematics."""


class TRPOConfig(OnPolicyConfig):
    """Defaults are those of sb3-contrib's TRPO, whose KL divergence is a mean over action dimensions (see `max_kl`)."""

    algorithm: ClassVar[str] = "trpo"

    rollout: int = option(
        2048, "transitions between steps of the policy, summed over a run's environments", "sb3-contrib", ge=2, le=10**7
    )
    epochs: int = option(10, "passes of V's updates over the transitions of a rollout", "sb3-contrib", ge=1, le=1000)
    batch_size: int = option(128, "transitions per update of V", "sb3-contrib", ge=2, le=65536)
    sub_sampling: int = option(
        1, "the policy's step uses every so many-th step of each environment", "sb3-contrib", ge=1, le=10**6
    )
    cg_steps: int = option(15, "largest number of steps of conjugate gradient", "sb3-contrib", ge=1, le=1000)
    line_search_steps: int = option(10, "steps of the policy that the line search tries", "sb3-contrib", ge=1, le=100)

    learning_rate: PerMember[float] = option(1e-3, "learning rate of V", "sb3-contrib", gt=0, le=1)
    gamma: PerMember[float] = option(0.99, "discount", "sb3-contrib", ge=0, le=1)
    gae_lambda: PerMember[float] = option(0.95, "lambda of the advantages", "sb3-contrib", ge=0, le=1)
    max_kl: PerMember[float] = option(
        0.01,
        "delta: largest KL divergence of a step in nats, a mean over states",
        "1502.05477 (sb3-contrib divides it by dim(A))",
        gt=0,
        le=1e6,
    )
    cg_damping: PerMember[float] = option(
        0.1, "multiple of the identity that is added to the Fisher matrix", "sb3-contrib", ge=0, le=1e6
    )
    line_search_factor: PerMember[float] = option(
        0.8, "factor from each step that the line search tries to the next", "sb3-contrib", gt=0, lt=1
    )
    normalize_advantage: PerMember[bool] = option(True, "standardise the advantages of a rollout", "sb3-contrib")
    normalize_observations: PerMember[bool] = option(
        False, "standardise observations by their running mean and deviation, clipped to 10", "sb3-contrib"
    )
    normalize_rewards: PerMember[bool] = option(
        False, "divide rewards by the running deviation of discounted returns, clipped to 10", "sb3-contrib"
    )

    @property
    @override
    def passes(self) -> int:
        """A batch's passes through V, and its share of those of the policy's step: each is of half the networks."""
        of_the_policy = 4 * (self.cg_steps + 1) + self.line_search_steps
        return math.ceil((3 + of_the_policy / self.epochs) / 2)

    @property
    @override
    def rows(self) -> int:
        """All transitions of a rollout, in all steps that the line search tries: they are computed at once."""
        return self.rollout * self.line_search_steps

    @model_validator(mode="after")
    def _several_samples(self) -> TRPOConfig:
        if math.ceil(self.rollout // self.num_envs / self.sub_sampling) * self.num_envs < 2:
            raise ValueError(
                f"sub_sampling = {self.sub_sampling} leaves 1 transition of a rollout; at least 2 are needed"
            )
        return self


METRICS = (
    Metric("improvement", "surrogate's improvement"),
    Metric("kl", "KL of a step\n(nats)", "log"),
    Metric("accepted", "share of steps taken", zero=True),
    VALUE_LOSS,
    ENTROPY,
    V,
    ADVANTAGE_STD,
)
