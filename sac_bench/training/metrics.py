"""The definitions of all metrics that are recorded during training."""

from __future__ import annotations

from sac_bench.algorithms import ALGORITHMS
from sac_bench.options.metric import TOPICS, Metric

Q_BIAS = Metric(
    "normalized_q_bias", "Q less Monte-Carlo return\n(over the mean return's size)", "symlog", zero=True, topic="Q"
)
Q_BIAS_STD = Metric("normalized_q_bias_std", "spread of Q less return\n(over the mean return's size)", "log", topic="Q")
RETURN = Metric("monte_carlo_return", "Monte-Carlo return\n(discounted)", "symlog", 1, topic="Q")
Q_BIAS_METRICS = (Q_BIAS, Q_BIAS_STD, RETURN)
"""Metrics of q_bias.py."""
RETIRED = ("q_bias", "monte_carlo")
"""Columns of earlier versions, which measured variants whose episodes end differently on different states."""
Q_BOUND = Metric("q_bound", "largest |Q| that rewards allow\n(units of return)", "symlog", 1, drawn=False, topic="Q")
"""Metric of explosion.py."""


def metrics() -> dict[str, Metric]:
    """Return {name: definition} of the metrics of all registered algorithms, in the order in which they are drawn.

    Of several definitions of one name, the first counts.
    """
    declared = [metric for algorithm in ALGORITHMS.values() for metric in algorithm.metrics]
    definitions: dict[str, Metric] = {}
    for metric in [*declared, *Q_BIAS_METRICS, Q_BOUND]:
        definitions.setdefault(metric.name, metric)
    return dict(sorted(definitions.items(), key=lambda item: TOPICS.index(item[1].topic)))
