"""What training took, and scores by it."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sac_bench.analysis.compute import (
    common_flops,
    differs,
    frontier,
    mean_over_log,
    score_per_compute,
    spent,
    table,
)
from sac_bench.analysis.measures import measured
from sac_bench.spec.claim import Side
from tests.made_up import results_of

ENV = "Hopper-v5"
STEPS = [0, 25, 50, 75, 100]


def made_up(curves, flops_per_step, steps=None, **of_runs):
    """Return results with the same curve {variant: f(step)} for two seeds, the second 10 higher."""
    variants = {name: {"steps": {ENV: (steps or {}).get(name, 100)}} for name in curves}
    runs, evaluations = [], []
    for name, curve in curves.items():
        for seed in (0, 1):
            labels = {"run_id": f"{name}-{seed}", "variant": name, "env": ENV, "seed": seed}
            target = variants[name]["steps"][ENV]
            runs.append(
                labels
                | {"status": "finished", "steps": target, "target_steps": target, "cohort_size": 4}
                | of_runs.get(name, {})
            )
            evaluations += [
                labels
                | {"step": step, "policy": "mean", "return_mean": curve(step) + 10 * seed, "wall_seconds": 36.0 * step}
                | {"updates": 2 * step, "flops": step * flops_per_step[name]}
                for step in STEPS
                if step <= target
            ]
    config = {name: {ENV: {"eval_every": 25}} for name in curves}
    about = {"variants": variants, "seeds": [0, 1], "reference": next(iter(curves)), "config": config}
    return results_of(about | {"random": {ENV: {"return_mean": -7.0}}}, runs, evaluations)


def test_what_runs_spent_is_read_at_each_evaluation():
    results = made_up({"sac": float}, {"sac": 3.0})
    assert spent(results, ENV, "sac", "updates").to_dict() == {0: 0, 25: 50, 50: 100, 75: 150, 100: 200}
    assert spent(results, ENV, "sac", "flops")[100] == 300
    # 3,600 s of a cohort of four runs are a quarter of an hour of each.
    assert spent(results, ENV, "sac", "hours")[100] == pytest.approx(0.25)


def test_the_mean_over_log_flops_of_known_curves():
    x = np.array([0.0, 1.0, 10.0, 100.0])
    assert mean_over_log(x, np.full(4, 5.0), 1.0, 100.0) == pytest.approx(5.0)
    assert mean_over_log(x, np.array([9.0, 0.0, 1.0, 2.0]), 1.0, 100.0) == pytest.approx(1.0)
    assert mean_over_log(x, np.array([9.0, 0.0, 1.0, 2.0]), 10.0, 100.0) == pytest.approx(1.5)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-100, 100), min_size=3, max_size=8), st.floats(0.1, 1e6))
def test_the_mean_over_log_flops_does_not_depend_on_their_unit(returns, unit):
    x, y = np.arange(1.0, len(returns) + 1), np.array(returns)
    mean = mean_over_log(x, y, 1.5, len(returns) - 0.5)
    assert mean_over_log(unit * x, y, unit * 1.5, unit * (len(returns) - 0.5)) == pytest.approx(mean, abs=1e-6)
    assert min(returns) - 1e-6 <= mean <= max(returns) + 1e-6


def test_the_same_curve_over_steps_is_worth_less_if_its_steps_cost_more():
    results = made_up({"sac": float, "costly": float}, {"sac": 1.0, "costly": 2.0})
    assert common_flops(results, ENV) == (50.0, 100.0)
    cheap, costly = (score_per_compute(results, ENV, name) for name in ("sac", "costly"))
    assert (cheap > costly).all()
    assert list(cheap.index) == [0, 1]


def test_the_same_curve_over_flops_is_worth_the_same():
    results = made_up(
        {"sac": float, "costly": lambda step: 2.0 * step}, {"sac": 1.0, "costly": 2.0}, steps={"costly": 50}
    )
    cheap, costly = (score_per_compute(results, ENV, name) for name in ("sac", "costly"))
    # Both are evaluated at 50 and 100 FLOPs. In between, the cheap one is evaluated once more.
    np.testing.assert_allclose(cheap, costly, rtol=0.04)


def test_evaluations_before_the_first_update_and_variants_without_finished_runs_do_not_move_the_ends():
    curves = {"sac": float, "bad": float}
    results = made_up(curves, {"sac": 1.0, "bad": 9.0}, bad={"status": "diverged", "steps": 25})
    assert common_flops(results, ENV) == (25.0, 100.0)
    early = results.evaluations["step"] <= 25
    later = replace(
        results, evaluations=results.evaluations.assign(updates=results.evaluations["updates"].mask(early, 0))
    )
    assert common_flops(later, ENV) == (50.0, 100.0)


def test_a_diverged_run_counts_with_a_random_policys_return():
    results = made_up({"sac": float, "bad": float}, {"sac": 1.0, "bad": 1.0}, bad={"status": "diverged", "steps": 60})
    assert set(score_per_compute(results, ENV, "bad")) == {-7.0}


def test_there_is_no_score_per_compute_without_flops():
    results = made_up({"sac": float, "old": float}, {"sac": 1.0, "old": np.nan})
    assert not len(score_per_compute(results, ENV, "sac"))
    assert not differs(table(results))


def test_a_claim_can_compare_scores_per_compute():
    results = made_up({"sac": float, "costly": float}, {"sac": 1.0, "costly": 2.0})
    values = measured(results, Side("sac", "score_per_compute"), ENV)
    pd.testing.assert_series_equal(values, score_per_compute(results, ENV, "sac"))


def test_the_table_has_what_each_variant_took_at_the_end_of_its_own_training():
    results = made_up({"sac": float, "costly": float}, {"sac": 1.0, "costly": 4.0}, steps={"costly": 50})
    rows = table(results).set_index("variant")
    assert rows.loc["costly", ["steps", "updates", "flops", "relative_flops"]].tolist() == [50, 100, 200, 2]
    assert rows.loc["costly", "score"] == pytest.approx(55.0)
    assert differs(table(results))


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8))
def test_the_frontier_has_the_points_that_no_other_beats(points):
    cost, score = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    beaten = [any(c <= a and s >= b and (c, s) != (a, b) for c, s in points) for a, b in zip(cost, score, strict=True)]
    assert frontier(cost, score).tolist() == [not one for one in beaten]
