"""Statistics a reader can check by hand."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sac_bench.analysis import statistics
from sac_bench.analysis.statistics import (
    aggregate_iqm,
    aggregate_mean,
    aggregate_median,
    aggregate_optimality_gap,
    area_score,
    bootstrap,
    bootstrap_iqm,
    difference_interval,
    iqm,
    mean_interval,
    normalised,
    paired,
    performance_profile,
    probability_of_improvement,
    run_score,
    seed_correlation,
    unpaired,
)

AGGREGATES = [aggregate_mean, aggregate_median, aggregate_iqm, aggregate_optimality_gap]
numbers = st.integers(-1000, 1000).map(lambda k: k / 8)
seeds = st.lists(numbers, min_size=1, max_size=7)
environments = st.lists(seeds, min_size=1, max_size=4)


def test_run_score_is_the_mean_of_the_last_tenth():
    steps = np.arange(0, 101, 5)
    assert run_score(steps, steps.astype(float), 100) == np.mean([95, 100])
    assert run_score([0, 100], [1.0, 7.0], 100) == 7.0
    assert run_score([0, 50], [1.0, 7.0], 100) == 7.0  # nothing in the last tenth: the last there is
    assert math.isnan(run_score([], [], 100))


def test_area_score_by_hand():
    # Trapezia: 50 * 5 + 45 * 15 + 5 * 30 = 250 + 675 + 150, over 100 steps.
    steps, returns = [0, 50, 95, 100], [0.0, 10.0, 20.0, 40.0]
    assert area_score(steps, returns) == pytest.approx(10.75)
    assert area_score(steps[::-1], returns[::-1]) == pytest.approx(10.75)
    assert area_score([50, 150], [1.0, 3.0]) == 2.0  # over its own width
    assert area_score([50], [3.0]) == 3.0
    assert math.isnan(area_score([], []))


def test_normalised_scores_are_0_at_random_and_1_at_the_reference():
    np.testing.assert_array_equal(normalised([-10.0, 40.0, 90.0, 190.0], -10.0, 90.0), [0, 0.5, 1, 2])
    for random, reference in ((5.0, 5.0), (5.0, 4.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match="must be above"):
            normalised([1.0], random, reference)


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
    few = difference_interval([1.0], [3.0, 4.0])
    assert few.value == -2.5
    assert math.isnan(few.low)
    assert math.isnan(few.high)
    assert math.isnan(difference_interval([], [3.0, 4.0]).value)


def test_paired_interval_by_hand():
    # The pairs' differences are -1, -2 and -3, independent of what the seeds have in common.
    half = 4.302653 * 1.0 / math.sqrt(3)
    estimate = paired([100.0, 200.0, 300.0], [101.0, 202.0, 303.0]).interval()
    assert estimate == pytest.approx((-2.0, -2 - half, -2 + half), rel=1e-6)
    assert math.isnan(paired([1.0], [2.0]).interval().low)
    assert math.isnan(paired([], []).value)
    with pytest.raises(ValueError, match="one length"):
        paired([1.0, 2.0], [1.0])


@given(st.lists(numbers, min_size=2, max_size=8), st.lists(numbers, min_size=2, max_size=8))
def test_intervals_equal_scipys(a, b):
    if len(set(a)) > 1 and len(set(b)) > 1:
        theirs = stats.ttest_ind(a, b, equal_var=False).confidence_interval(0.9)
        assert unpaired(a, b).interval(0.9)[1:] == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-9)
    pairs = list(zip(a, b, strict=False))
    if len({x - y for x, y in pairs}) > 1:
        x, y = zip(*pairs, strict=True)
        theirs = stats.ttest_rel(x, y).confidence_interval(0.9)
        assert paired(x, y).interval(0.9)[1:] == pytest.approx((theirs.low, theirs.high), rel=1e-9, abs=1e-9)


@given(st.lists(st.tuples(numbers, numbers), min_size=2, max_size=8), st.sampled_from([unpaired, paired]), st.data())
def test_differences_change_sign_with_sides_scale_with_units_and_ignore_order(pairs, of, data):
    a, b = np.array(pairs).T
    value, low, high = of(a, b).interval()
    assert of(b, a).interval() == pytest.approx((-value, -high, -low))
    assert of(4 * a + 3, 4 * b + 3).interval() == pytest.approx((4 * value, 4 * low, 4 * high))
    order = data.draw(st.permutations(range(len(a))))
    assert of(a[order], b[order]).interval() == pytest.approx((value, low, high))


def test_correlation_of_paired_seeds_by_hand():
    assert seed_correlation([1.0, 2.0, 3.0], [5.0, 7.0, 9.0]) == pytest.approx(1)
    assert seed_correlation([1.0, 2.0, 3.0], [1.0, 3.0, 2.0]) == pytest.approx(0.5)
    assert seed_correlation([1.0, 2.0, 3.0], [3.0, 2.0, 1.0]) == pytest.approx(-1)
    assert math.isnan(seed_correlation([1.0, 2.0], [3.0, 4.0]))
    assert math.isnan(seed_correlation([1.0, 2.0, 3.0], [4.0, 4.0, 4.0]))


DRAWS = 3000
BINOMIAL_ERROR = 3.3 * math.sqrt(0.05 * 0.95 / DRAWS)
"""Deviation from a share of 5% of the draws that is exceeded once in a thousand times."""


def coverage(of, n, spread=1.0, correlation=0.0):
    """Return how often the interval of a difference of 0 contains 0; `spread`: the second side's, the first's is 1."""
    a, noise = np.random.default_rng(n).normal(size=(2, DRAWS, n))
    b = spread * (correlation * a + math.sqrt(1 - correlation**2) * noise)
    return np.mean([low <= 0 <= high for _, low, high in (of(*pair).interval() for pair in zip(a, b, strict=True))])


@pytest.mark.parametrize("n", [3, 5, 10])
def test_paired_intervals_have_their_stated_coverage(n):
    assert abs(coverage(paired, n, spread=3, correlation=0.5) - 0.95) < BINOMIAL_ERROR


@pytest.mark.parametrize(
    "n", [3, pytest.param(5, marks=pytest.mark.thorough), pytest.param(10, marks=pytest.mark.thorough)]
)
def test_unpaired_intervals_have_their_stated_coverage(n):
    assert abs(coverage(unpaired, n, spread=3) - 0.95) < BINOMIAL_ERROR
    # Welch's degrees of freedom are too few for three seeds of equal variances: it covers more, 96.6%.
    assert -BINOMIAL_ERROR < coverage(unpaired, n) - 0.95 < BINOMIAL_ERROR + (0.016 if n == 3 else 0.006)


@pytest.mark.thorough
def test_unpaired_intervals_are_too_wide_for_correlated_seeds_and_vice_versa():
    assert coverage(unpaired, 5, correlation=0.6) > 0.95 + BINOMIAL_ERROR
    assert coverage(unpaired, 5, correlation=-0.6) < 0.95 - BINOMIAL_ERROR


def test_aggregates_by_hand():
    runs = [[0.0, 0.2, 0.4], [0.6, 0.8], [2.0]]  # means 0.2, 0.7, 2
    assert aggregate_mean(runs) == pytest.approx(2.9 / 3)
    assert aggregate_median(runs) == pytest.approx(0.7)
    assert aggregate_optimality_gap(runs) == pytest.approx((0.8 + 0.3 + 0) / 3)
    assert aggregate_optimality_gap(runs, target=0.5) == pytest.approx((0.3 + 0 + 0) / 3)
    # Of 6 runs a sixth of the weight goes at each end. In ascending order they weigh 2 2 2 3 3 6 eighteenths: 3 are
    # cut below (0.0 and half of 0.2), 3 above (half of 2.0).
    assert aggregate_iqm(runs) == pytest.approx((0.2 * 1 + 0.4 * 2 + 0.6 * 3 + 0.8 * 3 + 2.0 * 3) / 12)


def test_an_aggregate_needs_a_seed_in_every_environment():
    for aggregate, runs in itertools.product(AGGREGATES, ([], [[1.0], []])):
        with pytest.raises(ValueError, match="at least one seed"):
            aggregate(runs)


@given(st.integers(1, 9).flatmap(lambda n: st.lists(st.lists(numbers, min_size=n, max_size=n), min_size=1, max_size=4)))
def test_with_equal_seeds_the_aggregated_iqm_equals_the_iqm_of_all_runs(runs):
    assert aggregate_iqm(runs) == pytest.approx(iqm(np.ravel(runs)), abs=1e-9)


@given(environments, st.integers(1, 20))
def test_weights_of_resamples_agree_with_drawing_the_seeds_again(runs, seed):
    random = np.random.default_rng(seed)
    drawn = [random.integers(len(x), size=len(x)) for x in runs]
    weights = [np.bincount(d, minlength=len(d))[:, None] / len(d) for d in drawn]
    again = [np.array(x)[d] for x, d in zip(runs, drawn, strict=True)]
    for aggregate in AGGREGATES:
        assert aggregate(runs, weights) == pytest.approx(np.array([aggregate(again)]), abs=1e-9)


@given(environments, st.randoms(use_true_random=False))
def test_aggregates_ignore_order_and_scale_with_their_values(runs, random):
    mixed = [random.sample(x, len(x)) for x in random.sample(runs, len(runs))]
    for aggregate in AGGREGATES:
        assert aggregate(mixed) == pytest.approx(aggregate(runs), abs=1e-9)
    for aggregate in AGGREGATES[:3]:
        moved = aggregate([4 * np.array(x) + 3 for x in runs])
        assert moved == pytest.approx(4 * aggregate(runs) + 3, abs=1e-9)
        assert min(map(min, runs)) - 1e-9 <= aggregate(runs) <= max(map(max, runs)) + 1e-9


def test_aggregates_of_curves_equal_those_of_every_point():
    random = np.random.default_rng(0)
    runs = [random.normal(size=(n, 2, 3)) for n in (4, 7)]
    weights = [np.full((n, 5), 1 / n) for n in (4, 7)]
    for aggregate in AGGREGATES:
        curve = aggregate(runs)
        assert curve.shape == (2, 3)
        assert aggregate(runs, weights) == pytest.approx(np.repeat(curve[..., None], 5, axis=-1))
        assert curve[1, 2] == pytest.approx(aggregate([x[:, 1, 2] for x in runs]))


def test_a_bootstrap_interval_contains_its_estimate_and_shrinks_with_seeds():
    random = np.random.default_rng(0)
    few, many = random.normal(size=(5, 4)), random.normal(size=(80, 4))
    for curves in (few, many):
        middle, low, high = bootstrap_iqm(curves, resamples=500)
        assert middle.shape == low.shape == high.shape == (4,)
        assert (low <= middle).all()
        assert (middle <= high).all()
    split_cohort = np.subtract(*bootstrap_iqm(many, 500)[:0:-1]).mean()
    assert split_cohort < 0.5 * np.subtract(*bootstrap_iqm(few, 500)[:0:-1]).mean()


def test_bootstrap_of_two_seeds_by_hand():
    # Four resamples of a mean, 0 0.5 0.5 1, of the environments' mean 0 0.25 ... 1: 1 / 16 are as low as 0.
    zeros_and_ones = [[0.0, 1.0], [0.0, 1.0]]
    assert bootstrap(zeros_and_ones, aggregate_mean, level=0.95) == (0.5, 0, 1)
    assert bootstrap(zeros_and_ones, aggregate_mean, level=0.7) == (0.5, 0.25, 0.75)
    for runs in ([[0.0, 0.0], [1.0, 1.0]], [[0.0] * 5, [1.0] * 5]):  # drawn within environments: no spread
        assert bootstrap(runs, aggregate_mean) == (0.5, 0.5, 0.5)


def test_bootstrap_of_one_seed_has_no_bounds():
    value, low, high = bootstrap([[1.0, 3.0], [4.0]], aggregate_mean)
    assert value == 3
    assert math.isnan(low)
    assert math.isnan(high)


def test_bootstrap_intervals_do_not_depend_on_the_block_size(monkeypatch):
    curves = np.random.default_rng(0).normal(size=(9, 6))
    whole = bootstrap_iqm(curves)
    monkeypatch.setattr(statistics, "NUMBERS_PER_BLOCK", 50)
    np.testing.assert_array_equal(bootstrap_iqm(curves), whole)


def test_bootstrapped_means_have_the_spread_of_the_mean():
    runs = [np.random.default_rng(0).normal(size=400), 10 + np.random.default_rng(1).normal(size=100)]
    error = math.sqrt(runs[0].var() / 400 + runs[1].var() / 100) / 2
    value, low, high = bootstrap(runs, aggregate_mean, resamples=5000)
    assert (high - value, value - low) == pytest.approx((1.96 * error, 1.96 * error), rel=0.08)


def test_performance_profile_by_hand():
    runs = [[0.1, 0.5, 0.5, 0.9], [0.7, 0.7]]
    value, low, high = performance_profile(runs, [0.0, 0.5, 0.6, 0.8, 0.9])
    np.testing.assert_allclose(value, [1, (1 / 4 + 1) / 2, (1 / 4 + 1) / 2, 1 / 8, 0])
    assert (low <= value).all()
    assert (value <= high).all()
    assert low[0] == high[0] == 1
    assert high[-1] == 0
    assert low[1] < high[1]


def test_probability_of_improvement_by_hand():
    # Of 2 x 3 pairs: 2 > 1; 4 > 1, 3, and ties with 4. In the second environment a always wins.
    a, b = [[2.0, 4.0], [9.0, 9.0]], [[1.0, 3.0, 4.0], [0.0, 0.0]]
    value, low, high = probability_of_improvement(a, b)
    assert value == pytest.approx((3.5 / 6 + 1) / 2)
    assert low < value < high == 1
    assert math.isnan(probability_of_improvement([[1.0]], [[0.0]]).low)
    with pytest.raises(ValueError, match="2 environments against 1"):
        probability_of_improvement(a, b[:1])


@given(environments, st.data())
def test_probabilities_of_improvement_of_both_sides_add_up_to_1(a, data):
    b = data.draw(st.lists(seeds, min_size=len(a), max_size=len(a)))
    there, back = probability_of_improvement(a, b, 10).value, probability_of_improvement(b, a, 10).value
    assert there + back == pytest.approx(1)
    assert 0 <= there <= 1
    theirs = [stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)) for x, y in zip(a, b, strict=True)]
    assert there == pytest.approx(np.mean(theirs))
