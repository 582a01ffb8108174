"""How budgets are written, and which comparisons they cover."""

import re
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sac_bench.errors import InputError
from sac_bench.execution.budget import SYNTAX, OverBudget, Price, Purse, affordable, fitting, parse_budget, price
from sac_bench.execution.calibration import Basis, Calibration, Estimate
from sac_bench.execution.plan import CohortPlan, Plan
from sac_bench.spec.experiment import ExperimentGroup, Need
from sac_bench.spec.load import load


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
    budget = parse_budget(text)
    assert (budget.text, budget.amount, budget.unit) == (text.strip(), amount, unit)


@pytest.mark.parametrize(
    "text",
    ["", "8", "h", "-8h", "0h", "8 hours", "90m", "5M", "8H", "1e3h", "inf h", "nan h", "8h 30min", "٣h", "8\nh!"],
)
def test_invalid_budgets_are_refused_with_the_accepted_forms(text):
    with pytest.raises(InputError, match=re.escape(SYNTAX)) as caught:
        parse_budget(text)
    assert str(caught.value).startswith("--budget ")


def test_fractions_of_transitions_are_refused():
    with pytest.raises(InputError, match="transitions must be a whole number"):
        parse_budget("0.5 transitions")


def test_the_clock_uses_up_a_budget_in_time_and_plans_one_in_transitions(plan):
    now = [100.0]
    hour, transitions, none = (
        Purse(budget, lambda: now[0]) for budget in (parse_budget("1h"), parse_budget("1000 transitions"), None)
    )
    now[0] += 600
    for purse in (hour, transitions, none):
        purse.pay(plan)
    assert [one.left() for one in (hour, transitions, none)] == [3000.0, 1000 - 2 * 300, float("inf")]
    now[0] += 10_000
    assert [one.left() for one in (hour, transitions)] == [0.0, 400]


@pytest.fixture
def plan(experiment_file):
    """One cohort of two runs from 100 to 400 steps."""
    runs = tuple(spec for _, spec in load(experiment_file, variants=["sac"]).runs())
    return Plan((), (CohortPlan("0" * 16, runs, 400, done=100, is_new=False),))


def test_the_first_look_may_exceed_a_budget_in_time_by_a_tenth_but_not_in_transitions():
    purse = Purse(parse_budget("1h"), lambda: 0.0)
    purse.require(Price(1.09 * 3600))
    with pytest.raises(OverBudget, match=r"takes about 67 min more .measured here., with about 60 min left; raise the"):
        purse.require(Price(1.11 * 3600))
    with pytest.raises(OverBudget, match="rough estimate"):
        purse.watch(Estimate(7200.0, Basis.MODEL))
    purse = Purse(parse_budget("1k transitions"))
    purse.require(Price(1000, "transitions"))
    with pytest.raises(OverBudget, match="takes 1,001 transitions more, with 1,000 transitions left"):
        purse.require(Price(1001, "transitions"))
    purse.watch(Estimate(1e9, Basis.MEASURED))  # time does not count
    Purse().watch(Estimate(1e9, Basis.MEASURED))


def test_a_budget_with_fixed_seeds_is_refused(experiment_file):
    fixed, ranged = load(experiment_file), load(experiment_file, seeds="5..8")
    assert Purse.of("8h", ExperimentGroup((ranged,))).budget == parse_budget("8h")
    assert Purse.of(None, ExperimentGroup((fixed,))).budget is None
    with pytest.raises(InputError, match=r"--budget 8h: tiny has fixed seeds, .* give a range .--seeds 5..30."):
        Purse.of("8h", ExperimentGroup((ranged, fixed)))


def test_runs_that_wait_for_a_warm_start_count_in_the_price(plan):
    group = SimpleNamespace(runs=lambda: [(SimpleNamespace(steps={spec.env: 600}), spec) for spec in runs])
    runs = plan.cohorts[0].runs
    waiting = Plan((), plan.cohorts, waiting=runs)
    assert price(waiting, group, "transitions", Calibration(), 1).amount == 2 * 300 + 2 * 600
    alone, both = (price(one, group, "seconds", Calibration(), 2) for one in (plan, waiting))
    assert alone.amount == pytest.approx(plan.cohorts[0].seconds)
    assert both.amount == pytest.approx(alone.amount + CohortPlan("", runs, 600).seconds)


def needed(label, runs, look=8):
    """A comparison that needs runs, each of which costs its number."""
    return Need("tiny", label, 5, look, {("env", str(run)): look for run in runs})


def union(needs):
    return sum({int(name) for need in needs for _, name in need.seeds})


def labels(needs):
    return [need.label for need in needs]


def test_comparisons_are_taken_in_order_while_they_fit_together():
    needs = [needed("v-network", [10, 1]), needed("one-q", [30, 1]), needed("tau=1", [5, 1])]
    assert labels(affordable(needs, union, 46)) == ["v-network", "one-q", "tau=1"]
    assert labels(affordable(needs, union, 45)) == ["v-network", "one-q"]  # they share run 1
    assert labels(affordable(needs, union, 40)) == ["v-network"]  # tau=1 is not taken in place of one-q
    assert affordable(needs, union, 10) == []
    assert affordable([], union, 0) == []


def test_an_earlier_look_comes_first():
    needs = [needed("v-network", [10], look=12), needed("one-q", [20]), needed("tau=1", [30])]
    assert labels(affordable(needs, union, 50)) == ["one-q", "tau=1"]
    assert labels(affordable(needs, union, 49)) == ["one-q"]


@settings(max_examples=30, deadline=None)
@given(
    of=st.lists(st.tuples(st.lists(st.integers(1, 30), max_size=4), st.sampled_from([8, 12])), max_size=6),
    left=st.integers(0, 150),
    more=st.integers(0, 150),
)
def test_chosen_comparisons_fit_and_a_larger_budget_chooses_no_fewer(of, left, more):
    needs = [needed(str(i), runs, look) for i, (runs, look) in enumerate(of)]
    taken = affordable(needs, union, left)
    ordered = sorted(needs, key=lambda need: need.look)
    assert taken == ordered[: len(taken)]
    assert union(taken) <= left
    assert len(taken) == len(needs) or union(ordered[: len(taken) + 1]) > left
    assert len(affordable(needs, union, left + more)) >= len(taken)
    assert affordable(needs, union, float("inf")) == ordered


def test_looks_are_counted_until_one_does_not_fit():
    assert [fitting(iter([3, 4, 5]), left) for left in (2, 3, 11.9, 12, float("inf"))] == [0, 1, 2, 3, 3]
