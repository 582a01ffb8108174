"""Verdicts on differences: computed by hand, error rates and power."""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from sac_bench.analysis.statistics import Difference, paired, unpaired
from sac_bench.analysis.verdicts import (
    MOST_SEEDS,
    Verdict,
    difference_p,
    difference_power,
    equivalence_p,
    equivalence_power,
    holm,
    seeds_to_decide,
    verdicts,
    word,
)

numbers = st.integers(-1000, 1000).map(lambda k: k / 8)
sides = st.lists(numbers, min_size=5, max_size=9)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)
OPPOSITE = {"better": "worse", "worse": "better", "equivalent": "equivalent", "undecided": "undecided"}


def of(value, deviation=1.0, n=5):
    """Return a difference of two sides with equal spread and seeds."""
    return Difference(value, (deviation**2, deviation**2), (n, n))


def test_holm_by_hand():
    # 3 * 0.01, 2 * 0.03, and 1 * 0.04, which may not be below the one before.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1, 1])
    np.testing.assert_allclose(holm([0.01, math.nan, 0.04, 0.03]), [0.03, math.nan, 0.06, 0.06])
    assert holm([]).shape == (0,)


@given(p_values, st.randoms(use_true_random=False))
def test_holm_keeps_the_order_and_lies_between_the_raw_value_and_bonferronis(p, random):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    mixed = random.sample(range(len(p)), len(p))
    np.testing.assert_array_equal(holm(np.array(p)[mixed]), adjusted[mixed])


def test_p_values_by_hand():
    # t quantile 0.975 with 8 degrees of freedom: 2.306004; 0.95: 1.859548. The error is sqrt(2 / 5).
    assert difference_p(of(2.306004 * math.sqrt(0.4))) == pytest.approx(0.05, rel=1e-5)
    assert equivalence_p(of(1.0), 1 + 1.859548 * math.sqrt(0.4)) == pytest.approx(0.05, rel=1e-5)
    assert difference_p(of(0.0)) == 1
    assert equivalence_p(of(-3.0), 3) == 0.5
    assert math.isnan(difference_p(unpaired([1.0], [2.0, 3.0])))
    for margin in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="above 0"):
            equivalence_p(of(0.0), margin)


def test_without_spread_there_is_no_doubt():
    same, other = unpaired([5.0] * 5, [5.0] * 5), unpaired([5.0] * 5, [7.0] * 5)
    assert (difference_p(same), difference_p(other)) == (1, 0)
    assert (equivalence_p(same, 1), equivalence_p(other, 1), equivalence_p(other, 2)) == (0, 1, 0.5)
    assert [v.word for v in verdicts([same, other], [None, None])] == ["undecided", "worse"]


