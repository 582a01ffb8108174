"""Standings over several looks: by hand, and what they must not depend on."""

import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sac_bench.analysis.hypotheses import different, equivalent
from sac_bench.analysis.permutation import permuted
from sac_bench.analysis.sequential import Contest, Design, Standing, Trial, holm, holm_levels, share, standings
from sac_bench.analysis.statistics import Difference, unpaired
from sac_bench.analysis.verdicts import verdicts
from sac_bench.spec.seeds import LOOKS, SeedRange

DESIGN = Design(SeedRange(5, 30).looks)
p_values = st.lists(st.floats(0, 1), min_size=1, max_size=8)


class Known:
    """Evidence whose p-value for "better" is known at every look."""

    def __init__(self, p, value=1.0):
        self.p, self.value = p, value

    spread = Difference(1.0, (1.0, 1.0), (5, 10))

    def above(self, shift=0.0):
        return self.p

    def below(self, shift=0.0):
        return 1.0

    def for_level(self, alpha):
        return self

    def least_p(self, seeds):
        return 0.0

    def interval(self, level=0.95):
        return Difference(self.value, (1.0, 1.0), (5, 10)).interval(level)


def known(*p, ready=30):
    """A comparison with these p-values (two-sided) at the looks, whose runs have ended up to `ready` seeds."""
    trials = {look: Trial((different(),), Known(of / 2)) for look, of in zip(DESIGN.looks, p, strict=False)}
    return Contest(lambda look: look <= ready, trials.get)


def of_scores(a, b, margin=None):
    """A comparison of scores, in the order of the seeds."""
    families = (different(),) if margin is None else (different(), (equivalent(margin),))
    return Contest(lambda look: True, lambda look: Trial(families, permuted(a[:look], b[: 2 * look])))


def test_holm_by_hand():
    # 3 * 0.01, 2 * 0.03, and 1 * 0.04, which may not be below the one before.
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.5, 0.9]), [1, 1])
    np.testing.assert_allclose(holm([0.01, math.nan, 0.04, 0.03]), [0.03, math.nan, 0.06, 0.06])
    assert holm([]).shape == (0,)


def test_holms_levels_by_hand():
    np.testing.assert_allclose(holm_levels([0.01, 0.04, 0.03]), [0.05 / 3, 0.05 / 2, 0.05 / 2])  # the second fails
    np.testing.assert_allclose(holm_levels([0.04, 0.01, 0.02]), [0.05, 0.05 / 3, 0.05 / 2])  # all are rejected
    np.testing.assert_allclose(holm_levels([0.01, math.nan, 0.9]), [0.05 / 2, math.nan, 0.05])
    assert holm_levels([]).shape == (0,)


@given(st.lists(st.floats(0, 0.1) | st.just(math.nan), max_size=8))
def test_a_p_value_is_rejected_if_and_only_if_it_is_at_most_its_holm_level(p):
    adjusted, levels = holm(p), holm_levels(p)
    for one, level, own in zip(p, levels, adjusted, strict=True):
        if not math.isnan(one) and not math.isclose(own, 0.05):
            assert (one <= level) == (own <= 0.05)


@given(p_values, st.randoms(use_true_random=False))
def test_holm_keeps_the_order_and_lies_between_raw_values_and_bonferronis(p, random):
    adjusted = holm(p)
    assert (adjusted >= p).all()
    assert (adjusted <= np.minimum(1, np.array(p) * len(p)) + 1e-12).all()
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    mixed = random.sample(range(len(p)), len(p))
    np.testing.assert_array_equal(holm(np.array(p)[mixed]), adjusted[mixed])


def test_the_shares_of_all_looks_sum_to_at_most_the_error():
    assert 0.99 < sum(map(share, LOOKS)) <= 1
    assert sum(share(look) for look in LOOKS if look <= 30) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="not in tuple"):
        share(6)


