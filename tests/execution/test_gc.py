"""What gc frees, and what it keeps."""

import json

import pandas as pd
import pytest

from sac_bench.execution import gc
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.plan import make_plan, write
from sac_bench.results.collect import collect
from sac_bench.spec.load import load
from sac_bench.store import locks
from sac_bench.store.atomic import TEMPORARY_PREFIX
from sac_bench.store.store import Store


@pytest.fixture
def store(experiment_file, tmp_path):
    """Planned and listed runs in two cohorts with a checkpoint each, and no live process."""
    store, experiment = Store(tmp_path / "results"), load(experiment_file)
    plan = make_plan(experiment, store, 1, 8e9)
    write(plan, store)
    for cohort in store.cohort_ids():
        (store.cohort(cohort) / "rows-000000000000-000000000200.safetensors").write_bytes(b"r" * 1000)
        checkpoint = {"files": {"rows-000000000000-000000000200.safetensors": {}}}
        (store.cohort(cohort) / "checkpoint-000000000200.json").write_text(json.dumps(checkpoint))
    for run_id in store.run_ids():
        store.run(run_id).update(status="started", steps=200)
    collect(store, experiment)
    return store


def found(store):
    return {(str(item.path.relative_to(store.root)), item.why) for item in gc.find(store)}


def test_files_needed_to_continue_are_not_garbage(store):
    assert found(store) == set()


def test_leftovers_of_crashes_are_garbage(store):
    cohort = store.cohort(store.cohort_ids()[0])
    run = store.run(CohortDirectory(cohort).plan()["runs"][0]).path
    for path in (
        cohort / f"{TEMPORARY_PREFIX}1-state",
        run / f"{TEMPORARY_PREFIX}1-status.json",
        cohort / "checkpoint.safetensors",
    ):
        path.write_bytes(b"half")
    assert {path.split("/")[-1] for path, _ in found(store)} == {
        f"{TEMPORARY_PREFIX}1-state",
        f"{TEMPORARY_PREFIX}1-status.json",
        "checkpoint.safetensors",
    }
    with locks.take(store.cohort_lock(cohort.name)):  # a process trains it
        assert found(store) == set()
    gc.free(store, gc.find(store))
    assert found(store) == set()


def test_replays_of_finished_runs_are_garbage_unless_they_should_be_kept(store):
    for run_id in store.run_ids():
        store.run(run_id).update(status="finished", steps=400)
    assert {why for _, why in found(store)} == {"replays of finished runs"}
    assert len(found(store)) == 4
    with store.planner() as alive:
        for cohort in store.cohort_ids():
            directory = CohortDirectory(store.cohort(cohort))
            directory.write_plan(directory.plan()["runs"], 400, False, [alive])
        assert found(store) == set()  # its worker will drop them
    assert len(found(store)) == 4
    for cohort in store.cohort_ids():
        directory = CohortDirectory(store.cohort(cohort))
        directory.write_plan(directory.plan()["runs"], 400, True, [])
    assert found(store) == set()


def test_a_cohort_whose_runs_were_retrained_elsewhere_is_garbage(store):
    cohort = store.cohort_ids()[0]
    for run_id in CohortDirectory(store.cohort(cohort)).plan()["runs"]:
        store.run(run_id).update(cohort="0" * 16)
    assert found(store) == {(f"cohorts/{cohort}", "cohorts that no run belongs to")}
    with locks.take(store.cohort_lock(cohort)):
        assert found(store) == set()


@pytest.mark.thorough
def test_runs_of_deleted_experiments_are_listed_and_freed_only_on_request(store, command):
    for path in (store.root / "tiny").glob("*.csv"):
        path.unlink()
    assert {why for _, why in found(store)} == {gc.UNLISTED}
    kept = command("gc", "--yes")
    assert "kept; --runs frees them" in kept.stdout
    assert "nothing to free" in kept.stdout
    assert len(store.run_ids()) == 6
    unconfirmed = command("gc", "--runs")
    assert "nothing freed; --yes frees" in unconfirmed.stdout
    assert len(store.run_ids()) == 6
    freed = command("gc", "--runs", "--yes")
    assert freed.returncode == 0, freed.stderr
    assert "freed" in freed.stdout
    assert store.run_ids() == []


def test_a_run_that_a_listed_run_requires_to_continue_is_kept(store):
    table = pd.read_csv(store.root / "tiny" / "runs.csv", dtype=str)
    kept = CohortDirectory(store.cohort(store.cohort_ids()[0])).plan()["runs"]
    table[table["run_id"] == kept[0]].to_csv(store.root / "tiny" / "runs.csv", index=False)
    freed = {item.path.name for item in gc.find(store) if item.why == gc.UNLISTED}
    assert freed == set(store.run_ids()) - set(kept)


@pytest.mark.thorough
def test_if_an_experiments_list_cannot_be_read_nothing_is_freed(store, command):
    (store.root / "tiny" / "runs.csv").write_text("not,what\nit,was\n")
    refused = command("gc", "--runs", "--yes")
    assert refused.returncode == 2
    assert "runs.csv: cannot be read" in refused.stderr
    assert len(store.run_ids()) == 6
