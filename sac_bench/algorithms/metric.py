"""What a user's module needs to declare an algorithm's metrics. They are defined in options/metric.py."""

from sac_bench.options.metric import Metric, names

__all__ = ["Metric", "names"]
