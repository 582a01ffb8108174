"""An experiment's tables: what is collected, and how damage is reported."""

import math
import re
import shutil
from dataclasses import replace
from pathlib import Path

import gymnasium
import numpy as np
import pandas as pd
import pytest

from sac_bench.errors import InputError
from sac_bench.evaluation.random_policy import measure_random_policies
from sac_bench.execution.plan import make_plan, write
from sac_bench.report.experiment import write_report
from sac_bench.report.findings import Findings, write_tables
from sac_bench.results.collect import collect, conditions, refresh
from sac_bench.results.load import load_results
from sac_bench.results.manifest import RandomPolicy, load_manifest, write_manifest
from sac_bench.spec.claim import Claim
from sac_bench.spec.load import load
from sac_bench.store.atomic import read_json
from sac_bench.store.store import Store
from sac_bench.tuning.training import random_returns
from sac_bench.workflow.reports import write_report as write_report_from_python
from tests.report.test_tables import made_up


def evaluation(step):
    row = {"step": step, "policy": "mean", "return_mean": step / 10}
    return row | dict.fromkeys(("return_std", "length_mean", "episodes", "wall_seconds"), 1.0)


@pytest.fixture
def gathered(experiment_file, tmp_path):
    store, experiment = Store(tmp_path / "results"), load(experiment_file, variants=["sac"])
    write(make_plan(experiment, store, 1, 8e9), store)
    for run_id in store.run_ids():
        run = store.run(run_id)
        for step in (0, 200, 400):
            run.append("evaluations", [evaluation(step)])
        run.update(status="started", steps=200)
    return store, experiment


def test_rows_after_the_last_saved_step_do_not_count(gathered):
    store, experiment = gathered
    assert set(collect(store, experiment).evaluations["step"]) == {0, 200}
    assert set(load_results("tiny", store.root).runs["status"]) == {"interrupted"}


def test_an_evaluation_at_the_end_of_an_earlier_command_does_not_count(gathered):
    store, experiment = gathered
    for run_id in store.run_ids():
        store.run(run_id).append("evaluations", [evaluation(500)])
        store.run(run_id).update(steps=600)
    longer = replace(
        experiment, variants={n: replace(v, steps=dict.fromkeys(v.steps, 600)) for n, v in experiment.variants.items()}
    )
    assert set(collect(store, longer).evaluations["step"]) == {0, 200, 400}
    ended = replace(
        experiment, variants={n: replace(v, steps=dict.fromkeys(v.steps, 500)) for n, v in experiment.variants.items()}
    )
    assert set(collect(store, ended).evaluations["step"]) == {0, 200, 400, 500}


def test_sampled_actions_that_only_an_earlier_command_played_do_not_count(gathered):
    """They are played at 0 and at the last step, which was 200 and is 400."""
    store, experiment = gathered
    for run_id in store.run_ids():
        for step in (0, 200, 400):
            store.run(run_id).append("evaluations", [evaluation(step) | {"policy": "sample"}])
        store.run(run_id).update(steps=400)
    rows = collect(store, experiment).evaluations
    assert rows.groupby("policy")["step"].unique().map(list).to_dict() == {"mean": [0, 200, 400], "sample": [0, 400]}


def test_runs_planned_again_show_no_earlier_rows(gathered):
    store, experiment = gathered
    for run_id in store.run_ids():
        store.run(run_id).plan(store.run(run_id).spec(), "0" * 16)
    results = collect(store, experiment)
    assert results.evaluations.empty
    assert set(results.runs["status"]) == {"not started"}


def test_damaged_tables_are_reported(gathered):
    store, experiment = gathered
    collect(store, experiment)
    path = store.root / "tiny" / "evaluations.csv"
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"evaluations\.csv: damaged: cut .*run the experiment again to rewrite it"):
        load_results("tiny", store.root)
    collect(store, experiment)
    assert len(load_results("tiny", store.root).evaluations) == 4


def test_all_conditions_that_changed_during_training_are_reported():
    one = {"since": 0, "device": "a", "compiled": True, "threads": 1, "products": "p", "commit": "c"}
    one["versions"] = "torch 2.13.0+cpu, numpy 2.4.6"
    assert conditions({"conditions": [one]})["device"] == "a"
    assert [conditions({"conditions": [one]})[name] for name in ("torch", "numpy", "python")] == [
        "2.13.0+cpu",
        "2.4.6",
        None,
    ]
    changed = conditions({"conditions": [one, one | {"since": 200, "device": "b"}]})
    assert changed["device"] == "a; then b"
    assert changed["compiled"] is True
    assert conditions({})["device"] is None


class Constant(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def __init__(self, reward):
        self.reward = reward

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), self.reward, False, False, {}


ALIKE = {"lab/Constant-v0": 0.0, "lab_Constant-v0": 10.0, "lab_constant-v0": 20.0, "lab/constant-v0": 30.0}
for _name, _reward in ALIKE.items():
    gymnasium.register(_name, Constant, max_episode_steps=1, kwargs={"reward": _reward})


def test_environments_with_similar_ids_have_separate_random_policies(tmp_path):
    store, envs = Store(tmp_path / "results"), [f"gymnasium:{name}" for name in ALIKE]
    assert measure_random_policies(store, envs) == []
    for env, reward in zip(envs, ALIKE.values(), strict=True):
        assert read_json(store.environment(env))["return_mean"] == reward
    other = store.environment(envs[0])
    other.write_bytes(store.environment(envs[1]).read_bytes())  # as where a file system does not tell them apart
    assert measure_random_policies(store, envs[:1]) == []
    assert read_json(other)["return_mean"] == 0.0


