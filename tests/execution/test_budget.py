"""How budgets are written, and what they buy."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sac_bench.errors import InputError
from sac_bench.execution.budget import SYNTAX, Budget, Cohort, Wave, buy, parse_budget


@pytest.mark.parametrize(
    ("text", "amount", "unit"),
    [
        ("90min", 5400.0, "seconds"),
        ("8h", 28_800.0, "seconds"),
        ("1.5 h", 5400.0, "seconds"),
        ("2d", 172_800.0, "seconds"),
        ("5000000 transitions", 5_000_000, "transitions"),
        ("5M transitions", 5_000_000, "transitions"),
        (" 0.5Mtransitions ", 500_000, "transitions"),
        ("250k transitions", 250_000, "transitions"),
    ],
)
def test_a_budget_is_a_number_with_a_unit(text, amount, unit):
    assert parse_budget(text) == Budget(amount, unit)


@pytest.mark.parametrize(
    "text",
    ["", "8", "h", "-8h", "0h", "8 hours", "90m", "5M", "8H", "1e3h", "inf h", "nan h", "8h 30min", "٣h", "8\nh!"],
)
def test_other_budgets_are_refused_with_what_is_allowed(text):
    with pytest.raises(InputError, match=re.escape(SYNTAX)) as caught:
        parse_budget(text)
    assert str(caught.value).startswith("--budget ")


def test_parts_of_transitions_are_refused():
    with pytest.raises(InputError, match="transitions must be a whole number"):
        parse_budget("0.5 transitions")


def wave(name, *hours):
    return Wave(name, tuple(Cohort(3600.0 * h, round(1e6 * h)) for h in hours))


WAVES = [wave("first", 1, 1, 2), wave("v-network", 3, 3), wave("one-q", 0.5)]


def test_waves_fit_in_order_by_their_time_on_all_workers():
    bought = buy(parse_budget("4h"), WAVES, workers=2)
    assert [(one.name, one.amount / 3600) for one in bought.fitting] == [("first", 2.0)]
    assert [(one.name, one.amount / 3600) for one in bought.missing] == [("v-network", 3.0), ("one-q", 0.5)]
    assert bought.left == 2 * 3600
    alone = buy(parse_budget("4h"), WAVES, workers=1)
    assert ([one.amount / 3600 for one in alone.fitting], alone.left) == ([4.0], 0.0)


def test_what_is_spent_is_not_spent_again():
    assert len(buy(parse_budget("6h"), WAVES, 2).fitting) == 3
    assert len(buy(parse_budget("6h"), WAVES, 2, spent=3600.0).fitting) == 2
    nothing = buy(parse_budget("6h"), WAVES, 2, spent=7 * 3600.0)
    assert (nothing.fitting, nothing.left, len(nothing.missing)) == ((), 0.0, 3)


def test_transitions_do_not_depend_on_the_workers():
    of = [buy(parse_budget("10M transitions"), WAVES, workers) for workers in (1, 8)]
    assert of[0] == of[1]
    assert [one.amount for one in of[0].fitting] == [4e6, 6e6]
    assert of[0].left == 0.0


@settings(max_examples=30, deadline=None)
@given(
    hours=st.lists(st.lists(st.floats(0.01, 50), min_size=1, max_size=5), max_size=5),
    budget=st.floats(0.1, 100),
    spent=st.floats(0, 100),
    workers=st.integers(1, 8),
)
def test_a_budget_is_never_exceeded_and_a_larger_one_buys_no_less(hours, budget, spent, workers):
    waves = [wave(str(i), *of_one) for i, of_one in enumerate(hours)]
    bought = buy(Budget(budget * 3600, "seconds"), waves, workers, spent * 3600)
    assert sum(one.amount for one in bought.fitting) <= max(0.0, budget - spent) * 3600 + 1e-6
    assert [one.name for one in (*bought.fitting, *bought.missing)] == [one.name for one in waves]
    more = buy(Budget(2 * budget * 3600, "seconds"), waves, workers, spent * 3600)
    assert len(more.fitting) >= len(bought.fitting)
