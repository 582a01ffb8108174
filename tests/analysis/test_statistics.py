"""Statistics a reader can check by hand."""

import math

import numpy as np
import pytest

from sac_bench.analysis.statistics import bootstrap_iqm, difference_interval, iqm, mean_interval, run_score


def test_run_score_is_the_mean_of_the_last_tenth():
    steps = np.arange(0, 101, 5)
    assert run_score(steps, steps.astype(float), 100) == np.mean([95, 100])
    assert run_score([0, 100], [1.0, 7.0], 100) == 7.0
    assert run_score([0, 50], [1.0, 7.0], 100) == 7.0  # nothing in the last tenth: the last there is
    assert math.isnan(run_score([], [], 100))


def test_iqm_drops_a_quarter_at_each_end():
    assert iqm([0.0, 1.0, 2.0, 100.0]) == 1.5
    assert iqm([1.0, 2.0, 6.0]) == 3.0
    np.testing.assert_array_equal(iqm(np.array([[0, 0], [1, 2], [2, 4], [9, 9]])), [1.5, 3.0])


def test_mean_interval_by_hand():
    estimate = mean_interval([1.0, 2.0, 3.0])
    half = 4.302653 * 1.0 / math.sqrt(3)  # t quantile with 2 degrees of freedom
    assert estimate == pytest.approx((2.0, 2 - half, 2 + half), rel=1e-6)
    assert math.isnan(mean_interval([5.0]).low)
    assert mean_interval([5.0]).value == 5.0
    assert math.isnan(mean_interval([]).value)


def test_difference_interval_by_hand():
    # Equal sizes and variances: Welch's is Student's with 2n - 2 = 4 degrees of freedom.
    estimate = difference_interval([1.0, 2.0, 3.0], [11.0, 12.0, 13.0])
    half = 2.776445 * math.sqrt(2 / 3)
    assert estimate == pytest.approx((-10.0, -10 - half, -10 + half), rel=1e-6)
    assert difference_interval([1.0, 1.0], [3.0, 3.0]) == (-2.0, -2.0, -2.0)
    assert math.isnan(difference_interval([1.0], [3.0, 4.0]).low)


def test_intervals_cover_as_often_as_they_say():
    random = np.random.default_rng(0)
    samples = random.normal(size=(2000, 2, 5)) * [[1.0], [3.0]]
    covered = [low <= 0 <= high for _, low, high in (difference_interval(a, b) for a, b in samples)]
    assert 0.93 < np.mean(covered) < 0.97


def test_bootstrap_interval_holds_its_estimate_and_shrinks_with_seeds():
    random = np.random.default_rng(0)
    few, many = random.normal(size=(5, 4)), random.normal(size=(80, 4))
    for curves in (few, many):
        middle, low, high = bootstrap_iqm(curves, resamples=500)
        assert middle.shape == low.shape == high.shape == (4,)
        assert (low <= middle).all()
        assert (middle <= high).all()
    narrow = np.subtract(*bootstrap_iqm(many, 500)[:0:-1]).mean()
    assert narrow < 0.5 * np.subtract(*bootstrap_iqm(few, 500)[:0:-1]).mean()