RECORD = Path(__file__).parents[2] / "results" / "record"
CLAIMS = Path(__file__).parents[2] / "experiments" / "claims"


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(path.parent.name for path in RECORD.glob("*/experiment.json")))
def test_published_results_are_readable(name, tmp_path):
    shutil.copytree(RECORD / name, tmp_path / name)
    write_report(tmp_path / name)

    def read(folder):
        return pd.read_csv(folder / name / "tables" / "final.csv")

    recorded = read(RECORD)
    pd.testing.assert_frame_equal(read(tmp_path)[recorded.columns], recorded)  # columns may have come since


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(path.parent.name for path in RECORD.glob("claims/*/experiment.json")))
def test_published_claims_give_the_recorded_verdicts(name, tmp_path):
    (tmp_path / "tables").mkdir()
    results = load_results(name, RECORD / "claims")
    write_tables(Findings(results, tmp_path), tmp_path / "tables")
    recorded, now = (pd.read_csv(f / "tables" / "claim.csv") for f in (RECORD / "claims" / name, tmp_path))
    claim = Claim.from_plain(results.manifest.claim.model_dump(), results.manifest.variants)
    if claim.refuted_by:
        pd.testing.assert_frame_equal(now, recorded)
        assert load(CLAIMS / f"{name.removesuffix('-quick')}.toml", quick=True).claim == claim
    else:  # recorded before measures other than returns had margins: what was measured is the same
        rules = ["measure", "margin", "p", "outcome", "seeds_needed"]
        pd.testing.assert_frame_equal(now.drop(columns=rules), recorded.drop(columns=rules))


class Unpaid(gymnasium.Env):
    """Its rewards are NaN."""

    observation_space = action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float("nan"), False, False, {}


gymnasium.register("Unpaid-v0", Unpaid, max_episode_steps=5)


@pytest.mark.thorough
@pytest.mark.filterwarnings("ignore:.*NaN")
def test_a_nonfinite_return_of_a_random_policy_is_reported_and_not_stored(tmp_path):
    env, store = "gymnasium:Unpaid-v0", Store(tmp_path)
    assert measure_random_policies(store, [env]) == [f"no random policy's return for {env}: its rewards are not finite"]
    assert measure_random_policies(store, [env]) == []  # once
    text = store.environment(env).read_text()
    assert "NaN" not in text
    assert random_returns(store, [env]) == {}
    shutil.copytree(RECORD / "ablation-quick", tmp_path / "known")
    known = load_manifest(tmp_path / "known")
    first = known.envs[0]
    measured = RandomPolicy.model_validate(read_json(store.environment(env)))
    write_manifest(tmp_path / "known", known.model_copy(update={"random": known.random | {first: measured}}))
    assert math.isnan(load_manifest(tmp_path / "known").random_return(first))
    write_report(tmp_path / "known")
    report = (tmp_path / "known" / "report.md").read_text()
    assert f"{first} not finite" in report
    assert not re.search(r"\bnan\b", report)


def test_tables_refreshed_during_training_equal_tables_collected_now(gathered):
    store, experiment = gathered
    collect(store, experiment, "sac-bench run tiny.toml")
    folder = store.experiment("tiny")
    before = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    refresh(store, "tiny")
    assert {path.name: path.read_bytes() for path in folder.glob("*.csv")} == before  # nothing was saved meanwhile
    first, *_ = store.run_ids()
    store.run(first).update(steps=400, wall_seconds=3.0, cohort_size=2)
    refresh(store, "tiny")
    refreshed = {path.name: path.read_bytes() for path in (*folder.glob("*.csv"), folder / "experiment.json")}
    steps = load_results("tiny", store.root).evaluations.groupby("run_id")["step"].max()
    assert {run_id: steps[run_id] for run_id in store.run_ids()} == {
        run_id: 400 if run_id == first else 200 for run_id in store.run_ids()
    }
    collect(store, experiment, "sac-bench run tiny.toml")
    assert {path.name: path.read_bytes() for path in (*folder.glob("*.csv"), folder / "experiment.json")} == refreshed


def test_runs_missing_from_the_store_keep_their_rows(gathered):
    store, experiment = gathered
    for run_id in store.run_ids():
        store.run(run_id).update(steps=400)
    first, second = store.run_ids()
    store.run(second).update(steps=200)
    collect(store, experiment)
    before = load_results("tiny", store.root)
    shutil.rmtree(store.run(first).path)
    store.run(second).update(steps=400)
    refresh(store, "tiny")
    after = load_results("tiny", store.root)
    assert after.evaluations.groupby("run_id")["step"].max().to_dict() == {first: 400, second: 400}
    assert after.runs["run_id"].tolist() == before.runs["run_id"].tolist()
    shutil.rmtree(store.root / "runs")  # as in a record
    files = {path: path.stat().st_mtime_ns for path in store.experiment("tiny").iterdir()}
    refresh(store, "tiny")
    assert {path: path.stat().st_mtime_ns for path in store.experiment("tiny").iterdir()} == files


@pytest.mark.thorough
def test_a_report_during_training_says_which_steps_it_covers(gathered):
    store, experiment = gathered
    collect(store, experiment)
    first, *_ = store.run_ids()
    store.run(first).update(steps=400)
    write_report_from_python("tiny", store.root)
    text = (store.experiment("tiny") / "report.md").read_text()
    assert "Training is not over, so there are no verdicts yet." in text
    assert "all runs up to 200 of 400 steps" in text
    assert list((store.experiment("tiny") / "figures").glob("curves*.svg"))


def test_results_are_shown_in_a_line():
    text = repr(made_up())
    assert text.startswith("Results of made-up: ")
    assert "finished" in text
    assert "rows: runs " in text
    assert len(text) < 200
