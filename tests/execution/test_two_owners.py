"""Workers on two machines that share a folder where the kernel's locks do nothing; in this process."""

import json

import pytest

from sac_bench.envs.guard import Stop
from sac_bench.errors import InputError
from sac_bench.execution import worker
from sac_bench.execution.checkpoint import CohortDirectory, TakenOver
from sac_bench.execution.plan import make_plan, write
from sac_bench.spec.load import load
from sac_bench.store.locks import LEASE_SECONDS
from sac_bench.store.store import Store
from tests.store.hosts import Clock, machine

STEPS = 300


@pytest.fixture
def planned(experiment_file, tmp_path, monkeypatch):
    """A function that plans the two runs of one cohort, to be saved every 100 steps, in a new folder."""
    monkeypatch.setattr(worker, "cannot_compile", lambda: "not here")
    experiment = load(experiment_file, variants=["sac"], steps=STEPS, settings=["eval_every=100", "eval_episodes=1"])

    def plan(name="shared"):
        store = Store(tmp_path / name, machine("a"))
        write(make_plan(experiment, store, 1, 8e9), store)
        return store

    return plan


class Machine:
    """A machine's worker for the only cohort of a folder."""

    def __init__(self, store, name, clock=None):
        self.store = Store(store.root, machine(name, clock))
        (self.cohort,) = store.cohort_ids()

    def take(self):
        held = self.store.take_cohort(self.cohort)
        if held:
            self.worker = worker.Worker(self.store, self.cohort, STEPS, "cpu", 1, lease=held.lease)
        return held

    def pause_at(self, moment, steps):
        """Let its worker pause at a moment, a method such as "save", after so many steps: `meanwhile` is called once."""
        recorder, trainer = self.worker._recorder, self.worker.trainer
        owner = recorder if hasattr(recorder, moment) else self.worker.directory
        usual = getattr(owner, moment)

        def paused(*arguments):
            if trainer.steps == steps and not self.stood_still:
                self.stood_still = True
                self.meanwhile()
            return usual(*arguments)

        self.stood_still = False
        setattr(owner, moment, paused)


def take_over(store, name):
    """Return a machine that has waited until a lease had ended, and has taken it."""
    clock = Clock()
    other = Machine(store, name, clock)
    assert not other.take()
    clock.now += LEASE_SECONDS
    assert other.take()
    return other


def tables(store):
    """Return the runs' tables without times, and their policies."""
    found = {}
    for run in map(store.run, store.run_ids()):
        assert run.status()["status"] == "finished", run.status()
        found |= {
            (run.id, name): run.table(name).drop(columns="wall_seconds", errors="ignore").to_csv()
            for name in ("evaluations", "episodes", "training")
        }
        found[run.id, "policy"] = run.policy.read_bytes()
    return found


@pytest.fixture
def undisturbed(planned):
    store = planned("undisturbed")
    (cohort,) = store.cohort_ids()
    worker.Worker(store, cohort, STEPS, "cpu", 1).train()
    return tables(store)


@pytest.mark.thorough
def test_two_machines_do_not_train_a_cohort_at_once(planned):
    store = planned()
    assert Machine(store, "a").take()
    assert not Machine(store, "b").take()


@pytest.mark.thorough
@pytest.mark.parametrize("other_goes_to", [100, 200, 300])
@pytest.mark.parametrize("moment", ["save", "write_tables", "check_owner"])
def test_a_paused_worker_whose_lease_was_taken_over_commits_nothing(moment, other_goes_to, planned, undisturbed):
    """It is paused before or after its commit at 200 steps; the other one is before, at or after that when it wakes."""
    store = planned()
    paused = Machine(store, "a")
    assert paused.take()
    commits = {}

    def meanwhile():
        other = take_over(store, "b")
        if other_goes_to == STEPS:
            other.worker.train()
            return
        if other_goes_to > (100 if moment == "save" else 200):
            other.pause_at("check_owner", other_goes_to)
            other.meanwhile = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
            with pytest.raises(KeyboardInterrupt):
                other.worker.train()
        else:
            other.worker._start()
        commits.update({path: path.read_bytes() for path in other.worker.directory.path.glob("checkpoint-*")})

    paused.pause_at(moment, 200)
    paused.meanwhile = meanwhile
    with pytest.raises(TakenOver):
        paused.worker.train()
    assert {path: path.read_bytes() for path in commits} == commits
    if other_goes_to != STEPS:
        assert set(paused.worker.directory.path.glob("checkpoint-*")) == set(commits)
        clock = Clock()
        last = Machine(store, "c", clock)
        last.take()
        clock.now += LEASE_SECONDS
        assert last.take()
        last.worker.train()
    assert tables(store) == undisturbed
    assert not list(store.root.glob("cohorts/*/checkpoint-*"))


@pytest.mark.thorough
def test_if_two_workers_save_the_same_steps_one_stops_and_compares_the_bytes(planned, undisturbed):
    """Neither has a lease, so only the exclusive commit is left."""
    store = planned()
    (cohort,) = store.cohort_ids()
    one, other = (worker.Worker(store, cohort, STEPS, "cpu", 1) for _ in range(2))
    one._start()
    for _ in range(2):
        one._save(one.trainer.train())
    before = {path: path.read_bytes() for path in [*store.root.glob("runs/*/*"), *store.root.glob("cohorts/*/c*")]}
    other._recorder._segment = other.trainer.train()
    with pytest.raises(TakenOver, match="with the same bytes"):
        other.directory.save(other.trainer, other._own_runs, other._recorder.record(other._recorder._segment))
    assert {path: path.read_bytes() for path in before} == before
    (path,) = store.root.glob("cohorts/*/checkpoint-000000000000.json")
    commit = json.loads(path.read_bytes())
    commit.pop("sha256")
    commit["files"] = {}
    path.write_text(json.dumps(commit))
    with pytest.raises(TakenOver, match="with other bytes"):
        other.directory.save(other.trainer, other._own_runs, {})
    for each in (one, other):
        each.trainer.close()


