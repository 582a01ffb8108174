"""Permutation tests: against scipy's, by hand, and their intervals."""

import math
from collections import OrderedDict

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from sac_bench.analysis import permutation
from sac_bench.analysis.permutation import (
    MAX_LABELLING_BYTES,
    MAX_REFINED_P,
    MIN_TEST_DRAWS,
    Flipped,
    Permuted,
    labels,
    permuted,
    unpacked,
)
from sac_bench.analysis.sequential import share
from sac_bench.analysis.statistics import unpaired

numbers = st.integers(-1000, 1000).map(lambda k: k / 8)
sides = st.lists(numbers, min_size=2, max_size=5)
RANDOM = np.random.default_rng(0)


def table(bits, n):
    return np.concatenate(list(unpacked(bits, n)))


def welch(a, b, axis=-1):
    return stats.ttest_ind(a, b, axis=axis, equal_var=False).statistic


@pytest.mark.parametrize(("n", "m"), [(3, 4), (5, 5), (4, 7)])
@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_p_values_equal_scipys(n, m, shift):
    a, b = RANDOM.normal(1, 1, n), RANDOM.normal(0, 2, m)
    for alternative, sign in (("greater", 1), ("less", -1)):
        theirs = stats.permutation_test((a - shift, b), welch, alternative=alternative, n_resamples=np.inf)
        assert permuted(a, b).by_permutation(shift, sign) == pytest.approx(theirs.pvalue)


def test_a_p_value_is_the_larger_of_the_permutation_test_and_the_t_test():
    skewed, few = [0.0, 0.1, 0.2, 0.1, 5.0], [5.1, 5.2, 5.15, 5.3, 5.25]
    for a, b in ((few, skewed), (np.arange(5.0) + 2, np.arange(5.0)), (np.arange(5.0), np.arange(5.0) + 9)):
        evidence = permuted(a, b)
        for sign, alternative, p in ((1, "greater", evidence.above(0.5)), (-1, "less", evidence.below(0.5))):
            t = stats.ttest_ind(np.subtract(a, 0.5), b, equal_var=False, alternative=alternative).pvalue
            assert p == pytest.approx(max(t, evidence.by_permutation(0.5, sign)))
    assert permuted(few, skewed).above() > permuted(few, skewed).by_permutation(0.0, 1)  # here Student's is larger


def test_p_values_of_sign_flips_equal_scipys():
    pairs = RANDOM.normal(0.5, 1, 8)
    theirs = stats.permutation_test((pairs,), np.mean, permutation_type="samples", n_resamples=np.inf)
    assert 2 * min(Flipped(pairs).above(), Flipped(pairs).below()) == pytest.approx(theirs.pvalue)
    assert Flipped(np.array([1.0, 2, 3, 4, 5])).above() == 1 / 32
    assert Flipped(np.arange(1.0, 21)).above() == pytest.approx(1 / (MIN_TEST_DRAWS + 1))  # 2^20 signs: a sample


def test_sides_that_do_not_overlap_have_the_lowest_possible_p_value():
    a, b = np.arange(10.0, 15), np.arange(5.0)
    assert permuted(a, b).above() == 1 / math.comb(10, 5) == permuted(a, b).least_p((5, 5))
    assert permuted(b, a).below() == 1 / math.comb(10, 5)
    assert permuted(a, b).below() == 1


def test_environments_are_permuted_separately():
    """With two environments of 2 + 2 seeds there are 6 * 6 labellings, and one is as extreme as the observed."""
    a, b = (np.array([5.0, 6]), np.array([105.0, 107])), (np.array([1.0, 2.5]), np.array([101.0, 102]))
    assert Permuted(a, b).above() == pytest.approx(1 / 36, rel=0.1)  # by a sample of labellings
    assert Permuted(a, b).value == pytest.approx((3.75 + 4.5) / 2)


def test_without_spread_p_values_are_extreme_and_intervals_have_no_width():
    same, other = permuted([5.0] * 5, [5.0] * 5), permuted([5.0] * 5, [7.0] * 5)
    assert (same.above(), same.below()) == (1, 1)
    assert (other.above(), other.below()) == (1, 1 / math.comb(10, 5))
    assert tuple(other.interval()) == (-2, -2, -2)


@given(sides, sides, st.integers(-40, 40).map(lambda k: k / 8))
@settings(max_examples=30, deadline=None)
def test_exchanging_the_sides_mirrors_the_p_value(a, b, shift):
    assert permuted(a, b).above(shift) == pytest.approx(permuted(b, a).below(-shift), abs=1e-12)
    in_cents = permuted(np.multiply(4, a), np.multiply(4, b))
    assert permuted(a, b).above(shift) == pytest.approx(in_cents.above(4 * shift), abs=1e-12)


