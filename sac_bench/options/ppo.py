"""The options of PPO, and the metrics that it reports. The mathematics is in algorithms/ppo.py."""

from __future__ import annotations

from typing import ClassVar

from sac_bench.options.config import Activation, Layers, PerMember, option
from sac_bench.options.metric import ADVANTAGE_STD, ENTROPY, POLICY_LOSS, VALUE_LOSS, Metric, V
from sac_bench.options.on_policy import OnPolicyConfig

VERSION = 2
"""Part of every run's id: raise it whenever the results of a config change, with a default or the mathematics."""


class PPOConfig(OnPolicyConfig):
    """Defaults are those of arXiv 1707.06347 (table 3) and of its implementations for MuJoCo."""

    algorithm: ClassVar[str] = "ppo"

    layers: Layers = option((64, 64), "units of each hidden layer, actor and critic", "1707.06347, section 6.1")
    activation: Activation = option("tanh", "nonlinearity of the hidden layers", "1707.06347, section 6.1")

    learning_rate: PerMember[float] = option(3e-4, "learning rate", "1707.06347, table 3", gt=0, le=1)
    anneal_steps: PerMember[int] = option(
        0,
        "steps over which the learning rate falls linearly to 0, rollout by rollout; 0: constant",
        "Stable-Baselines3",
        ge=0,
        le=10**12,
    )
    gamma: PerMember[float] = option(0.99, "discount", "1707.06347, table 3", ge=0, le=1)
    gae_lambda: PerMember[float] = option(0.95, "lambda of the advantages", "1707.06347, table 3", ge=0, le=1)
    clip: PerMember[float] = option(0.2, "epsilon of the clipped surrogate", "1707.06347, table 1", gt=0, le=1e6)
    clip_value: PerMember[float] = option(
        0.0,
        "the value loss clips changes of V since the rollout to this; 0: no clipping",
        "Stable-Baselines3",
        ge=0,
        le=1e6,
    )
    normalize_advantage: PerMember[bool] = option(
        True, "standardise the advantages of a minibatch", "CleanRL, Stable-Baselines3"
    )
    value_coefficient: PerMember[float] = option(
        0.5, "weight of the value loss", "CleanRL, Stable-Baselines3", ge=0, le=1e6
    )
    entropy_coefficient: PerMember[float] = option(0.0, "weight of the entropy", "1707.06347, table 3", ge=0, le=1e6)
    max_grad_norm: PerMember[float] = option(
        0.5,
        "largest norm of the gradient; a larger gradient is scaled down; 0: no limit",
        "CleanRL, Stable-Baselines3",
        ge=0,
        le=1e6,
    )
    target_kl: PerMember[float] = option(
        0.0,
        "stop a rollout's updates if a minibatch's KL exceeds 1.5 times this; 0: never",
        "Stable-Baselines3",
        ge=0,
        le=1e6,
    )
    normalize_observations: PerMember[bool] = option(
        True, "standardise observations by their running mean and deviation, clipped to 10", "CleanRL, for MuJoCo"
    )
    normalize_rewards: PerMember[bool] = option(
        True, "divide rewards by the running deviation of discounted returns, clipped to 10", "CleanRL, for MuJoCo"
    )

    @property
    def learns_until(self) -> int | None:
        """Transitions after which the learning rate is 0, or None if it is constant."""
        return self.anneal_steps or None


METRICS = (
    Metric("loss", "loss", drawn=False, topic="loss"),
    POLICY_LOSS,
    VALUE_LOSS,
    ENTROPY,
    Metric("approx_kl", "KL of an update", "log"),
    Metric("clip_fraction", "share of ratios clipped"),
    V,
    ADVANTAGE_STD,
    Metric("stopped", "share of updates skipped", drawn=False),
)
