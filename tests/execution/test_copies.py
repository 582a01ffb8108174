"""A cohort that is trained in a folder of its own, and copied segment by segment; in this process."""

import json
from pathlib import Path

import pytest

from sac_bench.execution import copies, worker
from sac_bench.execution.checkpoint import CohortDirectory, Damaged, TakenOver
from sac_bench.execution.copies import Changes, Copy, Original
from sac_bench.execution.plan import make_plan, write
from sac_bench.spec.load import load
from sac_bench.store import atomic
from sac_bench.store.locks import LEASE_SECONDS
from sac_bench.store.store import Store
from tests.execution.test_faults import comparable
from tests.store.hosts import Clock, machine

STEPS = 300


@pytest.fixture
def planned(experiment_file, tmp_path, monkeypatch):
    """A function that plans the two runs of one cohort, to be saved every 100 steps, in a new folder."""
    monkeypatch.setattr(worker, "cannot_compile", lambda: "not here")

    def plan(name="results", steps=STEPS, keep_replay=False):
        settings = ["eval_every=100", "eval_episodes=1"]
        store = Store(tmp_path / name)
        experiment = load(experiment_file, variants=["sac"], steps=steps, settings=settings)
        write(make_plan(experiment, store, 1, 8e9), store, keep_replay=keep_replay)
        return store

    return plan


class Killed(BaseException):
    """The machine of the worker, or that of the command, is gone."""


class Receipts:
    """Takes what a worker in a folder of its own has written, whenever it waits for that."""

    def __init__(self, copy, original, most=100):
        self.copy, self.original, self.most = copy, original, most

    def readline(self):
        self.original.take(self.copy.changes(True))
        self.most -= 1
        if self.most == 0:
            raise Killed
        return "\n"


def train_elsewhere(store, folder, steps=STEPS, most=100, lock=None):
    """Train the only cohort in `folder`, whose machine is lost once `most` changes were taken."""
    (cohort,) = store.cohort_ids()
    with lock or store.take_cohort(cohort) as held:
        original = Original(store, cohort, held.lease.token)
        for name, data in original.belongings():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        copy = Copy(folder, cohort)
        trained = worker.Worker(Store(folder), cohort, steps, "cpu", 1, receipts=Receipts(copy, original, most))
        assert trained.train()
        original.take(copy.changes(True))
        original.finish(steps)


def train_here(store, steps=STEPS):
    (cohort,) = store.cohort_ids()
    assert worker.Worker(store, cohort, steps, "cpu", 1).train()
    return comparable(store.root)


def files(store):
    """Return the names of all files of runs and cohorts."""
    return {
        str(path.relative_to(store.root))
        for folder in ("runs", "cohorts")
        for path in (store.root / folder).rglob("*")
        if path.is_file() and path.name != "log.txt"
    }


def standings(store):
    return {run_id: store.run(run_id).status() for run_id in store.run_ids()}


@pytest.mark.thorough
def test_training_elsewhere_gives_identical_bytes(planned, tmp_path):
    here, store = planned("here"), planned()
    expected = train_here(here)
    train_elsewhere(store, tmp_path / "there")
    assert comparable(store.root) == expected
    assert files(store) == files(here)
    assert {status["status"] for status in standings(store).values()} == {"finished"}
    log = (store.run(store.run_ids()[0]).path / "log.txt").read_text()
    assert [log.count(f"step {step}:") for step in (0, 100, 200, 300)] == [1, 1, 1, 1]


@pytest.mark.thorough
@pytest.mark.parametrize("most", [1, 2, 3, 4])
def test_a_lost_machine_loses_only_uncopied_work_and_another_continues(most, planned, tmp_path):
    expected, store = train_here(planned("here")), planned()
    with pytest.raises(Killed):
        train_elsewhere(store, tmp_path / "lost", most=most)
    saved = {status["steps"] for status in standings(store).values()}
    assert saved == {max(0, 100 * (most - 2))}  # the first change is the start, the second step 0
    train_elsewhere(store, tmp_path / "there")
    assert comparable(store.root) == expected
    log = (store.run(store.run_ids()[0]).path / "log.txt").read_text()
    assert [log.count(f"step {step}:") for step in (0, 100, 200, 300)] == [1, 1, 1, 1]


@pytest.mark.thorough
def test_a_command_killed_at_any_write_continues_with_identical_results(planned, tmp_path, monkeypatch):
    expected = train_here(planned("here"))
    written = [0]

    def counting(usual):
        def write_file(path, *arguments, **more):
            if Path(path).is_relative_to(root):
                written[0] += 1
                if written[0] == fatal:
                    raise Killed
            return usual(path, *arguments, **more)

        return write_file

    fatal = 0
    for fatal in range(1, 100, 9):
        store = planned(f"dies-{fatal}")
        root, written[0] = store.root, 0
        with monkeypatch.context() as patch:
            patch.setattr(copies, "write_atomically", counting(copies.write_atomically))
            for name in ("create", "create_json"):
                patch.setattr(f"sac_bench.execution.checkpoint.{name}", counting(getattr(atomic, name)))
            try:
                train_elsewhere(store, tmp_path / f"there-{fatal}")
            except Killed:
                pass
            else:
                break
        train_elsewhere(store, tmp_path / f"again-{fatal}")
        assert comparable(store.root) == expected, fatal
    assert fatal > 20


