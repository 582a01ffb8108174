"""Committed results: an id has the same numbers everywhere, and results of older versions are labelled."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import sac_bench
from sac_bench.algorithms import ALGORITHMS
from sac_bench.cli import common, inspect
from sac_bench.cli.report import report
from sac_bench.envs.pool import Pool
from sac_bench.results.load import load_results
from sac_bench.results.manifest import load_manifest, write_manifest
from sac_bench.results.versions import superseded
from sac_bench.store.atomic import read_json
from sac_bench.store.store import Store
from sac_bench.training.random import derived_seeds
from tests.made_up import manifest_of

RECORD = Path(__file__).parents[2] / "results" / "record"
POLICIES = RECORD / "policies"
RESULTS = sorted(path.parent for path in RECORD.rglob("experiment.json"))


@pytest.fixture(scope="module")
def records():
    return {folder: load_results(folder.name, folder.parent) for folder in RESULTS}


def shared(records):
    """Return how many pairs of {name: results} share a run, over all runs, and the ids of runs that differ."""
    rows = [
        results.evaluations[["run_id", "step", "policy", "return_mean", "return_std", "length_mean"]]
        .drop_duplicates()  # variants may share a run
        .assign(record=str(name))
        for name, results in records.items()
    ]
    rows = pd.concat(rows, ignore_index=True)
    times = rows.groupby("run_id")["record"].nunique()
    values = rows.groupby(["run_id", "step", "policy"])[["return_mean", "return_std", "length_mean"]].nunique()
    differ = (values > 1).any(axis=1).groupby("run_id").any()
    return int((times * (times - 1) // 2).sum()), set(differ.index[differ])


def test_records_are_small_enough_to_clone():
    committed = [path for path in RECORD.rglob("*") if path.is_file() and path.suffix != ".svg"]
    assert sum(path.stat().st_size for path in committed) <= 24e6


def played(policy, episodes):
    """The returns of this many episodes of mean actions, from the initial states of the run's last evaluation."""
    pool = Pool(policy.spec.env, derived_seeds(policy.spec.seed, "evaluation environments", policy.steps, episodes))
    observation, returns, running = pool.reset(), np.zeros(episodes), np.ones(episodes, bool)
    while running.any():
        step = pool.play(policy.sampled_and_mean(observation, np.zeros((episodes, policy.noise_dim)))[1], running)
        returns += step.reward
        running &= ~(step.terminated | step.truncated)
        observation = step.observation
    pool.close()
    return returns


@pytest.mark.parametrize(
    ("name", "algorithm"),
    [
        ("pendulum", "sac"),
        pytest.param("half-cheetah", "sac", marks=pytest.mark.thorough),
        ("inverted-pendulum", "td3"),
    ],
)
def test_a_committed_policy_acts_as_its_record_says(name, algorithm):
    results, policy = load_results(name, POLICIES), sac_bench.load_policy(name, POLICIES)
    last = results.evaluations.query("policy == 'mean'").iloc[-1]
    assert (policy.spec.algorithm, policy.spec.env, policy.steps) == (algorithm, *results.manifest.envs, last["step"])
    assert Store(POLICIES).run(policy.spec.id).status()["status"] == "finished"
    returns = played(policy, int(last["episodes"]))
    assert np.mean(returns) == pytest.approx(last["return_mean"], rel=0.03)  # last digits grow in a chaotic system
    assert last["return_mean"] > results.manifest.random[policy.spec.env].return_mean + 100
    mean = f"{last['return_mean']:,.0f}"
    assert f"| `{name}` | {policy.spec.env} | {algorithm.upper()} | {policy.steps:,} | {mean} |" in (
        POLICIES / "README.md"
    ).read_text(encoding="utf-8")


@pytest.mark.thorough
def test_a_committed_policy_can_be_watched(command, tmp_path):
    watched = command("watch", "pendulum", "--results", POLICIES, "--out", "a.gif")
    assert watched.returncode == 0, watched.stderr
    assert "sac on Pendulum-v1, seed 0, 10,000 steps" in watched.stdout
    assert (tmp_path / "a.gif").exists()


