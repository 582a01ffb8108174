"""`sac-bench guard`: an unchanged tree is identical, and what got worse is named."""

import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from sac_bench.errors import InputError
from sac_bench.report.results import load_results
from sac_bench.results.manifest import load_manifest, write_manifest
from sac_bench.store.atomic import fingerprint
from sac_bench.workflow.guard import compared, failing, recorded_experiment

RECORD = Path(__file__).parents[2] / "results" / "record" / "ablation-quick"


@pytest.fixture(scope="module")
def record():
    return load_results(RECORD.name, RECORD.parent)


def again(record, shift=0.0, variant="one-q", seeds=3, new_ids=False, status="finished"):
    """The first seeds of the record as if they had been trained again, with `shift` added to a variant's returns."""
    first = record.first_seeds(seeds)
    first = replace(first, manifest=first.manifest.model_copy(update={"seeds": first.manifest.seeds[:seeds]}))
    own = first.evaluations["variant"] == variant
    evaluations = first.evaluations.assign(return_mean=first.evaluations["return_mean"] + shift * own)
    runs = first.runs.assign(status=first.runs["status"].where(first.runs["variant"] != variant, status))
    if new_ids:
        evaluations, runs = (table.assign(run_id="x" + table["run_id"]) for table in (evaluations, runs))
    return replace(first, evaluations=evaluations, runs=runs)


def words(outcomes):
    return {one.variant: one.word for one in outcomes}


def test_the_same_numbers_are_identical(record):
    assert set(words(compared(record, again(record))).values()) == {"identical"}


def test_what_got_worse_is_named_and_fails(record):
    outcomes = compared(record, again(record, shift=-5000.0))
    assert words(outcomes) == {name: "worse" if name == "one-q" else "identical" for name in record.manifest.variants}
    (failed,) = failing(outcomes, "worse")
    assert failed.in_words().startswith("worse: one-q on HalfCheetah-v5: the new 3 runs score -")
    assert "the record's 6 runs score 1,007" in failed.in_words()
    assert "3 with different numbers from step 0 on" in failed.in_words()


def test_better_runs_fail_only_on_request(record):
    outcomes = compared(record, again(record, shift=5000.0))
    assert failing(outcomes, "worse") == []
    assert [one.word for one in failing(outcomes, "different")] == ["better"]


def test_a_small_change_is_undecided(record):
    outcomes = compared(record, again(record, shift=-1.0))
    assert words(outcomes)["one-q"] == "undecided"
    assert failing(outcomes, "different") == []
    assert [one.variant for one in failing(outcomes, "undecided")] == ["one-q"]


def test_within_the_records_margin_runs_are_equivalent(record):
    manifest = record.manifest.model_copy(update={"margin": 2.0})
    outcomes = compared(replace(record, manifest=manifest), again(record, shift=-1.0, variant="sac"))
    assert words(outcomes)["sac"] == "equivalent"


def test_runs_with_other_ids_are_compared_by_their_scores(record):
    """A new version of an algorithm or a simulator changes the ids."""
    outcomes = compared(record, again(record, new_ids=True))
    assert set(words(outcomes).values()) == {"undecided"}
    assert all("same runs: none" in one.why for one in outcomes)


def test_runs_that_fail_now_are_worse(record):
    outcomes = compared(record, again(record, status="failed", new_ids=True))
    (failed,) = failing(outcomes, "worse")
    assert failed.in_words() == "worse: one-q on HalfCheetah-v5: 3 new runs without a score (3 failed)"


def test_the_recorded_settings_give_the_recorded_ids(record):
    experiment = recorded_experiment(record.manifest, 2)
    recorded = set(record.runs["run_id"])
    assert {spec.id for _, spec in experiment.runs()} <= recorded, "else the record is of another version: update this"
    assert len(experiment.runs()) == 2 * len(record.manifest.variants)


def test_an_option_that_does_not_exist_any_more_is_named(record):
    manifest = record.manifest
    of = manifest.variants["one-q"]
    configs = {env: config | {"gone": 1} for env, config in of.configs.items()}
    changed = of.model_copy(update={"configs": configs})
    broken = manifest.model_copy(update={"variants": manifest.variants | {"one-q": changed}})
    with pytest.raises(InputError, match=r"variant 'one-q' on HalfCheetah-v5.*gone"):
        recorded_experiment(broken, 2)


def test_fail_on_names_what_it_knows(command):
    ran = command("guard", RECORD, "--fail-on", "wors")
    assert ran.returncode == 2
    assert "did you mean 'worse'?" in ran.stderr


@pytest.mark.thorough
def test_an_unchanged_tree_is_identical_and_a_planted_regression_fails(command, experiment_file, tmp_path):
    own = ["--variant", "sac", "--seeds", "6", "--device", "cpu", "--workers", "1"]
    assert command("run", experiment_file, *own, "--results", "first").returncode == 0
    shutil.copytree(tmp_path / "first" / "tiny", tmp_path / "record" / "tiny")
    options = ["--seeds", "3", "--device", "cpu", "--workers", "1", "--results", "again"]
    ran = command("guard", "record/tiny", *options)  # trains them
    assert (ran.returncode, ran.stdout.splitlines()[-1]) == (0, "1 identical"), ran.stderr

    folder = tmp_path / "record" / "tiny"
    path = folder / "evaluations.csv"
    table = pd.read_csv(path)
    table.assign(return_mean=table["return_mean"] + 1e4 + 10 * table["seed"]).to_csv(path, index=False)
    manifest = load_manifest(folder)
    tables = manifest.tables | {"evaluations": fingerprint(path)}
    write_manifest(folder, manifest.model_copy(update={"tables": tables}))
    ran = command("guard", "record/tiny", *options)  # reuses them
    assert ran.returncode == 3
    assert ran.stderr.startswith("sac-bench: record/tiny: worse: sac on InvertedPendulum-v5: the new 3 runs score")
    ran = command("guard", "record/tiny", "--seeds", "2", *options[2:])
    assert ran.returncode == 0, "two runs and six cannot show a difference: the least p-value is 2 in 28"
    assert ran.stdout.splitlines()[-1] == "1 undecided"
