"""The search, with workers inside this process: what is trained, pruned, continued after a crash, and counted."""

import json
import re

import optuna
import pytest

from sac_bench.cli.report import report as report_command
from sac_bench.cli.run import run as run_command
from sac_bench.errors import InputError
from sac_bench.execution import gc
from sac_bench.results.load import load_results
from sac_bench.spec.load import load as load_experiment
from sac_bench.spec.run import RunSpec
from sac_bench.store.store import Store
from sac_bench.tuning import report
from sac_bench.tuning import tune as tuning
from sac_bench.tuning.record import load_record
from sac_bench.tuning.score import RunScore
from sac_bench.tuning.study import Study, load
from sac_bench.tuning.training import Training, random_returns
from sac_bench.tuning.trials import Trials
from tests.tuning.conftest import STUDY
from tests.tuning.test_study import SPACE

FIGURES = ["history", "slices", "parallel", "rungs", "cost"]


def known(tmp_path, study_file, results="results"):
    store = Store(tmp_path / results)
    with store.planner() as planner:
        return Trials(load(study_file), store, planner).all()


@pytest.fixture
def by_rate(monkeypatch):
    """Score by the learning rate: networks this small are equally bad."""

    def score(self, variant, seeds, objective):
        return {env: [RunScore(config.actor_lr)] * len(seeds) for env, config in variant.configs.items()}

    monkeypatch.setattr(Training, "scores", score)


@pytest.mark.usefixtures("without_figures")  # of the held-out runs
def test_a_study_from_file_to_winner(study_file, carry_out, in_process, by_rate, tmp_path, monkeypatch, capsys):
    assert carry_out(study_file)
    store, study = Store(tmp_path / "results"), load(study_file)
    trials = known(tmp_path, study_file)
    assert [trial.number for trial in trials] == [0, 1, 2, 3]
    assert {trial.state for trial in trials} == {"PRUNED", "COMPLETE"}
    pruned = [trial for trial in trials if trial.state == "PRUNED"]
    for trial in trials:  # runs are ordinary, their numbers those of their steps
        (spec,) = (spec for _, spec in study.experiment([study.variant("t", trial.params, 300)]).runs())
        status = store.run(spec.id).status()
        assert (status["status"], status["steps"]) == ("finished", max(trial.values))
        assert trial.costs[max(trial.values)]["steps"] == max(trial.values)
    # Compute is given back: nothing was trained of a pruned trial after its last rung, nothing twice.
    assert sum(max(trial.values) for trial in pruned) < 300 * len(pruned)
    assert len(set(in_process.trained)) == len(in_process.trained)
    assert not list(store.root.glob("cohorts/*/*.safetensors"))
    with store.planning():
        assert [item for item in gc.find(store) if "plan" not in item.why] == []

    folder = store.root / "tiny-study"
    winner = max((t for t in trials if t.value is not None), key=lambda t: (t.value, -t.number))
    best = load_experiment(folder / "best.toml")
    assert best.variants["best"].configs == study.variant("t", winner.params, 300).configs
    assert best.variants["default"].configs == study.default.configs
    in_store = {spec.id for _, spec in best.runs()} & set(store.run_ids())
    assert len(in_store) == len({spec.id for _, spec in best.runs()})
    held_out = load_results("tiny-study-held-out", store.root).runs
    assert {(run.seed, run.status) for run in held_out.itertuples()} == {(1000, "finished"), (1001, "finished")}
    report_text = (folder / "report.md").read_text()
    assert "| default " in report_text
    assert f"{winner.name} (the winner)" in report_text
    assert "95% interval" in report_text
    assert not [name for name in FIGURES if not (folder / "figures" / f"{name}.svg").stat().st_size]
    about = json.loads((folder / "study.json").read_text())
    assert about["verdict"]["contenders"][1]["name"] == winner.name
    assert load_record(folder).model_dump(mode="json") == {key: about[key] for key in about if key != "sha256"}

    in_process.trained.clear()
    with monkeypatch.context() as patch:
        patch.setattr(report, "write_figures", lambda about, folder: [])
        assert carry_out(study_file)  # again: nothing is left to do
        assert in_process.trained == []
        assert carry_out(study_file, trials=5)
    assert [trial.number for trial in known(tmp_path, study_file)] == [0, 1, 2, 3, 4]
    (folder / "report.md").unlink()
    (folder / "figures" / "history.png").unlink()
    report_command(["tiny-study"], results=store.root)
    assert (folder / "figures" / "history.png").exists()
    assert "5 of 5 trials" in (folder / "report.md").read_text()
    run_command([folder / "best.toml"], results=store.root, dry_run=True)
    assert " 0 new" in capsys.readouterr().out


