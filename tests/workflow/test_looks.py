"""Training in looks: what a range of seeds trains next depends only on the results."""

import os
import signal
import textwrap
import threading

import pandas as pd
import pytest
from rich.console import Console

import sac_bench
from sac_bench.execution import train as training
from sac_bench.execution.budget import Purse
from sac_bench.execution.worker_options import Workers
from sac_bench.report.tables import final_performance, presented
from sac_bench.results.collect import collect, list_runs
from sac_bench.results.load import load_results
from sac_bench.spec.experiment import ExperimentGroup, Need
from sac_bench.spec.load import load
from sac_bench.store.atomic import read_json
from sac_bench.store.store import Store
from sac_bench.workflow import training as running
from tests.conftest import EXPERIMENT
from tests.execution.test_faults import comparable, start, wait_for

ENV = "InvertedPendulum-v5"


@pytest.fixture
def ranged(experiment_file):
    experiment_file.write_text(EXPERIMENT.replace("seeds = 2", 'seeds = "5..12"'))
    return experiment_file


def seeds_of(manifest):
    return {name: len(manifest.seeds_of(ENV, name)) for name in manifest.variants}


def asks(*steps):
    """Return a `needs` that answers look by look, by the seeds that the results have: one comparison per step."""

    def needs(results):
        had = seeds_of(results.manifest)
        for step in steps:
            if any(had[name] < seeds for name, seeds in step.items()):
                return [need(results.manifest.name, "a comparison", step)]
        return []

    return needs


def need(experiment, label, seeds):
    """What a comparison needs, given the seeds of variants."""
    return Need(experiment, label, 5, 8, {(ENV, name): count for name, count in seeds.items()})


@pytest.fixture
def pretend(monkeypatch):
    """Let plans end at once: every run gets the given status. Return the ids of each plan that was carried out."""

    def pretending(status):
        plans = []

        def carry_out(plan, store, workers, console, projected):
            plans.append([spec.id for cohort in plan.cohorts for spec in cohort.runs])
            for cohort in plan.cohorts:
                for spec in cohort.runs:
                    store.run(spec.id).update(**status)

        monkeypatch.setattr(training, "carry_out", carry_out)
        monkeypatch.setattr(running, "measure_random_policies", lambda *_: [])
        return plans

    return pretending


def train(files, store, **options):
    group = ExperimentGroup(tuple(load(file) for file in files))
    how = running.Training(store, Workers("cpu", 1), Console(quiet=True), "a command", **options)
    return running.train_and_collect(group, how)


def test_each_look_trains_the_requested_runs_and_nothing_twice(ranged, tmp_path, monkeypatch, pretend):
    plans = pretend({"status": "diverged", "steps": 400})
    monkeypatch.setattr(running, "needs", asks({"tau=1": 8, "sac": 16}, {"tau=1": 12}))
    shown = []
    store = Store(tmp_path / "results")
    (experiment,) = train([ranged], store, planned=lambda group, plan: shown.append(group)).experiments
    own = {name: len(experiment.seeds_of(ENV, name)) for name in experiment.variants}
    assert own == {"sac": 16, "v-network": 5, "tau=0.005": 5, "tau=1": 12}
    assert [len(plan) for plan in plans] == [10 + 5 + 5, 6 + 3, 4]  # tau=0.005 is the reference's
    assert sorted(run_id for plan in plans for run_id in plan) == sorted({spec.id for _, spec in experiment.runs()})
    assert [len(group.runs()) for group in shown] == [25, 34, 38]


def test_the_next_look_is_the_first_that_lacks_runs(ranged, tmp_path, monkeypatch, pretend):
    """What a dry run shows: the look that a command would train, without training or writing anything."""
    plans, store = pretend({"status": "diverged", "steps": 400}), Store(tmp_path / "results")
    how = running.Training(store, Workers("cpu", 1), Console(quiet=True), "a command")
    group = ExperimentGroup((load(ranged),))
    monkeypatch.setattr(running, "needs", asks({"tau=1": 8}))
    assert running.at_next_look(group, how) == group
    assert not store.root.exists()

    monkeypatch.setattr(running, "needs", asks())
    train([ranged], store)
    before = sorted(store.root.rglob("*"))
    monkeypatch.setattr(running, "needs", asks({"tau=1": 8}, {"tau=1": 12}))
    (experiment,) = running.at_next_look(group, how).experiments
    assert experiment.allotment[ENV, "tau=1"] == 8
    assert running.lacks_runs(ExperimentGroup((experiment,)), how)
    assert sorted(store.root.rglob("*")) == before
    assert len(plans) == 1

    train([ranged], store)
    (experiment,) = (last := running.at_next_look(group, how)).experiments
    assert experiment.allotment[ENV, "tau=1"] == 12
    assert not running.lacks_runs(last, how)


def test_a_failed_run_is_not_retried_at_later_looks(ranged, tmp_path, monkeypatch, pretend):
    plans = pretend({"status": "failed", "reason": "broken", "steps": 0})
    monkeypatch.setattr(running, "needs", asks({"tau=1": 8}))
    train([ranged], Store(tmp_path / "results"), retrain=True)
    assert [len(plan) for plan in plans] == [20, 3]