def test_a_p_value_is_divided_by_the_share_of_its_look():
    # 0.0075 / 0.15 = 0.05
    (one,) = standings([known(0.0075, 1)], DESIGN)
    assert (one.state, one.word, one.look) == ("decided", "better", 5)
    assert one.p_values == (pytest.approx(0.05),)
    (one,) = standings([known(0.0076, 0.9, 0.9, 0.9, 0.9)], DESIGN, futile=0)
    assert (one.state, one.look) == ("open", 30)
    assert one.p_values == (pytest.approx(0.0076 / 0.15),)  # the least of all looks
    (one,) = standings([known(0.0076, 0.9, 0.9, 0.005)], DESIGN, futile=0)
    assert (one.state, one.look) == ("decided", 20)


def test_holm_covers_the_table_and_later_decisions_help_waiting_comparisons():
    # At 5 seeds both need 0.0075 / 2. At 8 the second is decided, and then the first, by what it had at 5.
    first, second = known(0.007, 1, 1), known(1, 0.003, 1)
    waiting, _ = standings([known(0.007, ready=5), known(1, ready=5)], DESIGN, futile=0)
    together = standings([first, second], DESIGN, futile=0)
    assert (waiting.state, waiting.awaits) == ("waiting", 8)
    assert [(one.word, one.look) for one in together] == [("better", 5), ("better", 8)]


def test_a_late_decision_belongs_to_the_look_whose_p_value_decided():
    """The first has p-values 0.007, 1, and differences 3 at 5 seeds and -1 at 8. Its decision waits for the second."""

    def of_first(look):
        p, value = {5: (0.007, 3.0), 8: (1.0, -1.0)}[look]
        return Trial((different(),), Known(p / 2, value))

    first = Contest(lambda look: look <= 8, of_first)
    design = Design(SeedRange(5, 8).looks)
    late, other = verdicts([first, known(1, 0.003)], design)
    assert (late.word, late.look, other.look) == ("better", 5, 8)
    assert late.p_values == (pytest.approx(0.007 / share(5)),)
    assert late.interval.value == late.corrected.value == 3.0
    assert late.corrected.low > 0
    assert [look for look, _ in late.intervals] == [5]


def test_all_p_values_of_a_late_decision_belong_to_its_look():
    """Equivalence at 5 seeds decides, once the second is equivalent at 8. A difference at 8 is not of that look."""

    class Both(Known):
        def __init__(self, different, equivalent):
            super().__init__(different / 2)
            self.equivalent = equivalent

        def above(self, shift=0.0):
            return self.p if shift == 0 else self.equivalent

        def below(self, shift=0.0):
            return 1.0 if shift == 0 else self.equivalent

    def of(*p):
        trials = {look: Trial((different(), (equivalent(1.0),)), Both(*q)) for look, q in zip((5, 8), p, strict=True)}
        return Contest(lambda look: True, trials.get)

    late, other = standings([of((1, 0.007), (0.001, 1)), of((1, 1), (1, 0.003))], Design((5, 8)), futile=0)
    assert (late.word, late.look, other.word, other.look) == ("equivalent", 5, "equivalent", 8)
    assert late.p_values == (1.0, pytest.approx(0.007 / share(5)))


def test_comparisons_count_in_holm_before_their_runs_have_ended():
    one, waiting = standings([known(0.007, 1), known(1, ready=0)], DESIGN, futile=0)
    assert one.state != "decided"
    assert (waiting.state, waiting.awaits) == ("waiting", 5)


def test_results_after_a_decision_do_not_change_it():
    random = np.random.default_rng(0)
    a, b = random.normal(3, 1, 30), random.normal(0, 1, 60)
    (one,) = standings([of_scores(a, b)], DESIGN)
    a[one.look :] = -100
    (again,) = standings([of_scores(a, b)], DESIGN)
    assert one.state == "decided"
    assert (again.look, again.word, again.p_values) == (one.look, one.word, one.p_values)


def test_a_waiting_comparison_says_which_look_it_awaits():
    (one,) = standings([known(0.5, 0.5, 0.5, ready=8)], DESIGN, futile=0)
    assert (one.state, one.awaits, one.look) == ("waiting", 12, 8)