@pytest.mark.thorough
@pytest.mark.parametrize("steps", [0, 200, 300])
def test_a_kill_between_a_commit_and_its_tables_changes_nothing(steps, planned, undisturbed):
    store = planned()
    killed = Machine(store, "a")
    held = killed.take()
    killed.pause_at("write_tables", steps)
    killed.meanwhile = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        killed.worker.train()
    held.close()
    assert killed.worker.directory.problems(killed.worker.runs) == []
    again = Machine(store, "b")
    assert again.take()
    again.worker.train()
    assert tables(store) == undisturbed


@pytest.mark.thorough
@pytest.mark.parametrize("moment", ["start", "drop_later", "write_tables", "cut_back", "publish_again"])
def test_a_worker_paused_while_resuming_drops_nothing_of_its_successor(moment, planned, undisturbed):
    store = planned()
    killed = Machine(store, "a")
    held = killed.take()
    killed.pause_at("check_owner", 200)
    killed.meanwhile = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        killed.worker.train()
    held.close()
    paused = Machine(store, "a")
    assert paused.take()
    paused.pause_at(moment, 200)
    paused.meanwhile = lambda: take_over(store, "b").worker.train()
    with pytest.raises(TakenOver):
        paused.worker.train()
    assert tables(store) == undisturbed


@pytest.mark.thorough
def test_a_worker_paused_before_its_start_deletes_no_tables(planned, undisturbed):
    store = planned()
    paused = Machine(store, "a")
    assert paused.take()
    for moment in ("start", "cut_back"):
        paused.pause_at(moment, 0)
    paused.meanwhile = lambda: take_over(store, "b").worker.train()
    with pytest.raises(TakenOver):
        paused.worker.train()
    assert tables(store) == undisturbed


@pytest.mark.thorough
@pytest.mark.parametrize("moment", ["drop_later", "cut_back"])
def test_a_worker_whose_checkpoint_is_withdrawn_stops_and_the_next_continues(moment, planned, undisturbed):
    """The previous owner has saved a checkpoint, then finds that it is no longer the owner."""
    store = planned()
    killed = Machine(store, "a")
    held = killed.take()
    killed.pause_at("write_tables", 200)
    killed.meanwhile = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        killed.worker.train()
    held.close()
    other = Machine(store, "b")
    held = other.take()
    other.pause_at(moment, 200)
    other.meanwhile = lambda: killed.worker.directory._checkpoints()[-1].unlink()
    with pytest.raises(TakenOver, match="withdrawn"):
        other.worker.train()
    held.close()
    last = Machine(store, "c")
    assert last.take()
    last.worker.train()
    assert tables(store) == undisturbed


@pytest.mark.thorough
def test_a_paused_worker_drops_no_files_that_its_successor_is_about_to_commit(planned):
    store = planned()
    paused = Machine(store, "a")
    assert paused.take()

    def meanwhile():
        other = take_over(store, "b")
        commit = other.worker.directory._commit

        def stop_before(path, content):
            if other.worker.trainer.steps == 300:
                raise KeyboardInterrupt
            commit(path, content)

        other.worker.directory._commit = stop_before
        with pytest.raises(KeyboardInterrupt):
            other.worker.train()

    paused.pause_at("_drop_unneeded", 200)
    paused.meanwhile = meanwhile
    with pytest.raises(TakenOver):
        paused.worker.train()
    assert len(list(store.root.glob("cohorts/*/*-000000000300.safetensors"))) == 2  # rows and state


@pytest.mark.thorough
@pytest.mark.parametrize("failed", [False, True])
def test_the_next_worker_ends_a_diverged_run_if_the_first_died_after_its_commit(failed, planned):
    store = planned()
    killed = Machine(store, "a")
    held = killed.take()
    train = killed.worker.trainer.train

    def diverge(*arguments):
        segment = train(*arguments)
        if segment.steps == 200:
            segment.stops[0] = Stop(status="diverged", step=150, reason="NaN", log="")
        return segment

    killed.worker.trainer.train = diverge
    killed.pause_at("write_tables", 200)
    killed.meanwhile = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        killed.worker.train()
    held.close()
    if failed:  # as the engine does after the third death
        for run in map(store.run, store.run_ids()):
            run.update(status="failed", reason="killed by SIGKILL")
    again = Machine(store, "b")
    assert again.take()
    again.worker.train()
    first, second = (run.status() for run in again.worker.runs)
    assert (first["status"], first["steps"]) == ("diverged", 150)
    assert (second["status"], second["steps"]) == ("finished", STEPS)


def test_a_command_paused_while_planning_resets_nothing_that_another_trained(experiment_file, tmp_path, monkeypatch):
    experiment = load(experiment_file, variants=["sac"], steps=STEPS)
    clock = Clock()
    paused, other = (Store(tmp_path / "shared", machine(name, clock)) for name in "ab")
    clear = CohortDirectory.clear

    def clear_late(directory):
        monkeypatch.undo()
        if not paused.run_ids():
            with other.planning():  # it waits until the lease has ended
                write(make_plan(experiment, other, 1, 8e9), other)
            for run in map(other.run, other.run_ids()):
                run.end("finished", steps=STEPS)
        clear(directory)

    monkeypatch.setattr(CohortDirectory, "clear", clear_late)  # once
    with paused.planning(), pytest.raises(InputError, match="was paused"):
        write(make_plan(experiment, paused, 1, 8e9), paused)
    assert [other.run(run_id).status()["status"] for run_id in other.run_ids()] == ["finished"] * 2
