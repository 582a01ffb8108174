"""How a plan reads: the total first, one line per kind of cohort, nothing wider than a terminal."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from sac_bench.cli import plan as summary
from sac_bench.execution.budget import OverBudget, Price, Purse, parse_budget
from sac_bench.execution.calibration import Basis, Calibration, Machine, Measurement
from sac_bench.execution.cost import duration, member_bytes, result_bytes, size
from sac_bench.execution.plan import CohortPlan, Plan, make_plan
from sac_bench.execution.worker_options import Workers
from sac_bench.spec.load import load
from sac_bench.store.store import Store

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TEAM = Workers("cpu", 2)


@pytest.mark.parametrize(
    ("budget", "first", "words"),
    [
        (
            "1h",
            Price(3900.0),
            "takes about 65 min (measured here); the budget covers 1 of 2 looks if nothing is decided",
        ),
        (
            "1h",
            Price(3000.0),
            "takes about 50 min (measured here); the budget covers 2 of 2 looks if nothing is decided",
        ),
        ("1h", Price(4000.0), "the first look takes about 67 min (measured here), more than the budget; raise it"),
        (
            "10k transitions",
            Price(10_500, "transitions"),
            "the first look takes 10,500 transitions, more than the budget",
        ),
    ],
)
def test_the_plan_and_training_use_the_same_rule_for_the_first_look(budget, first, words):
    """A time may be a tenth more than the budget, as in Purse.require. Later looks get the rest."""
    purse = Purse(parse_budget(budget), lambda: 0.0)
    text = summary.bought(purse.budget, iter([first, replace(first, amount=600)]), [(5, 8)])
    assert words in text
    with nullcontext() if " covers " in text else pytest.raises(OverBudget):
        purse.require(first)


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        ("10min", "choosing options takes about 23 min (rough estimate), more than the budget; raise it, or"),
        (
            "1h",
            "choosing options takes about 23 min (rough estimate); then the first look takes about 60 min (measured "
            "here), more than the budget; raise it, or",
        ),
        (
            "2h",
            "choosing options takes about 23 min (rough estimate); then the first look takes about 60 min (measured "
            "here); the budget covers 2 of 3 looks if nothing is decided early, up to 8 seeds per variant",
        ),
    ],
)
def test_the_plan_adds_the_first_look_to_the_time_of_choosing_options(budget, words):
    looks = iter([Price(3600.0), Price(2000.0), Price(1000.0)])
    text = summary.bought(parse_budget(budget), looks, [(5, 8, 12)], Price(1380.0, basis=Basis.MODEL))
    assert text.startswith(f"--budget {budget}: {words}")


def test_the_plan_says_whether_a_later_look_fits():
    budget = parse_budget("1h")
    assert summary.next_look(budget, Price(3600.0)) == (
        "--budget 1h: the next look takes about 60 min (measured here) and fits"
    )
    assert "does not fit as a whole" in summary.next_look(budget, Price(3700.0))  # no tolerance, as in affordable


@pytest.fixture
def humanoid(tmp_path):
    experiment = load(EXPERIMENTS / "ablation-humanoid.toml")
    names = {spec.id: variant.name for variant, spec in experiment.runs()}
    return make_plan(experiment, Store(tmp_path), TEAM.count, 8e9), names


def test_a_long_plan_is_summarised_in_lines_that_fit_a_terminal(humanoid):
    plan, names = humanoid
    lines = summary.shapes(plan, Calibration(), names)
    structures = {cohort.runs[0].structure() for cohort in plan.cohorts}
    assert len(lines) == len(structures) < len(plan.cohorts)
    total = summary.total(plan, Calibration(), TEAM)
    assert max(map(len, [total, *lines, *summary.resources(plan, 2, {})])) <= 80
    assert sum(int(line.split()[0]) for line in lines) == len(plan.cohorts)
    assert any(line.endswith(" h each: one-q") for line in lines)
    assert f"in {len(plan.cohorts)} cohorts on 2 cpu workers, " in total
    assert total.endswith(" days (rough estimate)")


def test_the_total_says_what_its_estimate_is_based_on(humanoid):
    plan, _ = humanoid
    run = plan.cohorts[0].runs[0]
    one = Measurement(run, 2, 0, 100_000, 3600.0, Machine("this CPU", True))
    known = Calibration([one])
    assert known.total(plan.cohorts, 2).basis is Basis.SIMILAR
    alone = Plan((), plan.cohorts[:1])
    assert known.total(alone.cohorts, 2).basis is Basis.MEASURED
    seconds = 3600.0 / one.modelled * alone.cohorts[0].training_seconds
    assert summary.total(alone, known, TEAM).endswith(f"{duration(seconds + 25)} (measured here)")


def test_many_structures_are_summarised(humanoid):
    cohort = humanoid[0].cohorts[0]
    kinds = [
        CohortPlan(f"{n:016x}", (replace(run, config=run.config.model_copy(update={"batch_size": n})),), 10**6)
        for n in range(1, 31)
        for run in cohort.runs[:1]
    ]
    lines = summary.shapes(Plan((), tuple(kinds)), Calibration(), {})
    assert len(lines) == summary.MAX_SHAPE_LINES
    assert lines[-1].startswith("  11 cohorts of 11 more kinds, 11 runs, ")


def test_runs_that_continue_show_how_much_is_done(humanoid):
    new = humanoid[0].cohorts[0]
    cohorts = [replace(new, id=f"{n:016x}", done=done, is_new=False) for n, done in enumerate((200_000, 1_500_000))]
    (line,) = summary.shapes(Plan((), tuple(cohorts)), Calibration(), {})
    assert "2 cohorts of 2 runs, Humanoid-v5, 200k to 1.5M of 3M steps done, " in line


def test_disk_space_counts_concurrent_runs_unless_replays_are_kept(humanoid):
    plan, _ = humanoid
    replays = [len(one.runs) * member_bytes(one.runs[0], one.steps) for one in plan.cohorts]
    results = sum(result_bytes(run, one.steps) for one in plan.cohorts for run in one.runs)
    at_once, at_end = summary.resources(plan, 2, {})
    assert f"and {size(sum(sorted(replays)[-2:]))} of disk" in at_once
    assert at_end == f"after training: {size(results)} of results"
    assert summary.resources(plan, 2, {}, keep_replay=True)[1].endswith(f"{size(sum(replays))} of kept replays")
    saved = {one.id: 10**12 for one in plan.cohorts}
    assert summary.resources(plan, 2, saved)[0].endswith(" and 0.0 MB of disk")


def test_runs_that_are_not_trained_now_are_listed(humanoid):
    runs = humanoid[0].cohorts[0].runs
    words = summary.standings(Plan(runs, (), diverged=runs, waiting=runs, raised=runs))
    assert words[:3] == ["0 new", "2 reused", "0 to be continued"]
    assert words[3:] == [
        "2 diverged (not trained again)",
        "2 failed in their environment (--retrain trains them again)",
        "2 wait for the runs that they start from (not in the total)",
    ]
    assert summary.total(Plan(runs, ()), Calibration(), TEAM) == "total: nothing to train"


def test_numbers_are_shortened_for_readers():
    numbers = (3_000_000, 1_500_000, 20_000, 2_500, 1_234, 400)
    assert [summary.in_short(n) for n in numbers] == ["3M", "1.5M", "20k", "2.5k", "1,234", "400"]
    assert summary.between([180.0, 240.0], duration) == "3 to 4 min"
    assert summary.between([50.0, 240.0], duration) == "50 s to 4 min"
    assert summary.between([22, 23], str) == "22 to 23"
    assert summary.between([5, 5], str) == "5"
    assert [size(n) for n in (2e5, 3.5e7, 3.7e9)] == ["0.2 MB", "35 MB", "3.7 GB"]
