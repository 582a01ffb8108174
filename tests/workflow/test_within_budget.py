"""Training within a budget: which looks are trained, what remains undecided, and what deciding it would cost."""

import pytest
from rich.console import Console

import sac_bench
from sac_bench.analysis.waves import Compared
from sac_bench.analysis.waves import needs as needs_of
from sac_bench.execution import train as training
from sac_bench.execution.budget import OverBudget, Purse, parse_budget
from sac_bench.execution.train import price_of
from sac_bench.execution.worker_options import Workers
from sac_bench.spec.experiment import ExperimentGroup
from sac_bench.spec.load import load
from sac_bench.store.store import Store
from sac_bench.workflow import training as running
from tests.workflow.test_looks import ENV, asks, need, pretend, ranged, seeds_of  # noqa: F401 - fixtures

ONE = Workers("cpu", 1)


def both(results):
    """Return the needs of two comparisons that continue to the last look, 12 seeds."""
    had = seeds_of(results.manifest)
    return [need("tiny", name, {name: {5: 8, 8: 12}[had[name]]}) for name in ("v-network", "tau=1") if had[name] < 12]


@pytest.fixture
def clock(monkeypatch):
    """A clock that advances only when a plan is carried out, by the plan's estimate."""
    now, carry_out = [0.0], training.carry_out

    def takes_time(plan, store, workers, console, projected):
        carry_out(plan, store, workers, console, projected)
        now[0] += plan.seconds(workers.count)

    monkeypatch.setattr(training, "carry_out", takes_time)
    return lambda: now[0]


def within(file, store, budget, clock):
    """Train an experiment; return the seeds that its variants have in the end, and the last lines."""
    purse = Purse(budget and parse_budget(budget), clock)
    how = running.Training(store, ONE, Console(quiet=True), "a command", purse=purse)
    group = running.train_and_collect(ExperimentGroup((load(file),)), how)
    (experiment,) = group.experiments
    own = {name: len(experiment.seeds_of(ENV, name)) for name in experiment.variants}
    return own, running.outlook(group, how)


@pytest.fixture
def plans(pretend, monkeypatch):  # noqa: F811
    monkeypatch.setattr(running, "needs", both)
    monkeypatch.setattr(running, "needs_to_decide", lambda results: [])
    return pretend({"status": "diverged", "steps": 400})


@pytest.fixture
def unlimited(ranged, plans, clock, tmp_path):  # noqa: F811
    """The plans that are carried out without a budget: the first look, then both comparisons together, twice."""
    assert within(ranged, Store(tmp_path / "unlimited"), None, clock)[1] == []
    assert [len(plan) for plan in plans] == [20, 6, 8]
    found = list(plans)
    plans.clear()
    return found


@pytest.mark.parametrize("budget", ["2d", "14k transitions", f"{34 * 400} transitions"])
def test_a_sufficient_budget_changes_nothing(budget, unlimited, ranged, plans, clock, tmp_path):  # noqa: F811
    seeds, lines = within(ranged, Store(tmp_path / "results"), budget, clock)
    assert plans == unlimited
    assert (seeds, lines) == ({"sac": 10, "v-network": 12, "tau=0.005": 5, "tau=1": 12}, [])


def test_comparisons_that_fit_are_taken_in_order_and_the_rest_are_named(
    unlimited,
    ranged,  # noqa: F811
    plans,
    clock,
    tmp_path,
):
    transitions = 400 * (20 + 3 + 2)  # of the second look only the first comparison fits
    seeds, lines = within(ranged, Store(tmp_path / "results"), f"{transitions} transitions", clock)
    assert [len(plan) for plan in plans] == [20, 3]
    assert set(plans[1]) < set(unlimited[1])
    assert seeds == {"sac": 10, "v-network": 8, "tau=0.005": 5, "tau=1": 5}
    assert lines == [
        "undecided for lack of budget (10000 transitions):",
        "  v-network: 1,600 transitions more (5 -> 8 seeds)",
        "  tau=1: 1,200 transitions more (5 -> 8 seeds)",
    ]


def test_elapsed_time_counts_against_the_budget(unlimited, ranged, plans, clock, tmp_path):  # noqa: F811
    group = ExperimentGroup((load(ranged),))
    store = Store(tmp_path / "results")
    first = price_of(group, store, ONE, "seconds").amount
    grown = group.with_needs([need("tiny", "v-network", {"v-network": 8})])
    skip = [spec.id for _, spec in group.runs()]
    second = price_of(grown, store, ONE, "seconds", skip=skip).amount
    enough, less = ((first + second + seconds) / 60 for seconds in (1, -1))
    _, lines = within(ranged, Store(tmp_path / "less"), f"{less:.4f}min", clock)
    assert [len(plan) for plan in plans] == [20]
    assert lines[1:] == [f"  {name}: about {second:.0f} s more (5 -> 8 seeds)" for name in ("v-network", "tau=1")]
    plans.clear()
    within(ranged, Store(tmp_path / "enough"), f"{enough:.4f}min", clock)
    assert [len(plan) for plan in plans] == [20, 3]


