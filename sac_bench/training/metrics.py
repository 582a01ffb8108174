"""The definitions of all metrics that are recorded during training."""

from __future__ import annotations

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.metric import TOPICS, Metric
from sac_bench.training import explosion, q_bias


def metrics() -> dict[str, Metric]:
    """Return {name: definition} of the metrics of all registered algorithms, in the order in which they are drawn.

    Of several definitions of one name, the first counts.
    """
    declared = [metric for algorithm in ALGORITHMS.values() for metric in algorithm.metrics]
    definitions: dict[str, Metric] = {}
    for metric in [*declared, *q_bias.METRICS, explosion.Q_BOUND]:
        definitions.setdefault(metric.name, metric)
    return dict(sorted(definitions.items(), key=lambda item: TOPICS.index(item[1].topic)))
