"""Hypotheses on a difference: p-values by hand, power from textbooks and simulations."""

import math

import numpy as np
import pytest

from sac_bench.analysis.hypotheses import above, below, different, equivalent
from sac_bench.analysis.permutation import permuted
from sac_bench.analysis.statistics import Difference, paired, unpaired

DRAWS = 2000
BETTER, WORSE = different()


def of(value, deviation=1.0, n=5):
    """Return a difference of two sides with equal spread and seeds."""
    return Difference(value, (deviation**2, deviation**2), (n, n))


def error(share):
    """Return the deviation from a share of the draws that is exceeded once in a thousand times."""
    return 3.3 * math.sqrt(share * (1 - share) / DRAWS)


def test_p_values_by_hand():
    # t quantile 0.975 with 8 degrees of freedom: 2.306004; 0.95: 1.859548. The error is sqrt(2 / 5).
    assert BETTER.p_value(of(2.306004 * math.sqrt(0.4))) == pytest.approx(0.05, rel=1e-5)
    assert WORSE.p_value(of(-2.306004 * math.sqrt(0.4))) == pytest.approx(0.05, rel=1e-5)
    assert equivalent(1 + 1.859548 * math.sqrt(0.4)).p_value(of(1.0)) == pytest.approx(0.05, rel=1e-5)
    assert BETTER.p_value(of(0.0)) == WORSE.p_value(of(0.0)) == 1
    assert equivalent(3).p_value(of(-3.0)) == 0.5
    assert above(-3.0, "").p_value(of(-3.0)) == below(-3.0, "").p_value(of(-3.0)) == 0.5


def test_equivalence_by_permutation_needs_both_bounds():
    a, b = np.arange(5.0), np.arange(5.0) + 0.25
    assert equivalent(10).p_value(permuted(a, b)) == 1 / 252
    assert equivalent(0.2).p_value(permuted(a, b)) > 0.5


def test_power_equals_textbook_values():
    # Cohen 1988, tables 2.3.5 and 2.4.1 (two-sided 5%, power 80%): 394, 64, 26 and 17 a side for d = 0.2, 0.5, 0.8, 1.
    for d, n in ((0.2, 394), (0.5, 64), (0.8, 26), (1.0, 17)):
        assert BETTER.power(of(d, n=n), 0.05) >= 0.8 > BETTER.power(of(d, n=n - 1), 0.05)
    # Pairs: 199, 34, 10.
    for d, n in ((0.2, 199), (0.5, 34), (1.0, 10)):
        assert (
            BETTER.power(Difference(d, (1.0,), (n,)), 0.05) >= 0.8 > BETTER.power(Difference(d, (1.0,), (n - 1,)), 0.05)
        )
    assert WORSE.power(of(1.0, n=17), 0.05) < 1e-3
    assert (BETTER.power(of(1.0, 0.0), 0.05), BETTER.power(of(0.0, 0.0), 0.05)) == (1, 0)


def test_power_agrees_with_simulations():
    random = np.random.default_rng(0)
    draws = [unpaired(1 + random.normal(size=17), random.normal(size=17)) for _ in range(DRAWS)]
    assert abs(np.mean([BETTER.p_value(d) <= 0.05 for d in draws]) - BETTER.power(of(1.0, n=17), 0.05)) < error(0.8)
    shown = [equivalent(2.0).p_value(d) <= 0.05 for d in draws]
    assert abs(np.mean(shown) - equivalent(2.0).power(of(1.0, n=17), 0.05)) < error(0.8)
    noise = random.normal(size=(2, DRAWS, 10)) / math.sqrt(2)
    share = np.mean([BETTER.p_value(paired(1 + a, b)) <= 0.05 for a, b in zip(*noise, strict=True)])
    assert abs(share - BETTER.power(Difference(1.0, (1.0,), (10,)), 0.05)) < error(0.8)


@pytest.mark.parametrize("hypothesis", [BETTER, equivalent(1.2), below(0.9, "")])
def test_the_chance_of_a_later_decision_agrees_with_continued_experiments(hypothesis):
    """True differences are drawn around an observed one, and as many seeds again are added."""
    n, observed = 40, 0.5
    before, random = of(observed, n=n), np.random.default_rng(1)
    truths = random.normal(observed, before.error, DRAWS)
    added = random.normal(truths, before.error)
    shown = [hypothesis.p_value(of(value, n=2 * n)) <= 0.05 for value in (observed + added) / 2]
    assert abs(np.mean(shown) - hypothesis.chance_later(before, 2.0, 0.05)) < error(0.5) + 0.01


def test_without_spread_more_seeds_change_nothing():
    assert BETTER.chance_later(of(1.0, 0.0), 2.0, 0.05) == 1
    assert BETTER.chance_later(of(0.0, 0.0), 2.0, 0.05) == 0