@given(sides, sides, st.integers(1, 400), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_tests_are_the_intervals(a, b, margin, alpha):
    difference = unpaired(a, b)
    assume(difference.error > 0)
    _, low, high = difference.interval(1 - alpha)
    assume(abs(low) > 1e-9 and abs(high) > 1e-9)
    assert (difference_p(difference) <= alpha) == (low > 0 or high < 0)
    _, low, high = difference.interval(1 - 2 * alpha)
    assume(abs(high - margin) > 1e-9 and abs(low + margin) > 1e-9)
    assert (equivalence_p(difference, margin) <= alpha) == (-margin < low and high < margin)


@given(sides, sides, st.integers(1, 400))
def test_the_other_side_round_the_word_turns(a, b, margin):
    ahead, behind = verdicts([unpaired(a, b)], [margin]) + verdicts([unpaired(b, a)], [margin])
    assert behind.word == OPPOSITE[ahead.word]
    assert behind.seeds_needed == ahead.seeds_needed
    (in_cents,) = verdicts([unpaired(np.multiply(4, a), np.multiply(4, b))], [4 * margin])
    assert in_cents.word == ahead.word


def test_words_by_hand():
    assert word(of(2.0), 0.04, math.nan) == "better"
    assert word(of(-2.0), 0.04, math.nan) == "worse"
    assert word(of(2.0), 0.06, 0.06) == "undecided"
    assert word(of(2.0), 0.06, 0.04) == "equivalent"
    assert word(of(2.0), 0.04, 0.04) == "equivalent"  # shown not to be 0, and shown not to matter
    assert word(of(2.0, n=4), 0.001, 0.001) is None
    assert word(Difference(2.0, (1.0, 1.0), (4, 50)), 0.001, 0.001) is None
    assert word(Difference(2.0, (1.0,), (4,)), 0.001, 0.001) is None


def test_a_tables_verdicts_are_after_holm_and_few_seeds_do_not_count():
    clear, less, few = of(2.0), of(1.5), of(0.0, n=4)  # p = 0.013, 0.045 and 1
    table = verdicts([clear, few, less], [None] * 3)
    assert [v.word for v in table] == ["better", None, "better"]
    adjusted = [v.p_difference for v in table]
    np.testing.assert_allclose(adjusted, [2 * difference_p(clear), math.nan, difference_p(less)])
    enough = verdicts([clear, of(0.0), less], [None] * 3)
    assert [v.word for v in enough] == ["better", "undecided", "undecided"]


def test_only_claims_with_a_margin_are_tested_for_equivalence():
    tight, loose = verdicts([of(0.1, 0.2), of(0.1, 0.2)], [None, 0.5])
    assert (tight.word, loose.word) == ("undecided", "equivalent")
    assert math.isnan(tight.p_equivalence)
    assert loose.p_equivalence == equivalence_p(of(0.1, 0.2), 0.5)  # the only one in its family


def test_undecided_says_how_many_seeds_would_decide():
    (alone,) = verdicts([of(1.0)], [None])
    assert alone.in_words() == "undecided (17 seeds per side would decide)"
    among = verdicts([of(1.0)] * 3, [None] * 3)
    assert among[0].seeds_needed == seeds_to_decide(of(1.0), alpha_difference=0.05 / 3) > 17
    (never,) = verdicts([of(0.0)], [None])
    assert never.in_words() == f"undecided (more than {MOST_SEEDS} seeds per side would decide)"
    assert never.in_words(short=True) == f"undecided (more than {MOST_SEEDS} seeds)"
    assert Verdict("better", 0.01, math.nan).in_words() == "better"
    assert Verdict(None, math.nan, math.nan).in_words() == ""


def test_seeds_to_decide_are_the_textbooks():
    # Cohen 1988, tables 2.4.1 and 2.3.5 (two-sided 5%, power 80%): 394, 64, 26 and 17 a side for d = 0.2, 0.5, 0.8, 1.
    assert [seeds_to_decide(of(d)) for d in (0.2, 0.5, 0.8, 1.0)] == [394, 64, 26, 17]
    # Pairs: 199, 34, 10.
    assert [seeds_to_decide(Difference(d, (1.0,), (5,))) for d in (0.2, -0.5, 1.0)] == [199, 34, 10]
    assert seeds_to_decide(of(9.0)) == 5  # no verdict below
    assert seeds_to_decide(of(0.0, 0.0)) == 5
    assert seeds_to_decide(of(0.1), most=1569) is None
    assert seeds_to_decide(of(0.1), most=1571) == 1571


@given(st.floats(0.1, 3), st.floats(0.5, 3), st.floats(0.1, 3))
def test_seeds_to_decide_are_the_first_that_are_enough(value, deviation, margin):
    seeds = seeds_to_decide(of(value, deviation), margin)
    assume(seeds is not None)

    def power(n):
        return max(difference_power(of(value, deviation, n)), equivalence_power(of(value, deviation, n), margin))

    assert power(seeds) >= 0.8
    assert seeds == 5 or power(seeds - 1) < 0.8


DRAWS = 2000


def error(share):
    """Return the deviation from a share of the draws that is exceeded once in a thousand times."""
    return 3.3 * math.sqrt(share * (1 - share) / DRAWS)


def drawn(n, *differences):
    """Tables of differences of n seeds per side with standard deviation 1, all from one reference."""
    random = np.random.default_rng(n)
    for _ in range(DRAWS):
        reference = random.normal(size=n)
        yield [unpaired(shift + random.normal(size=n), reference) for shift in differences]


def wrong(tables, margin, words):
    """Return the share of tables that have any of the verdicts `words`, by p-values alone, which is fast."""
    hits = []
    for table in tables:
        different = holm([difference_p(d) for d in table])
        equal = holm([equivalence_p(d, margin) for d in table])
        hits.append(any(word(*case) in words for case in zip(table, different, equal, strict=True)))
    return np.mean(hits)


@pytest.mark.parametrize(
    ("n", "differences"),
    [pytest.param(5, 1, marks=pytest.mark.thorough), (10, 1), pytest.param(5, 4, marks=pytest.mark.thorough)],
)
def test_where_there_is_no_difference_one_is_named_in_5_tables_of_100(n, differences):
    # A margin far below the noise: nothing is called equivalent.
    share = wrong(drawn(n, *[0.0] * differences), 1e-6, {"better", "worse"})
    # Differences from one reference are correlated, and Holm is then too careful.
    assert (0.025 if differences > 1 else 0.05 - error(0.05)) < share < 0.05 + error(0.05)


@pytest.mark.parametrize(
    "margins_apart",
    [
        [3.0],
        pytest.param([-3.0], marks=pytest.mark.thorough),
        pytest.param([3.0, 3.0, -3.0], marks=pytest.mark.thorough),
    ],
)
def test_at_the_margin_equivalence_is_said_in_5_tables_of_100(margins_apart):
    share = wrong(drawn(10, *margins_apart), 3.0, {"equivalent"})
    assert (0.02 if len(margins_apart) > 1 else 0.05 - error(0.05)) < share < 0.05 + error(0.05)


def test_the_power_of_the_seeds_to_decide_is_what_simulations_have():
    n = seeds_to_decide(of(1.0))
    share = np.mean([difference_p(d) <= 0.05 for (d,) in drawn(n, 1.0)])
    assert abs(share - difference_power(of(1.0, n=n))) < error(0.8)
    assert share > 0.8 - error(0.8)


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_the_power_of_the_seeds_to_show_equivalence_is_what_simulations_have(value):
    n = seeds_to_decide(of(value), 1.0)
    share = np.mean([equivalence_p(d, 1.0) <= 0.05 for (d,) in drawn(n, value)])
    assert abs(share - equivalence_power(of(value, n=n), 1.0)) < error(0.8)
    assert share > 0.8 - error(0.8)


def test_power_of_pairs_is_what_simulations_have():
    noise = np.random.default_rng(0).normal(size=(2, DRAWS, 10)) / math.sqrt(2)
    share = np.mean([difference_p(paired(1 + a, b)) <= 0.05 for a, b in zip(*noise, strict=True)])
    assert abs(share - difference_power(Difference(1.0, (1.0,), (10,)))) < error(0.8)


def test_the_example_in_the_documents_says_what_it_gives():
    text = (Path(__file__).parents[2] / "docs/api.md").read_text()
    (example,) = [block for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL) if "verdicts(" in block]
    setup, shown, answer = re.fullmatch(r"(.*)\n(\[.*\])\n# (.*)\n", example, re.DOTALL).groups()
    names = {}
    exec(setup, names)
    assert eval(shown, names) == eval(answer)