def test_a_comparison_stops_if_the_remaining_seeds_can_hardly_decide_it():
    random = np.random.default_rng(2)
    a, b = random.normal(0, 1, 30), random.normal(0, 1, 60)
    (one,) = standings([of_scores(a, b)], DESIGN)
    assert (one.state, one.word) == ("futile", "")
    assert one.look < 30
    (longer,) = standings([of_scores(a, b)], DESIGN, futile=0)
    assert (longer.state, longer.look) == ("open", 30)


def test_a_range_may_be_widened_after_it_ended():
    """A wider range ends as if it had been requested at first."""
    random = np.random.default_rng(3)
    a, b = random.normal(0.6, 1, 80), random.normal(0, 1, 160)
    short, wide = Design(SeedRange(5, 30).looks), Design(SeedRange(5, 80).looks)
    (first,) = standings([of_scores(a, b)], short, futile=0)
    (later,) = standings([of_scores(a, b)], wide, futile=0)
    assert first.p_values[0] >= later.p_values[0]
    assert [look for look, _ in later.path][: len(first.path)] == [look for look, _ in first.path]


@given(st.integers(0, 1000), st.permutations(range(4)))
@settings(max_examples=5, deadline=None)
def test_the_order_of_a_table_does_not_matter(seed, order):
    random = np.random.default_rng(seed)
    scores = [random.normal(shift, 1, 12) for shift in (0, 0.5, 1.5, 3)]
    b = random.normal(0, 1, 24)
    design = Design(SeedRange(5, 12).looks)
    before = standings([of_scores(a, b, 0.5) for a in scores], design)
    after = standings([of_scores(scores[i], b, 0.5) for i in order], design)
    assert [(x.state, x.word, x.look, x.p_values) for x in after] == [
        (before[i].state, before[i].word, before[i].look, before[i].p_values) for i in order
    ]


def test_equivalence_is_reported_even_if_a_difference_is_shown():
    random = np.random.default_rng(4)
    a, b = random.normal(0.2, 0.01, 30), random.normal(0, 0.01, 60)
    (one,) = standings([of_scores(a, b, 1.0)], DESIGN)
    assert one.word == "equivalent"


@pytest.mark.thorough
def test_intervals_become_narrower_and_hold_for_all_looks():
    """Of 1000 tables at looks with 45% of the error, at most 0.45 alpha miss the true difference, but not far fewer."""
    random, missed, alpha, tables = np.random.default_rng(5), 0, 0.5, 1000
    design = Design(SeedRange(5, 12).looks)
    for _ in range(tables):
        a, b = random.normal(1, 1, 12), random.normal(0, 1, 24)
        path = [(look, Trial((different(),), unpaired(a[:look], b[: 2 * look]))) for look in design.looks]
        intervals = Standing("open", path=tuple(path)).intervals(design, alpha)
        for x, y in pairwise(intervals):
            assert (x.low <= y.low and y.high <= x.high) or not x.low <= y.value <= x.high
        missed += not intervals[-1].low <= 1 <= intervals[-1].high
    assert 0.15 * alpha < missed / tables < 0.45 * alpha + 3 * math.sqrt(0.2 * 0.8 / tables)


def test_evidence_has_the_precision_that_its_looks_level_requires():
    levels = []

    class Asked(Known):
        def for_level(self, alpha):
            levels.append(alpha)
            return self

    one = Contest(lambda look: True, lambda look: Trial((different(),), Asked(0.4)))
    standings([one, one], Design(SeedRange(300, 500).looks), futile=0)
    assert levels == pytest.approx([0.05 * share(look) / 2 for look in (300, 300, 500, 500)])


def test_fixed_seeds_are_one_look_with_the_whole_error():
    contest = Contest(lambda look: True, lambda look: Trial((different(),), Known(0.02)))
    (one,) = standings([contest], Design())
    assert (one.state, one.look, one.p_values) == ("decided", None, (pytest.approx(0.04),))