@pytest.mark.thorough
def test_an_intact_older_checkpoint_is_continued_elsewhere_and_reported(planned, tmp_path):
    expected, store = train_here(planned("here")), planned()
    with pytest.raises(Killed):
        train_elsewhere(store, tmp_path / "lost", most=4)
    (cohort,) = store.cohort_ids()
    (store.cohort(cohort) / "state-000000000200.safetensors").write_bytes(b"")
    train_elsewhere(store, tmp_path / "there")
    assert comparable(store.root) == expected
    log = (store.run(store.run_ids()[0]).path / "log.txt").read_text()
    assert "state-000000000200.safetensors: damaged: cut to 0 of" in log
    assert "resumes from the previous checkpoint" in log


@pytest.mark.thorough
def test_a_finished_cohort_whose_replay_was_kept_is_continued_elsewhere(planned, tmp_path):
    here, store = planned("here", keep_replay=True), planned(keep_replay=True)
    train_here(here)
    train_elsewhere(store, tmp_path / "there")
    assert comparable(store.root) == comparable(here.root)
    assert files(store) == files(here)
    here, store = planned("here", 500), planned(steps=500)
    expected = train_here(here, 500)
    train_elsewhere(store, tmp_path / "longer", 500)
    assert comparable(store.root) == expected
    assert files(store) == files(here)
    assert not any("checkpoint" in name for name in files(store))


@pytest.mark.thorough
def test_a_command_that_was_taken_over_writes_nothing_more(planned, tmp_path):
    root = planned().root
    clock = Clock()
    first = Store(root, machine("a", clock))
    second_clock = Clock()
    second = Store(root, machine("b", second_clock))
    (cohort,) = first.cohort_ids()
    lock = first.take_cohort(cohort)
    assert not second.take_cohort(cohort)
    second_clock.now += LEASE_SECONDS
    assert second.take_cohort(cohort)
    before = {path: path.read_bytes() for path in [*root.rglob("*.csv"), *root.rglob("*.json")]}
    with pytest.raises(TakenOver):
        train_elsewhere(first, tmp_path / "there", lock=lock)
    assert {path: path.read_bytes() for path in [*root.rglob("*.csv"), *root.rglob("*.json")]} == before


@pytest.mark.thorough
def test_the_reason_why_a_cohort_cannot_be_continued_is_reported(planned, tmp_path):
    store = planned()
    with pytest.raises(Killed):
        train_elsewhere(store, tmp_path / "lost", most=4)
    (cohort,) = store.cohort_ids()
    directory = CohortDirectory(store.cohort(cohort))
    there = tmp_path / "there"
    with store.take_cohort(cohort) as held:
        original = Original(store, cohort, held.lease.token)
        dict(original.belongings())
        copy = Copy(there, cohort)
        (there / "cohorts" / cohort).mkdir(parents=True)
        atomic.write_json(there / "cohorts" / cohort / "unusable.json", {"reason": "state: another world"})
        original.take(copy.changes(False))
    why = f"{store.cohort(cohort)}/state: another world"
    assert directory.problems([store.run(run_id) for run_id in store.run_ids()]) == [why]


def test_files_that_are_not_those_that_were_saved_are_not_written(planned):
    store = planned()
    (cohort,) = store.cohort_ids()
    run = store.run_ids()[0]
    known = atomic.fingerprint_of(b"policy")
    commit = atomic.json_bytes({"files": {"state-000000000000.safetensors": known}})
    ended = atomic.json_bytes({"status": "finished", "steps": 300, "cohort": cohort, "policy": known, "weights": None})
    missing = Changes(True, {"checkpoint-000000000000.json": commit}, {}, {}, {})
    other = Changes(True, missing.checkpoints, {"state-000000000000.safetensors": b"polish"}, {}, {})
    cut = Changes(True, {"checkpoint-000000000000.json": commit[:-9]}, {}, {}, {})
    policy = {f"runs/{run}/policy.safetensors": b"polish", f"runs/{run}/status.json": ended}
    status = {f"runs/{run}/status.json": ended.replace(b"300", b"400")}
    before = files(store)
    with store.take_cohort(cohort) as held:
        original = Original(store, cohort, held.lease.token)
        for changes in (missing, other, cut, Changes(True, {}, {}, policy, {}), Changes(True, {}, {}, status, {})):
            with pytest.raises(Damaged):
                original.take(changes)
    assert files(store) == before
    assert {status["status"] for status in standings(store).values()} == {"planned"}


@pytest.mark.parametrize("path", ["runs/../../etc/passwd", "cohorts/x/plan.json", "runs/0123456789abcdef/status.json"])
def test_a_worker_elsewhere_writes_only_its_own_files(path, planned):
    store = planned()
    (cohort,) = store.cohort_ids()
    with store.take_cohort(cohort) as held:
        original = Original(store, cohort, held.lease.token)
        with pytest.raises((copies.InputError, ValueError)):
            original.take(Changes(False, {}, {}, {path: json.dumps({}).encode()}, {}))