def test_the_committed_policies_are_small():
    files = [path for path in POLICIES.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 4e5
    assert sorted(Store(POLICIES).run_ids()) == sorted(
        run
        for folder in POLICIES.glob("*/experiment.json")
        for run in load_results(folder.parent.name, POLICIES).runs["run_id"]
    )


def test_an_id_has_the_same_result_in_all_records(records):
    """Only runs of this version of their algorithms count. Records of older versions differ and are labelled."""
    pairs, differing = shared(records)
    current = {run_id for run_id in differing if _is_current(run_id, records)}
    print(f"{pairs} pairs of records share a run; {len(differing - current)} superseded runs differ between records")
    assert pairs > 0
    assert current == set()


def _is_current(run_id, records):
    """Whether this version of its algorithm trained a run, by the records that have it."""
    for results in records.values():
        for name in results.runs.loc[results.runs["run_id"] == run_id, "variant"]:
            variant = results.manifest.variants[name]
            return variant.version == ALGORITHMS[variant.algorithm].version
    raise AssertionError(run_id)


def test_every_record_states_the_versions_that_trained_it():
    for folder in RESULTS:
        assert all(variant.version >= 1 for variant in load_manifest(folder).variants.values())
        study = folder / "study.json"
        assert not study.exists() or read_json(study)["version"] >= 1


def test_records_that_disagree_are_detected(records):
    results = next(iter(records.values()))
    altered = results.evaluations.assign(return_mean=results.evaluations["return_mean"] + 1)
    pairs, differing = shared({"a": results, "b": replace(results, evaluations=altered)})
    assert pairs == len(differing) == results.runs["run_id"].nunique()
    assert shared({"a": results, "b": results, "c": results}) == (3 * pairs, set())


@pytest.mark.parametrize(
    ("version", "words"),
    [
        (0, ""),
        (1, "superseded: trained by version {known} of sac (this is version {now})"),
        (None, "superseded: trained by an unrecorded version of sac (this is version {now})"),
    ],
)
def test_results_of_another_version_are_labelled(version, words, monkeypatch):
    known = ALGORITHMS["sac"].version
    missing = {"algorithm": "of-a-module-that-is-not-there", "version": 7}
    variants = {"a": {"version": None if version is None else known}, "own": missing}
    recorded = manifest_of({"reference": "a", "variants": variants})
    monkeypatch.setitem(ALGORITHMS, "sac", replace(ALGORITHMS["sac"], version=known + (version or 0)))
    assert superseded(recorded) == words.format(known=known, now=known + (version or 0))


def test_results_of_an_older_version_of_an_option_are_labelled(monkeypatch):
    variant = {"version": ALGORITHMS["sac"].version, "configs": {"Hopper-v5": {"gamma": 0.9}}}
    current = variant | {"option_versions": {"gamma": 2}}
    invalid = variant | {"configs": {"Hopper-v5": {"gone": 1}}}
    recorded = manifest_of({"reference": "a", "variants": {"a": variant, "b": current, "c": invalid}})
    assert superseded(recorded) == ""
    monkeypatch.setattr(ALGORITHMS["sac"].config, "option_versions", property(lambda config: {"gamma": 2}))
    assert superseded(recorded) == "superseded: trained by version 1 of sac's option gamma (this is version 2)"


@pytest.fixture
def old_record(tmp_path):
    """A record of a version before this one."""
    folder = tmp_path / "results" / "record" / "old"
    folder.mkdir(parents=True)
    (source,) = (folder for folder in RESULTS if folder.name == "precision")
    for path in source.glob("*.csv"):
        (folder / path.name).write_bytes(path.read_bytes())
    recorded = load_manifest(source)
    older = {"version": ALGORITHMS["sac"].version - 1}
    variants = {name: variant.model_copy(update=older) for name, variant in recorded.variants.items()}
    write_manifest(folder, recorded.model_copy(update={"name": "old", "variants": variants}))
    return folder


@pytest.mark.thorough
def test_a_record_without_its_store_keeps_its_recorded_status(command, old_record):
    found = command("status", "old", "--results", "results/record")
    assert found.returncode == 0, found.stderr
    assert "5 finished" in found.stdout
    assert "10 finished\n" in found.stdout
    assert "not started" not in found.stdout
    assert (
        "10 of 10 runs are not in results/record/runs; their status is from results/record/old/runs.csv" in found.stdout
    )
    version = ALGORITHMS["sac"].version
    label = f"superseded: trained by version {version - 1} of sac (this is version {version})"
    assert label in found.stdout


def test_a_result_can_be_named_by_its_folder_and_is_listed(old_record, tmp_path, capsys, monkeypatch):
    for module in (common, inspect):
        monkeypatch.setattr(module, "console", Console(width=200))
    inspect.status(str(old_record), results=tmp_path / "elsewhere", import_=[])
    assert "10 finished\n" in capsys.readouterr().out
    inspect.list_("results", results=tmp_path / "results", import_=[])
    listed = capsys.readouterr().out
    assert "record/old" in listed
    assert "superseded: trained by version" in listed


@pytest.mark.usefixtures("without_figures")
def test_a_superseded_record_is_labelled_on_its_page_and_in_the_index(old_record):
    report(results=old_record.parent)
    version = ALGORITHMS["sac"].version
    label = f"uperseded: trained by version {version - 1} of sac (this is version {version})"
    for path in (old_record / "report.md", old_record / "report.html", old_record.parent / "index.html"):
        assert label in path.read_text(encoding="utf-8"), path
    scores = pd.read_csv(old_record / "tables" / "final.csv")["score"]
    assert scores.tolist() == pd.read_csv(RECORD / "precision" / "tables" / "final.csv")["score"].tolist()
    assert json.loads((old_record / "experiment.json").read_text(encoding="utf-8"))["name"] == "old"