def test_training_ends_before_a_look_that_cannot_be_planned(ranged, tmp_path, monkeypatch, pretend):
    """The first look leaves too little memory for another. The report then has the existing runs."""
    plans = pretend({"status": "diverged", "steps": 400})
    monkeypatch.setattr(running, "needs", asks({"tau=1": 8}))
    memory, carry_out = [1e12], training.carry_out

    def takes_all_memory(*arguments):
        carry_out(*arguments)
        memory[0] = 1e3

    monkeypatch.setattr("sac_bench.execution.worker_options.available_memory", lambda *_: memory[0])
    monkeypatch.setattr(training, "carry_out", takes_all_memory)
    for budget in (None, "1M transitions"):
        memory[0], store, console = 1e12, Store(tmp_path / f"results-{budget}"), Console(record=True, width=200)
        group = ExperimentGroup((load(ranged),))
        how = running.Training(store, Workers("cpu", 1), console, "a command", purse=Purse.of(budget, group))
        (experiment,) = running.train_and_collect(group, how).experiments
        assert [len(plan) for plan in plans] == [20]
        assert len(experiment.seeds_of(ENV, "tau=1")) == 5
        assert "no further look: " in console.export_text()
        assert len(store.run_ids()) == 20
        plans.clear()


def test_experiments_of_one_command_get_more_seeds_together(ranged, tmp_path, monkeypatch, pretend):
    plans = pretend({"status": "diverged", "steps": 400})
    other, fixed = tmp_path / "other.toml", tmp_path / "fixed.toml"
    other.write_text(ranged.read_text().replace('"tiny"', '"other"'))
    fixed.write_text(EXPERIMENT.replace('"tiny"', '"fixed"'))
    needs_of = {"tiny": asks({"tau=1": 8}), "other": asks({"v-network": 8}, {"v-network": 12})}
    monkeypatch.setattr(running, "needs", lambda results: needs_of[results.manifest.name](results))
    group = train([ranged, other, fixed], Store(tmp_path / "results"))
    assert [len(plan) for plan in plans] == [20, 3 + 3, 4]
    assert [len(one.runs()) for one in group.experiments] == [28, 32, 8]


def test_a_run_that_a_longer_variant_may_need_is_trained_for_its_steps_at_once(ranged, tmp_path, monkeypatch, pretend):
    pretend({"status": "diverged", "steps": 400})
    longer = tmp_path / "longer.toml"
    longer.write_text(
        ranged.read_text()
        .replace('"tiny"', '"longer"')
        .replace("steps = 400", "steps = 600")
        .replace('reference = "sac"', 'reference = "v-network"')
    )
    needs_of = {"tiny": asks({"sac": 16}), "longer": asks()}
    monkeypatch.setattr(running, "needs", lambda results: needs_of[results.manifest.name](results))
    steps = {}

    def noted(group, plan):
        for cohort in plan.cohorts:
            steps.update({spec.seed: cohort.steps for spec in cohort.runs if spec.config == own})

    own = load(ranged).variants["sac"].configs[ENV]
    train([ranged, longer], Store(tmp_path / "results"), planned=noted)
    assert steps == {seed: 600 if seed < 12 else 400 for seed in range(16)}


def test_a_repeated_command_keeps_the_tables_of_a_later_look(ranged, tmp_path):
    store, experiment = Store(tmp_path / "results"), load(ranged)
    raised = experiment.with_seeds({(ENV, "tau=1"): 8})
    list_runs(store, experiment)
    assert len(load_results("tiny", store.root).runs) == 25
    list_runs(store, raised)
    list_runs(store, experiment)
    assert len(load_results("tiny", store.root).runs) == 28
    list_runs(store, load(ranged, steps=600))  # not those runs
    assert set(load_results("tiny", store.root).runs["target_steps"]) == {600}
    list_runs(store, load(ranged, seeds=2))
    assert len(load_results("tiny", store.root).runs) == 8


def test_results_say_how_many_seeds_each_variant_has(ranged, tmp_path):
    store, experiment = Store(tmp_path / "results"), load(ranged).with_seeds({(ENV, "tau=1"): 8})
    collect(store, experiment)
    results = load_results("tiny", store.root)
    manifest = results.manifest
    assert (manifest.seed_range, manifest.looks) == ("5..12", (5, 8, 12))
    assert manifest.seeds == tuple(range(10))
    assert seeds_of(manifest) == {"sac": 10, "v-network": 5, "tau=0.005": 5, "tau=1": 8}
    assert manifest.seeds_each() == "5 to 10"
    shown = presented(final_performance(results), manifest)
    assert list(shown["seeds"]) == ["0 of 10", "0 of 5", "0 of 5", "0 of 8"]

    collect(store, load(ranged, seeds=2))
    fixed = load_results("tiny", store.root).manifest
    assert (fixed.seed_range, fixed.looks, fixed.seeds_each()) == (None, (), "2")
    assert fixed.seeds_of(ENV, "tau=1") == (0, 1)