class Killed(BaseException):
    """Simulates SIGKILL: no handler of the tuner may catch it."""


@pytest.mark.thorough
@pytest.mark.parametrize("at", range(1, 26, 3))
def test_a_tuner_killed_at_any_write_continues_without_counting_twice(
    at, study_file, carry_out, pretended, tmp_path, monkeypatch
):
    study_file.write_text(STUDY.replace("trials = 4", "trials = 3"))
    calls = []

    def dying(method):
        def call(*args, **kwargs):
            calls.append(method.__name__)
            if len(calls) == at:
                raise Killed
            return method(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        for name in ("_set_owner", "score", "report", "keep", "end"):
            patch.setattr(Trials, name, dying(getattr(Trials, name)))
        patch.setattr(optuna.Study, "ask", dying(optuna.Study.ask))
        died = False
        try:
            carry_out(study_file)
        except Killed:
            died = True
    assert died or len(calls) < at
    assert carry_out(study_file)
    trials = known(tmp_path, study_file)
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert not [trial for trial in trials if trial.state == "RUNNING" or not trial.values]
    assert len(set(pretended.trained)) == len(pretended.trained)  # a run's steps are trained once


def test_trials_with_equal_settings_are_trained_once_and_get_equal_results(study_file, carry_out, pretended, tmp_path):
    text = STUDY[: STUDY.index("[space]")] + '[space]\nactor_lr = {type = "categorical", choices = [0.1, 0.2]}\n'
    study_file.write_text(text.replace("trials = 4", "trials = 6"))
    assert carry_out(study_file)
    trials = known(tmp_path, study_file)
    assert len(trials) == 6
    assert len(set(pretended.trained)) == len(pretended.trained)
    for setting in (0.1, 0.2):
        equal_trials = [trial for trial in trials if trial.params["actor_lr"] == setting]
        assert {v for trial in equal_trials for v in trial.values.items()} <= {
            (n, 1e6 * setting + n) for n in (100, 200, 300)
        }


def test_failed_runs_are_reported_and_retried_by_the_next_command(study_file, carry_out, pretended, tmp_path):
    study = load(study_file)
    store = Store(tmp_path / "results")
    with store.planner() as planner:
        trials = Trials(study, store, planner)
        (number,) = trials.request(1)
        (params,) = [trial.params for trial in trials.all() if trial.number == number]
    (config,) = study.variant("t", params, 300).configs.values()
    pretended.fails.append(RunSpec("sac", config, "InvertedPendulum-v5", 0).id)
    assert not carry_out(study_file)
    trials = known(tmp_path, study_file)
    assert [trial.state for trial in trials] == ["RUNNING"] * 2  # the other shares the cohort
    assert not (tmp_path / "results" / "tiny-study" / "best.toml").exists()
    assert "2 failed" in (tmp_path / "results" / "tiny-study" / "report.md").read_text(encoding="utf-8")
    pretended.fails.clear()
    assert carry_out(study_file)
    assert "RUNNING" not in {trial.state for trial in known(tmp_path, study_file)}


def test_a_study_of_sql_is_scored_by_sampled_actions(study_file, carry_out, pretended, tmp_path):
    study_file.write_text(STUDY.replace("seeds = 1\nsteps", 'algorithm = "sql"\nseeds = 1\nsteps'))
    assert carry_out(study_file)
    for found in known(tmp_path, study_file):
        assert all(value > 0 for value in found.values.values())  # mean actions get the negative
    folder = tmp_path / "results" / "tiny-study"
    assert "of sampled actions" in (folder / "report.md").read_text(encoding="utf-8")
    best = max((t for t in known(tmp_path, study_file) if t.value is not None), key=lambda t: t.value)
    assert best.params["actor_lr"] == max(
        t.params["actor_lr"] for t in known(tmp_path, study_file) if t.value is not None
    )


class Everything:
    """Contains every value."""

    def __contains__(self, _):
        return True


def test_a_study_whose_trials_all_fail_reports_it(study_file, carry_out, in_process, tmp_path, monkeypatch):
    monkeypatch.setattr(in_process, "fails", Everything())
    assert not carry_out(study_file)  # exit code 1
    folder = tmp_path / "results" / "tiny-study"
    report_text = (folder / "report.md").read_text(encoding="utf-8")
    assert (
        "Every trial failed (2 of 2), so nothing was checked on held-out seeds. Run the same command to try again."
        in report_text
    )
    assert "default, trial-0000, trial-0001 (3 runs): asked to" in report_text
    assert "nan" not in report_text
    assert "None" not in report_text
    assert report.write_report(folder).answer.lead in report_text


def test_a_study_whose_runs_all_diverge_finds_nothing(study_file, carry_out, pretended, tmp_path, monkeypatch):
    monkeypatch.setattr(pretended, "diverge", Everything())
    assert carry_out(study_file)  # to diverge is to end
    report_text = (tmp_path / "results" / "tiny-study" / "report.md").read_text(encoding="utf-8")
    assert "The search found nothing above the default (+0 on its own seeds)." in report_text
    assert "nan" not in report_text


def test_failed_held_out_runs_are_named(study_file, carry_out, pretended, tmp_path):
    study = load(study_file)
    (spec,) = (RunSpec("sac", config, "InvertedPendulum-v5", 1001) for config in study.default.configs.values())
    pretended.fails.append(spec.id)
    assert not carry_out(study_file)
    report_text = (tmp_path / "results" / "tiny-study" / "report.md").read_text(encoding="utf-8")
    assert "Runs of the default, or of the best trials on held-out seeds, failed" in report_text
    assert re.search(r"default.*\(\d+ runs?\): asked to", report_text)


def test_a_diverged_run_gets_the_worst_score_seen(study_file, carry_out, pretended, tmp_path):
    study_file.write_text(
        STUDY.replace("seeds = 1\nsteps", "seeds = 2\nsteps")
        .replace("rungs = [100, 200]\n", "")
        .replace('"successive-halving"', '"none"')
    )
    study, store = load(study_file), Store(tmp_path / "results")
    with store.planner() as planner:
        trials = Trials(study, store, planner)
        trials.request(2)
        first, second = trials.all()
    (config,) = study.variant("t", first.params, 300).configs.values()
    pretended.diverge.append(RunSpec("sac", config, "InvertedPendulum-v5", 1).id)
    assert carry_out(study_file)
    first, second = known(tmp_path, study_file)[:2]
    seed_0 = 1e6 * first.params["actor_lr"] + 300
    floor = random_returns(store, study.envs)["InvertedPendulum-v5"]
    others = [floor, seed_0, 1e6 * second.params["actor_lr"] + 300, 1e6 * second.params["actor_lr"] + 301]
    assert first.values[300] == pytest.approx((seed_0 + min(others)) / 2)
    assert first.scores[300]["InvertedPendulum-v5"][1].diverged
    assert second.values[300] == pytest.approx(1e6 * second.params["actor_lr"] + 300.5)


@pytest.mark.thorough
def test_trials_with_one_structure_share_a_cohort_that_narrows_as_trials_end(
    study_file, carry_out, in_process, by_rate, tmp_path, monkeypatch
):
    text = STUDY.replace("layers = [8]", "layers = [64, 64]").replace("batch_size = 4", "batch_size = 64")
    text = text.replace('activation = { type = "categorical", choices = ["relu", "tanh"] }\n', "")
    study_file.write_text(text.replace("batch = 2", "batch = 4").replace("reduction = 2", "reduction = 4"))
    monkeypatch.setattr(tuning, "write_experiment_report", lambda folder: None)
    monkeypatch.setattr(report, "write_figures", lambda about, folder: [])
    assert carry_out(study_file)
    store = Store(tmp_path / "results")
    first, second = in_process.trained[1:3]  # after the default
    widths = {
        cohort: len(json.loads((store.cohort(cohort) / "plan.json").read_text())["runs"])
        for cohort, _ in (first, second)
    }
    assert (first[1], second[1]) == (100, 200)
    assert widths == {first[0]: 4, second[0]: 1}
    trials = {trial.number: trial for trial in known(tmp_path, study_file)}
    for trial in trials.values():
        (spec,) = (spec for _, spec in load(study_file).experiment([variant_of(study_file, trial)]).runs())
        assert store.run(spec.id).status()["steps"] == max(trial.values)
    assert not list(store.root.glob("cohorts/*/*.safetensors"))


def variant_of(study_file, trial):
    return load(study_file).variant("t", trial.params, 300)


def test_a_trial_with_the_default_settings_may_be_pruned(study_file, carry_out, pretended, tmp_path):
    text = STUDY[: STUDY.index("[space]")] + '[space]\nactor_lr = {type = "categorical", choices = [3e-4, 0.1, 0.2]}\n'
    study_file.write_text(text.replace("trials = 4", "trials = 8"))
    assert carry_out(study_file)
    trials = known(tmp_path, study_file)
    assert "PRUNED" in {trial.state for trial in trials if trial.params["actor_lr"] == 3e-4}
    assert (tmp_path / "results" / "tiny-study" / "best.toml").exists()


def test_trials_with_refused_settings_are_closed_and_replaced(study_file, carry_out, pretended, tmp_path, monkeypatch):
    drawn = Study.variant

    def picky(self, name, params, steps):
        if params["target_period"] == 2:
            raise InputError("not two")
        return drawn(self, name, params, steps)

    study_file.write_text(STUDY.replace("trials = 4", "trials = 12").replace("batch = 2", "batch = 12"))
    study = load(study_file)
    monkeypatch.setattr(Study, "variant", picky)
    monkeypatch.setattr(Study, "probes", lambda self: ())
    assert carry_out(study_file)
    assert carry_out(study_file)
    trials = known(tmp_path, study_file)
    assert len(trials) == 12
    assert 2 not in {trial.params["target_period"] for trial in trials}
    assert max(trial.number for trial in trials) > 11  # some were closed
    monkeypatch.setattr(Study, "variant", lambda self, *_: (_ for _ in ()).throw(InputError("never")))
    study_file.write_text(study_file.read_text().replace("tiny-study", "other-study"))
    with pytest.raises(InputError, match="never"):
        carry_out(study_file)
    assert study.trials == 12


def test_a_tuner_leaves_a_lost_trial_to_the_tuner_that_took_it_over(
    study_file, carry_out, pretended, tmp_path, monkeypatch
):
    """As after a laptop's sleep: another tuner took over and ended the trial while this one trained."""
    train, store = pretended.train, Store(tmp_path / "results")

    def slow(self, cohort):
        train(self, cohort)
        if not pretended.lost:
            with self.store.planner() as planner:
                others = Trials(load(study_file), self.store, planner)
                if running := [trial for trial in others.all() if trial.state == "RUNNING"]:
                    pretended.lost.append(running[0].number)
                    others.storage.set_trial_user_attr(running[0].id, "owner", {**running[0].owner, "planner": planner})
                    others.storage.set_trial_intermediate_value(running[0].id, 300, 1.0)
                    others.end(next(trial for trial in others.all() if trial.number == running[0].number), pruned=False)

    pretended.lost = []
    monkeypatch.setattr(pretended, "train", slow)
    assert carry_out(study_file)
    trials = known(tmp_path, study_file)
    assert len(trials) == 4
    assert trials[pretended.lost[0]].values == {300: 1.0}
    assert store.run_ids()


def test_a_study_with_the_same_name_but_another_definition_is_refused(study_file, carry_out, pretended):
    assert carry_out(study_file, trials=1)
    study_file.write_text(STUDY.replace("high = 1e-2", "high = 2e-2"))
    with pytest.raises(ValueError, match="has a study 'tiny-study' with another space"):
        carry_out(study_file)


@pytest.mark.parametrize("sampler", ["random", "cma-es"])
def test_every_sampler_and_pruner_completes_a_study(sampler, study_file, carry_out, pretended, tmp_path):
    if sampler == "cma-es":
        pytest.importorskip("cmaes")
    pruner = {"random": "none", "cma-es": "hyperband"}[sampler]
    text = STUDY.replace(SPACE, "") if sampler == "cma-es" else STUDY
    study_file.write_text(
        text.replace('"successive-halving"', f'"{pruner}"\nsampler = "{sampler}"\nobjective = "area"')
    )
    assert carry_out(study_file)
    trials = known(tmp_path, study_file)
    assert len(trials) == 4
    if pruner == "none":
        assert {trial.state for trial in trials} == {"COMPLETE"}
