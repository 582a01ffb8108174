"""Metrics that are recorded during training, and how reports draw them.

Those that several algorithms report are here; each algorithm's own are beside its options.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

TOPICS = ("policy", "Q", "gradient", "V", "loss", "other")
"""The order in which reports draw metrics; within a topic, the order of definition."""


@dataclass(frozen=True)
class Metric:
    """A column of training.csv.

    label: the axis's label, with the unit
    scale: the axis's scale where values span orders of magnitude
    rewards: the unit is the scaled reward to this power; reports divide by the reward scale to this power
    zero: whether the axis includes zero
    drawn: whether reports draw it
    topic: one of TOPICS
    """

    name: str
    label: str
    scale: Literal["linear", "log", "symlog"] = "linear"
    rewards: int = 0
    zero: bool = False
    drawn: bool = True
    topic: str = "other"


def names(metrics: Iterable[Metric]) -> tuple[str, ...]:
    """Return the metrics' names, for `Learner.metrics`."""
    return tuple(metric.name for metric in metrics)


CRITIC_LOSS = Metric("critic_loss", "critic loss\n(units of return²)", "log", 2, topic="loss")
ACTOR_LOSS = Metric("actor_loss", "actor loss", drawn=False, topic="loss")
POLICY_LOSS = Metric("policy_loss", "policy loss", drawn=False, topic="loss")
VALUE_LOSS = Metric("value_loss", "value loss\n(its own units)", "log", topic="loss")
Q = Metric("q", "Q of replayed pairs\n(units of return)", "symlog", 1, topic="Q")
Q_TARGET = Metric("q_target", "targets of Q\n(units of return)", "symlog", 1, drawn=False, topic="Q")
V = Metric("value", "V of a minibatch", drawn=False, topic="V")
ADVANTAGE_STD = Metric("advantage_std", "spread of advantages")
ENTROPY = Metric("entropy", "entropy of the policy\n(nats)", topic="policy")
SATURATION = Metric("saturation", "share of actions\nbeyond 0.99", topic="policy")

GRADIENT_VARIANCE_REPARAMETERISED = Metric(
    "gradient_variance_reparameterised", "gradient's variance\nif reparameterised", "log", 2, topic="gradient"
)
GRADIENT_VARIANCE_LIKELIHOOD_RATIO = Metric(
    "gradient_variance_likelihood_ratio", "gradient's variance\nby likelihood ratio", "log", 2, topic="gradient"
)
GRADIENT_SQUARED_NORM = Metric(
    "gradient_squared_norm", "squared norm of\nthe mean gradient", "log", 2, drawn=False, topic="gradient"
)
GRADIENT_VARIANCES = (GRADIENT_VARIANCE_REPARAMETERISED, GRADIENT_VARIANCE_LIKELIHOOD_RATIO)
GRADIENT_METRICS = (*GRADIENT_VARIANCES, GRADIENT_SQUARED_NORM)
