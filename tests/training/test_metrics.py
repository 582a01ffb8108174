"""Every metric is defined once, beside the code that computes it."""

import pytest

from sac_bench import algorithms
from sac_bench.algorithms import ALGORITHMS, Algorithm
from sac_bench.options.metric import GRADIENT_VARIANCES, TOPICS, Metric, names
from sac_bench.options.td3 import TD3Config
from sac_bench.spec.measures import MEASURES
from sac_bench.training.metrics import Q_BIAS_METRICS, Q_BOUND, metrics

DRAWN = [
    "temperature",
    "entropy",
    "saturation",
    "q",
    "normalized_q_bias",
    "normalized_q_bias_std",
    "monte_carlo_return",
    "gradient_variance_reparameterised",
    "gradient_variance_likelihood_ratio",
    "v",
    "soft_value",
    "critic_loss",
    "value_loss",
    "approx_kl",
    "clip_fraction",
    "advantage_std",
    "bandwidth",
    "improvement",
    "kl",
    "accepted",
]
OF_SAC = ["critic_loss", "actor_loss", "temperature_loss", "q", "q_target", "temperature", "entropy", "saturation"]


def test_metrics_are_drawn_in_a_fixed_order():
    assert [name for name, metric in metrics().items() if metric.drawn] == DRAWN


@pytest.mark.parametrize("name", algorithms.SHIPPED)
def test_a_learner_reports_only_metrics_that_its_algorithm_declares(name):
    algorithm = ALGORITHMS[name]
    learner = algorithm.learner(algorithm.config(), 3, 1)
    diagnosed = learner.diagnosis.names if learner.diagnosis else ()
    assert {*learner.metrics, *diagnosed} <= {*names(algorithm.metrics)}
    assert all(metric.topic in TOPICS for metric in algorithm.metrics)


def test_measures_of_metrics_in_claims_have_the_metrics_names():
    measures = {name for name, measure in MEASURES.items() if measure.is_log_of_metric}
    assert measures == set(names(GRADIENT_VARIANCES))


def test_a_value_network_adds_its_metrics():
    algorithm = ALGORITHMS["sac"]
    assert [*algorithm.learner(algorithm.config(), 3, 1).metrics] == OF_SAC
    assert [*algorithm.learner(algorithm.config(value_network=True), 3, 1).metrics] == [*OF_SAC, "value_loss", "v"]


def test_metrics_of_the_same_name_mean_the_same_in_all_algorithms():
    declared = [metric for algorithm in algorithms.SHIPPED.values() for metric in algorithm.metrics]
    assert len({*declared, *Q_BIAS_METRICS, Q_BOUND}) == len(metrics())


def test_a_user_defined_algorithm_declares_its_metrics_at_registration(monkeypatch):
    own = (Metric("wobble", "wobble\n(degrees)"), Metric("q", "another Q"))
    registered = Algorithm("own", TD3Config, ALGORITHMS["td3"].learner, version=1, metrics=own)
    monkeypatch.setitem(algorithms.ALGORITHMS, "own", registered)
    assert [*metrics()][-1] == "wobble"
    assert metrics()["wobble"].label == "wobble\n(degrees)"
    assert metrics()["q"].label.startswith("Q of replayed pairs")
