"""What a worker keeps, records and does not touch; in this process, from plans on disk."""

import io
import json
import subprocess
import sys

import pytest

from sac_bench.errors import InputError
from sac_bench.execution import provenance, worker
from sac_bench.execution.calibration import Machine, measurements
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.plan import make_plan, write
from sac_bench.spec.load import load
from sac_bench.store.store import Store


@pytest.fixture
def planned(experiment_file, tmp_path, monkeypatch):
    """A store with two runs in one cohort, planned for 300 steps."""
    monkeypatch.setattr(worker, "cannot_compile", lambda: "not here")
    store = Store(tmp_path / "results")
    experiment = load(experiment_file, variants=["sac"], steps=300, settings=["eval_every=100", "eval_episodes=1"])
    plan = make_plan(experiment, store, 1, 8e9)
    write(plan, store)
    return store


def train(store, steps):
    (cohort,) = store.cohort_ids()
    worker.Worker(store, cohort, steps, "cpu", 1).train()
    return CohortDirectory(store.cohort(cohort))


@pytest.mark.thorough
def test_a_replay_is_kept_if_more_steps_were_requested_meanwhile(planned):
    store = planned
    assert train(store, 200).saved()  # the plan on disk has 300
    assert {store.run(run_id).status()["steps"] for run_id in store.run_ids()} == {200}
    directory = train(store, 300)
    assert not directory.saved()
    assert not list(directory.path.glob("*.safetensors"))
    assert {store.run(run_id).status()["status"] for run_id in store.run_ids()} == {"finished"}


@pytest.mark.thorough
def test_a_run_trained_in_another_cohort_is_not_changed(planned):
    store = planned
    train(store, 200)
    own, others = (store.run(run_id) for run_id in store.run_ids())
    others.update(cohort="0" * 16, status="started")
    before = {path.name: path.read_bytes() for path in others.path.iterdir()}
    train(store, 300)
    assert {path.name: path.read_bytes() for path in others.path.iterdir()} == before
    assert own.table("evaluations")["step"].max() == 300


@pytest.mark.thorough
def test_the_conditions_of_training_and_their_changes_are_recorded(planned, monkeypatch):
    store = planned
    train(store, 200)
    train(store, 200)
    (stage,) = store.run(store.run_ids()[0]).status()["conditions"]
    assert set(stage) == {"since", "device", "device_kind", "compiled", "threads", "products", "versions", "commit"}
    assert (stage["since"], stage["device_kind"], stage["compiled"], stage["threads"]) == (0, "cpu", False, 1)
    assert "torch" in stage["versions"]
    monkeypatch.setattr(provenance, "device_name", lambda device: "another machine")
    train(store, 300)
    stages = store.run(store.run_ids()[0]).status()["conditions"]
    assert [(s["since"], s["device"] == "another machine") for s in stages] == [(0, False), (200, True)]


@pytest.mark.thorough
def test_a_damaged_checkpoint_is_reported_in_the_log_of_its_runs(planned):
    store = planned
    directory = train(store, 200)
    (directory.path / "state-000000000200.safetensors").write_bytes(b"")
    train(store, 300)
    log = (store.run(store.run_ids()[0]).path / "log.txt").read_text()
    assert "state-000000000200.safetensors: damaged: cut to 0 of" in log
    assert "resumes from the previous checkpoint, at step 100" in log
    assert [log.count(f"step {step}:") for step in (100, 200, 300)] == [1, 2, 1]


@pytest.mark.thorough
def test_trained_runs_are_not_restarted_without_a_request(planned):
    store = planned
    directory = train(store, 200)
    directory.drop_replay()
    before = {path: path.read_bytes() for path in store.root.glob("runs/*/*.csv")}
    with pytest.raises(InputError, match="its replay is gone; --retrain"):
        train(store, 300)
    assert {path: path.read_bytes() for path in store.root.glob("runs/*/*.csv")} == before


@pytest.mark.thorough
def test_a_kill_while_resuming_does_not_harm_ended_runs(planned, monkeypatch):
    store = planned
    directory = train(store, 200)
    (directory.path / "state-000000000200.safetensors").write_bytes(b"")  # it falls back to step 100 and is killed
    for moment in ("restore", "drop_later"):
        with monkeypatch.context() as patch:
            patch.setattr(CohortDirectory, moment, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                train(store, 300)
        assert {store.run(run_id).status()["status"] for run_id in store.run_ids()} <= {"finished", "started"}
    train(store, 300)
    assert {store.run(run_id).status()["steps"] for run_id in store.run_ids()} == {300}


@pytest.mark.thorough
def test_sigterm_waits_until_the_current_operation_is_done():
    program = """
import os, signal
from sac_bench.execution.worker import termination
signal.signal(signal.SIGTERM, termination)
with termination.deferred():
    os.kill(os.getpid(), signal.SIGTERM)
    print("saved", flush=True)
print("and went on", flush=True)
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (worker.STOPPED, "saved\n")


@pytest.mark.thorough
def test_the_time_of_the_last_segments_is_stored_and_reported(planned):
    progress, store = io.StringIO(), planned
    (cohort,) = store.cohort_ids()
    steps = 400
    trained = worker.Worker(store, cohort, steps, "cpu", 1, progress)
    trained.train()
    events = [json.loads(line) for line in progress.getvalue().splitlines()]
    assert events[0]["phase"] == "starting"  # it is not compiled
    assert events[-1]["phase"] == "training"
    speed = CohortDirectory(store.cohort(cohort)).speed()
    assert speed == events[-1]["speed"]
    assert (speed["runs"], speed["steps"]) == (2, steps)
    assert 110 <= speed["done"] <= 200  # updates begin after 100 steps, and the first ten are not measured
    assert 0 < speed["seconds"] < trained.trainer.progress.wall_seconds + trained.trainer.progress.saving_seconds
    (found,) = measurements(store, {speed["env"]}, Machine(speed["device"], False)).values()
    assert found.seconds == speed["seconds"]
    for run in map(store.run, store.run_ids()):
        assert not (run.path / "speed.json").exists()
        assert "speed" not in run.status()
