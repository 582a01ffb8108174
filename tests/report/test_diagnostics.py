"""The panels of diagnostics, also for results of earlier versions."""

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np

from sac_bench.report.figures.diagnostics import ESTIMATORS, diagnostics, measured
from tests.report.test_tables import ABOUT, made_up


def with_training(**columns):
    results = made_up()
    training = results.evaluations[["run_id", "variant", "env", "seed", "step"]].drop_duplicates()
    return replace(results, training=training.assign(**columns))


def panels(results):
    env, variants = ABOUT["envs"][0], list(ABOUT["variants"])
    figure = diagnostics(results, env, variants)
    return dict(zip(measured(results, env, variants), figure.axes, strict=False))


def test_estimators_share_their_limits_and_a_bias_axis_includes_zero():
    by_path, by_score = ESTIMATORS
    axes = panels(
        with_training(
            q=1.0,
            normalized_q_bias=-0.5,
            monte_carlo_return=70.0,
            gradient_squared_norm=1.0,
            **{by_path: 0.5, by_score: 30.0},
        )
    )
    assert list(axes) == ["q", "normalized_q_bias", "monte_carlo_return", by_path, by_score]
    for name in ESTIMATORS:
        assert axes[name].get_yscale() == "log"
        np.testing.assert_allclose(axes[name].get_ylim(), (0.25, 60.0))
    assert axes["normalized_q_bias"].get_ylim() == (axes["normalized_q_bias"].get_ylim()[0], 0.0)
    assert axes["q"].get_ylim()[0] > 0
    plt.close("all")


def test_results_without_newer_metrics_have_their_panels():
    assert list(panels(with_training(q=1.0, temperature=0.2))) == ["temperature", "q"]
    assert list(panels(with_training(q=1.0, q_bias=-40.0, monte_carlo=70.0))) == ["q"]
    plt.close("all")


def test_an_undeclared_metric_comes_last_under_its_own_name():
    axes = panels(with_training(wobble=3.0, bandwidth=1.0, q_target=1.0, q=1.0))
    assert {name: axis.get_title().partition("(")[0].strip() for name, axis in axes.items()} == {
        "q": "Q of replayed pairs",
        "bandwidth": "kernel's bandwidth",
        "wobble": "wobble",
    }
    assert list(axes) == ["q", "bandwidth", "wobble"]
    plt.close("all")
