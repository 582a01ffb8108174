"""The number of cohorts is chosen so that no worker idles at the end."""

import math
from collections import defaultdict
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sac_bench.execution.cost import update_flops
from sac_bench.execution.plan import _divisible
from sac_bench.execution.schedule import MIN_GAIN, Divisible, balanced, indivisible, loads, makespan
from sac_bench.spec.load import load

EXPERIMENTS = Path(__file__).parents[2] / "experiments"


def linear(runs, widest, start=25.0, shared=10.0, each=5.0):
    return Divisible(runs, math.ceil(runs / widest), math.ceil(runs / 2), lambda width: start + shared + each * width)


def end(groups, counts, workers):
    times = sorted((t for group, n in zip(groups, counts, strict=True) for t in group.times(n)), reverse=True)
    return makespan(times, workers)


def shapes(name, workers):
    """The groups of an experiment, and how many cohorts each would get by its share of the arithmetic."""
    of_structure = defaultdict(list)
    for variant, spec in load(EXPERIMENTS / f"{name}.toml").runs():
        of_structure[spec.structure(), variant.steps[spec.env]].append(spec)
    groups = [_divisible(specs, steps, workers, 8e9, "cpu") for (_, steps), specs in of_structure.items()]
    work = [len(specs) * steps * update_flops(specs[0]) for (_, steps), specs in of_structure.items()]
    shares = [workers * one / sum(work) for one in work]
    by_share = [max(g.fewest, min(g.most, round(share)), 1) for g, share in zip(groups, shares, strict=True)]
    return groups, by_share


@pytest.mark.parametrize("workers", [1, 2, 8, 64])
@pytest.mark.parametrize("name", ["ablation-quick", "ablation-humanoid", "comparison-quick"])
def test_no_plan_ends_later_than_one_divided_by_shares_of_the_arithmetic(name, workers):
    groups, by_share = shapes(name, workers)
    assert end(groups, balanced(groups, workers), workers) <= end(groups, by_share, workers) * (1 + MIN_GAIN)


@pytest.mark.parametrize(
    ("name", "workers", "idle"),
    [
        ("ablation-quick", 2, 0.10),
        ("ablation-quick", 8, 0.15),
        ("ablation-humanoid", 2, 0.05),
        ("ablation-humanoid", 8, 0.15),
        ("ablation-humanoid", 16, 0.25),
    ],
)
def test_few_workers_idle_at_the_end(name, workers, idle):
    groups, _ = shapes(name, workers)
    times = [t for group, n in zip(groups, balanced(groups, workers), strict=True) for t in group.times(n)]
    ends = loads(sorted(times, reverse=True), workers)
    assert sum(max(ends) - one for one in ends) <= idle * workers * max(ends)


def test_a_wide_cohort_is_divided_if_another_worker_would_idle():
    groups = [linear(20, 20, start=0.0), linear(5, 20, start=0.0)]
    assert balanced(groups, 1) == [1, 1]
    assert end(groups, [1, 1], 2) == 110.0  # the other worker idles after 35
    assert end(groups, balanced(groups, 2), 2) == 85.0


def test_runs_that_would_gain_nothing_are_not_divided():
    fixed = linear(8, 8, start=1000.0, each=0.1)
    assert balanced([fixed], 4) == [1]
    assert balanced([], 4) == []


def test_cohorts_that_end_last_together_are_divided_together():
    assert balanced([linear(8, 8, start=0.0)] * 2, 4) == [2, 2]


def test_continued_cohorts_count_but_are_not_divided():
    group = linear(8, 8, start=0.0, shared=1.0)
    assert balanced([group], 2) == [2]
    assert balanced([group, indivisible(1000.0)], 2) == [1, 1]


def test_free_workers_take_the_next_cohort_in_order():
    assert sorted(loads([3.0, 2.0, 2.0], 2)) == [3.0, 4.0]
    assert sorted(loads([1.0], 2, started=[5.0, 3.0])) == [4.0, 5.0]
    assert makespan([], 3) == 0.0


groups_of_runs = st.lists(
    st.builds(
        linear,
        runs=st.integers(1, 60),
        widest=st.integers(2, 32),
        start=st.floats(0, 60),
        shared=st.floats(0, 1000),
        each=st.floats(0.1, 100),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=40, deadline=None)
@given(groups=groups_of_runs, workers=st.integers(1, 64))
def test_a_plan_is_within_its_limits_and_never_longer_than_with_the_fewest_cohorts(groups, workers):
    counts = balanced(groups, workers)
    assert counts == balanced(groups, workers)
    for group, count in zip(groups, counts, strict=True):
        assert group.fewest <= count <= max(group.most, group.fewest)
        assert len(group.times(count)) == count
    fewest = [group.fewest for group in groups]
    assert end(groups, counts, workers) <= end(groups, fewest, workers)
    if workers == 1:
        assert counts == fewest
