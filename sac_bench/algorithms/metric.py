"""Metrics that are recorded during training, and how reports draw them.

A metric is defined beside the code that computes it. Those that several algorithms report are in `critics` and here.
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


ENTROPY = Metric("entropy", "entropy of the policy\n(nats)", topic="policy")
VALUE_LOSS = Metric("value_loss", "value loss\n(its own units)", "log", topic="loss")