@pytest.mark.thorough
def test_a_dry_run_shows_the_first_and_largest_numbers_of_seeds(command, ranged):
    ran = command("run", ranged, "--dry-run")
    assert ran.returncode == 0, ran.stderr
    words = "tiny: 5 seeds per variant at first (reference: 10); at most 12 seeds (reference: 24) and 60 runs in total"
    assert words in ran.stdout
    assert "20 new" in ran.stdout
    claims = command("run", ranged, "--dry-run", "--seeds", "2")
    assert "at most" not in claims.stdout
    listed = command("list", "experiments", "--json", "--folder", ranged.parent)
    assert "5..12" in listed.stdout
    assert "tiny: seeds 5..12" in command("status", ranged).stdout


ASKS = """
import sac_bench.workflow.training as running
from sac_bench.spec.experiment import Need

def needs(results):  # the variant with the lowest returns gets 8 seeds, and the lowest of the new ones 12
    manifest, evaluations = results.manifest, results.evaluations
    ends = evaluations[(evaluations["step"] == 400) & (evaluations["policy"] == "mean")]
    had = {name: len(manifest.seeds_of(ENV, name)) for name in ("v-network", "tau=1")}
    if max(had.values()) == 12:
        return []
    of_look = [name for name in had if had[name] == max(had.values())]
    means = ends.groupby("variant")["return_mean"].mean()
    look, variant = {5: 8, 8: 12}[max(had.values())], min(of_look, key=lambda name: means[name])
    return [Need(manifest.name, variant, None, look, {(ENV, variant): look})]

running.needs = needs
"""
RUN = ["run", "tiny.toml", "--import", "asks", "--workers", "1"]


@pytest.fixture
def prepared(ranged, tmp_path):
    """A folder with an experiment that takes seconds, and a module that requests more seeds by the returns."""
    (tmp_path / "asks.py").write_text(textwrap.dedent(ASKS).replace("ENV", repr(ENV)))
    return tmp_path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    """The results of one undisturbed command."""
    folder = tmp_path_factory.mktemp("undisturbed")
    (folder / "tiny.toml").write_text(EXPERIMENT.replace("seeds = 2", 'seeds = "5..12"'))
    (folder / "asks.py").write_text(textwrap.dedent(ASKS).replace("ENV", repr(ENV)))
    process = start(folder, *RUN)
    output, errors = process.communicate(timeout=240)
    assert process.returncode == 0, errors
    return output, ended(folder)


def ended(folder):
    """Return what must be the same: runs with their status, all rows, the seeds of each variant and the final table."""
    results = load_results("tiny", folder / "results")
    runs = results.runs[["run_id", "variant", "env", "seed", "status", "steps", "target_steps"]]
    final = (folder / "results" / "tiny" / "tables" / "final.csv").read_text()
    return runs.to_csv(), comparable(folder / "results"), seeds_of(results.manifest), final


@pytest.mark.thorough
def test_an_experiment_gets_seeds_look_by_look(undisturbed):
    output, (_, _, seeds, _) = undisturbed
    assert sorted(seeds.values()) == [5, 5, 10, 12]
    assert output.count("tiny: more seeds for") == 2
    assert [words in output for words in ("20 new", "3 new", "4 new")] == [True] * 3


@pytest.mark.thorough
def test_a_command_killed_at_the_second_look_ends_with_the_same_runs_and_verdicts(prepared, undisturbed):
    process = start(prepared, *RUN)
    runs = prepared / "results" / "runs"

    def started():
        return sum(read_json(path).get("steps", 0) > 0 for path in runs.glob("*/status.json"))

    wait_for(process, lambda: started() > 20)  # all runs of the first look, and some of the second
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    listed = pd.read_csv(prepared / "results" / "tiny" / "runs.csv")
    assert set(listed["run_id"]) == {path.parent.name for path in runs.glob("*/status.json")}
    again = start(prepared, *RUN)
    output, errors = again.communicate(timeout=240)
    assert again.returncode == 0, errors
    assert "20 reused" in output
    assert ended(prepared) == undisturbed[1]


@pytest.mark.thorough
def test_two_commands_at_once_end_with_the_same_runs_and_verdicts(prepared, undisturbed):
    both = [start(prepared, *RUN) for _ in range(2)]
    outputs = {}
    readers = [
        threading.Thread(target=lambda i=i, one=one: outputs.update({i: one.communicate(timeout=240)}))
        for i, one in enumerate(both)
    ]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert [one.returncode for one in both] == [0, 0], outputs
    assert ended(prepared) == undisturbed[1]


@pytest.mark.thorough
def test_from_python_a_range_is_a_string_and_finished_looks_are_reused(experiment_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    monkeypatch.setattr(running, "needs", asks({"sac": 16}))
    options = {"variants": ["sac"], "seeds": "5..8", "device": "cpu", "workers": 1, "results": tmp_path / "results"}
    first = sac_bench.run(experiment_file, **options)
    assert set(first.runs["status"]) == {"finished"}
    assert list(first.runs["seed"]) == list(range(16))
    assert "seeds='5..8'" in first.manifest.command
    monkeypatch.setattr(training, "Engine", None)  # fails if anything would be trained
    assert sac_bench.run(experiment_file, **options).runs.equals(first.runs)