def test_labellings_are_complete_or_a_balanced_sample():
    every = table(labels(((3, 4),), MIN_TEST_DRAWS)[0], 7)
    assert len({tuple(row) for row in every}) == math.comb(7, 3) == len(every)
    sample = table(labels(((12, 24),), 1000)[0], 36)
    assert (sample.sum(axis=1) == 12).all()
    assert np.abs(sample.mean(axis=0) - 1 / 3).max() < 0.06


@pytest.mark.parametrize("shift", [0.0, 0.3, 0.5, 0.9])
def test_with_many_seeds_the_test_agrees_with_welchs(shift):
    a, b = RANDOM.normal(shift, 1, 40), RANDOM.normal(0, 1.5, 60)
    expected = stats.ttest_ind(a, b, equal_var=False, alternative="greater").pvalue
    exact = 3 * math.sqrt(expected / (1000 if expected > MAX_REFINED_P else MIN_TEST_DRAWS))
    assert permuted(a, b).above() == pytest.approx(expected, abs=exact + 0.1 * expected)


@given(st.lists(numbers, min_size=5, max_size=6), st.lists(numbers, min_size=5, max_size=6))
@settings(max_examples=15, deadline=None)
def test_an_interval_contains_the_values_that_its_tests_do_not_reject(a, b):
    evidence = permuted(a, b)
    assume(evidence.spread.error > 0)
    value, low, high = evidence.interval(0.9)
    assert low <= value <= high
    step = 0.1 * evidence.spread.error
    if math.isfinite(low):
        assert evidence.above(low - step) <= 0.05 < evidence.above(low + step)
    if math.isfinite(high):
        assert evidence.below(high + step) <= 0.05 < evidence.below(high - step)


def test_with_many_seeds_an_interval_agrees_with_welchs():
    a, b = RANDOM.normal(1, 1, 30), RANDOM.normal(0, 2, 40)
    expected = unpaired(a, b).interval()
    assert permuted(a, b).interval() == pytest.approx(tuple(expected), abs=0.1 * unpaired(a, b).error)


def test_tests_at_the_levels_of_late_looks_can_reject_with_bounded_memory():
    for look in (300, 500, 800):
        level = 0.05 * share(look) / 9  # of the first step of Holm's correction
        both = permuted(np.arange(look), np.arange(2 * look)).for_level(level)
        assert 2 * both.least_p((look, 2 * look)) <= level
        assert both.draws * (3 * look // 8) <= MAX_LABELLING_BYTES
        flipped = Flipped(np.arange(float(look))).for_level(level)
        assert 2 * flipped.least_p((look,)) <= level
    assert permuted(np.arange(5), np.arange(10)).for_level(0.05).draws == MIN_TEST_DRAWS


def test_labellings_are_cached_as_bits_within_a_memory_limit(monkeypatch):
    monkeypatch.setattr(permutation, "MAX_LABELLING_BYTES", 10_000)
    monkeypatch.setattr(permutation, "_kept", OrderedDict())
    for n in (80, 88, 96):
        (bits,) = labels(((n, 2 * n),), 200)
        assert bits.nbytes == 200 * 3 * n / 8
    assert list(permutation._kept) == [(((96, 192),), 200)]
    assert labels(((96, 192),), 200)[0] is bits


def test_labellings_do_not_depend_on_the_chunk_size(monkeypatch):
    monkeypatch.setattr(permutation, "_kept", OrderedDict())
    at_once = labels(((12, 24), (5, 9)), 300)
    monkeypatch.setattr(permutation, "_kept", OrderedDict())
    monkeypatch.setattr(permutation, "LABELS_AT_ONCE", 100)
    for one, other in zip(at_once, labels(((12, 24), (5, 9)), 300), strict=True):
        np.testing.assert_array_equal(one, other)


def test_an_interval_at_a_high_level_has_bounds_if_there_are_many_seeds():
    """10,000 draws could not reject anything at this level."""
    a, b = RANDOM.normal(1, 1, 40), RANDOM.normal(0, 1, 40)
    _, low, high = permuted(a, b).interval(1 - 0.05 * share(800))
    assert math.isfinite(low)
    assert math.isfinite(high)


def test_too_few_seeds_to_reject_anything_give_an_infinite_interval():
    assert tuple(permuted([1.0, 2], [3.0, 5]).interval())[1:] == (-math.inf, math.inf)  # 1/6 is the lowest p-value