def test_a_repeated_command_has_its_whole_budget_again(unlimited, ranged, plans, clock, tmp_path):  # noqa: F811
    store = Store(tmp_path / "results")
    for budget in (20, 3, 3, 4, 4):
        within(ranged, store, f"{400 * budget} transitions", clock)
    assert [len(plan) for plan in plans if plan] == [20, 3, 3, 4, 4]
    assert {run for plan in plans for run in plan} == {run for plan in unlimited for run in plan}


def test_a_first_look_over_the_budget_of_transitions_is_refused_at_the_start(ranged, plans, clock, tmp_path):  # noqa: F811
    store = Store(tmp_path / "results")
    with pytest.raises(OverBudget, match="the first look takes 8,000 transitions more, with 7,999 transitions left"):
        within(ranged, store, "7999 transitions", clock)
    assert plans == []
    assert store.run_ids() == []


def test_undecided_comparisons_say_what_would_decide_them(
    ranged,  # noqa: F811
    plans,
    clock,
    tmp_path,
    monkeypatch,
):
    monkeypatch.setattr(running, "needs", lambda results: [])
    monkeypatch.setattr(running, "needs_to_decide", lambda results: [need20])
    need20 = running.Need("tiny", "tau=1", 5, 20, {(ENV, "tau=1"): 20, (ENV, "sac"): 40})
    _, lines = within(ranged, Store(tmp_path / "results"), "90k transitions", clock)
    assert lines[1:] == ["  tau=1: needs 20 seeds, 18,000 transitions more"]  # 15 and 30 runs


def test_the_state_of_a_comparison_is_described_in_words():
    from sac_bench.analysis.statistics import NO_ESTIMATE
    from sac_bench.analysis.verdicts import Verdict

    def words(**of):
        return Compared("tau=1", Verdict(**of), {}).in_words()

    at8 = ((8, NO_ESTIMATE),)
    assert words(word="better", intervals=at8, state="decided") == "better at 8 seeds"
    assert words(word="undecided", intervals=at8, state="futile", seeds_needed=80).startswith("undecided, stopped at 8")
    assert words(word="undecided", intervals=at8, state="waiting", awaits=12) == "waits for 12 seeds (undecided at 8)"
    assert words(word="", state="waiting", awaits=5) == "waits for 5 seeds"
    assert words(word="") == "no verdict"


@pytest.mark.thorough
def test_a_real_experiment_stays_within_its_budget_of_transitions(experiment_file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    monkeypatch.setattr(running, "needs", asks({"sac": 16}))
    options = {"variants": ["sac"], "seeds": "5..8", "device": "cpu", "workers": 1, "results": tmp_path / "results"}
    assert len(sac_bench.run(experiment_file, budget="6000 transitions", **options).runs) == 10
    assert "a comparison: 2,400 transitions more (5 -> 8 seeds)" in capsys.readouterr().out
    second = sac_bench.run(experiment_file, budget="2400 transitions", **options)
    assert list(second.runs["status"]) == ["finished"] * 16
    assert "lack of budget" not in capsys.readouterr().out
    assert "budget='2400 transitions'" in second.manifest.command
    assert needs_of(second) == []  # the reference alone is not compared


@pytest.mark.thorough
def test_a_first_look_that_is_measured_as_too_slow_is_stopped(command, ranged):  # noqa: F811
    run = ["run", ranged, "--steps", "20000", "--budget", "0.01min", "--workers", "1"]
    stopped = command(*run)
    assert stopped.returncode == 2, stopped.stderr
    assert "--budget 0.01min: the first look takes about " in stopped.stderr
    assert "a budget reduces seeds, never steps" in stopped.stderr
    runs = Store(ranged.parent / "results")
    steps = [runs.run(run_id).status()["steps"] for run_id in runs.run_ids()]
    assert 0 < max(steps) < 20_000
    standing = command("status", "tiny")
    assert "interrupted" in standing.stdout
    assert "v-network: waits for 5 seeds" in standing.stdout
    dry = command(*run, "--dry-run")
    assert "more than the budget; raise it" in dry.stdout
    longer = command(*run[:-4], "--budget", "2d", "--dry-run")
    assert "--budget 2d: the first look takes about " in longer.stdout
    assert "covers 3 of 3 looks if nothing is decided early, up to 12 seeds per variant" in longer.stdout
    fixed = command(*run, "--seeds", "5", "--dry-run")
    assert (fixed.returncode, "has fixed seeds" in fixed.stderr) == (2, True)
