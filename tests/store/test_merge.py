"""Joining results folders."""

import shutil

import pytest

from sac_bench.errors import InputError
from sac_bench.execution import gc
from sac_bench.spec.run import RunSpec
from sac_bench.store.atomic import write_json
from sac_bench.store.locks import HERE
from sac_bench.store.merge import merge
from sac_bench.store.store import Store
from tests.conftest import tiny
from tests.store.hosts import nothing


def contents(store):
    return {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file() and ".locks" not in path.parts}


@pytest.fixture
def folder(tmp_path):
    """A function that returns a folder with ended runs of these seeds: {seed: return}, and wall seconds."""

    def write(name, returns, seconds=1.0, ended=True):
        store = Store(tmp_path / name)
        for seed, value in returns.items():
            spec = RunSpec("sac", tiny(), "Pendulum-v1", seed)
            run = store.run(spec.id)
            run.plan(spec, "0" * 16)
            run.append("evaluations", [{"step": 100, "return_mean": value, "wall_seconds": seconds}])
            run.policy.write_bytes(b"policy")
            run.update(steps=100)
            if ended:
                run.end("finished")
        return store

    return write


def test_runs_are_copied_once_and_are_intact(folder):
    one, other, into = folder("one", {0: 1.0, 1: 2.0}), folder("other", {2: 3.0}), folder("into", {})
    write_json(one.environment("Pendulum-v1"), {"return_mean": -1200.0})
    assert len(merge(one, into).copied) == 2
    assert len(merge(other, into).copied) == 1
    assert set(into.run_ids()) == {*one.run_ids(), *other.run_ids()}
    assert {into.run(run_id).status()["status"] for run_id in into.run_ids()} == {"finished"}
    assert into.environment("Pendulum-v1").read_bytes() == one.environment("Pendulum-v1").read_bytes()
    before = contents(into)
    again = merge(one, into)
    assert (len(again.copied), len(again.equal), again.different) == (0, 2, {})
    assert contents(into) == before
    assert not list(into.root.rglob(".tmp-*"))


def test_equal_runs_may_differ_only_in_time(folder):
    merged = merge(folder("one", {0: 1.0}, seconds=5.0), folder("into", {0: 1.0}, seconds=7.0))
    assert (len(merged.equal), merged.different) == (1, {})


def test_different_bytes_are_reported_and_nothing_is_overwritten(folder):
    one, into = folder("one", {0: 1.0, 1: 2.0}), folder("into", {0: 1.5})
    (run_id,) = into.run_ids()
    one.run(run_id).policy.write_bytes(b"other")
    one.run(run_id).end("finished")
    before = contents(into)
    merged = merge(one, into)
    assert merged.different == {run_id: ["evaluations.csv", "policy.safetensors"]}
    assert len(merged.copied) == 1
    assert contents(into).items() >= before.items()


def test_unended_and_damaged_runs_are_not_copied(folder):
    one = folder("one", {0: 1.0})
    unended = folder("unended", {1: 1.0}, ended=False)
    into = folder("into", {0: 1.0}, ended=False)
    (run_id,) = into.run_ids()
    assert merge(one, into).kept == {run_id: "planned at 100 steps"}
    assert into.run(run_id).status()["status"] == "planned"
    assert list(merge(unended, into).left.values()) == ["planned at 100 steps"]
    (one.run(run_id).path / "evaluations.csv").write_text("step\n")
    assert "evaluations.csv: damaged" in merge(one, folder("empty", {})).left[run_id]


def test_a_run_with_more_steps_is_different(folder):
    one, into = folder("one", {0: 1.0}), folder("into", {0: 1.0})
    (run_id,) = one.run_ids()
    one.run(run_id).update(steps=200)
    assert merge(one, into).different == {run_id: ["200 steps there, 100 here"]}


def test_a_folder_is_not_merged_into_itself_and_must_have_runs(folder, tmp_path):
    one = folder("one", {0: 1.0})
    with pytest.raises(InputError, match="is the folder to merge into"):
        merge(one, Store(tmp_path / "one"))
    with pytest.raises(InputError, match="no runs there"):
        merge(Store(tmp_path / "none"), one)


@pytest.mark.parametrize("status", ["planned", "failed"])
def test_a_planned_run_is_replaced_unless_it_may_be_in_training(status, folder):
    one, into = folder("one", {0: 1.0}), Store(folder("into", {}).root)
    (run_id,) = one.run_ids()
    into.run(run_id).plan(one.run(run_id).spec(), "1" * 16)
    into.run(run_id).update(status=status)
    with into.take_cohort("1" * 16):
        assert merge(one, into).kept == {run_id: status}
    with into.planner() as planner:
        write_json(into.cohort("1" * 16) / "plan.json", {"planners": [planner]})
        assert merge(one, into).kept == {run_id: status}
    assert merge(one, into).copied == [run_id]
    assert into.run(run_id).status()["status"] == "finished"
    assert not list(into.root.rglob(".tmp-*"))


@pytest.fixture
def meanwhile(monkeypatch):
    """Return a function that sets what another process does before the first file of a run is copied."""

    def wait_for(act):
        usual, acts = shutil.copyfile, [act]

        def copyfile(*arguments, **more):
            if acts:
                acts.pop()()
            return usual(*arguments, **more)

        monkeypatch.setattr(shutil, "copyfile", copyfile)

    return wait_for


def test_others_can_plan_while_runs_are_copied(folder, meanwhile, monkeypatch):
    """Their plans are read before a copy is put into place."""
    one, into = folder("one", {0: 1.0}), folder("into", {})
    (run_id,) = one.run_ids()

    def plan():
        with into.planning():
            into.run(run_id).plan(one.run(run_id).spec(), "1" * 16)
            into.run(run_id).update(status="started", steps=100)

    meanwhile(plan)
    monkeypatch.setattr(HERE, "pause", lambda _: pytest.fail("the folder is locked while runs are copied"))
    monkeypatch.setattr(HERE, "kernel", (nothing, nothing))
    assert merge(one, into).kept == {run_id: "started at 100 steps"}
    assert into.run(run_id).status()["status"] == "started"


def test_a_run_ended_by_another_command_meanwhile_is_compared(folder, meanwhile):
    one, into = folder("one", {0: 1.0}), folder("into", {})
    (run_id,) = one.run_ids()
    meanwhile(lambda: folder("into", {0: 1.5}))
    merged = merge(one, into)
    assert (merged.different, merged.kept) == ({run_id: ["evaluations.csv"]}, {})


def test_a_run_that_continues_while_it_is_copied_is_left_out(folder, meanwhile):
    one, into = folder("one", {0: 1.0}), folder("into", {})
    (run_id,) = one.run_ids()
    meanwhile(lambda: one.run(run_id).update(status="started", steps=100))
    merged = merge(one, into)
    assert (merged.copied, merged.left) == ([], {run_id: "started at 100 steps"})
    assert into.run_ids() == []


def test_a_folder_whose_name_differs_from_its_runs_id_is_not_copied(folder):
    one, into = folder("one", {0: 1.0, 1: 1.0, 2: 1.0}), folder("into", {})
    first, second, third = map(one.run, one.run_ids())
    (first.path / "spec.json").unlink()
    shutil.copyfile(third.path / "spec.json", second.path / "spec.json")
    merged = merge(one, into)
    assert merged.copied == [third.id]
    assert "spec.json: damaged" in merged.left[first.id]
    assert merged.left[second.id] == f"damaged: spec.json is that of run {third.id}"


def test_unfinished_copies_are_not_garbage_during_a_merge(folder, meanwhile):
    one, into = folder("one", {0: 1.0}), folder("into", {})
    (run_id,) = one.run_ids()

    def collect():
        assert list(into.root.glob(".tmp-*"))
        gc.free(into, gc.find(into))

    meanwhile(collect)
    assert merge(one, into).copied == [run_id]


def test_copies_of_a_read_only_archive_are_writable(folder):
    one, into = folder("one", {0: 1.0}), folder("into", {})
    (run,) = map(one.run, one.run_ids())
    (run.path / "more" / "inside").mkdir(parents=True)
    (run.path / "more" / "inside" / "notes.txt").write_text("mine")
    archive = [run.path, *run.path.rglob("*")]
    for path in archive:
        path.chmod(path.stat().st_mode & ~0o222)
    try:
        assert merge(one, into).copied == [run.id]
    finally:
        for path in archive:
            path.chmod(path.stat().st_mode | 0o200)
    copy = into.run(run.id).path
    assert (copy / "more" / "inside" / "notes.txt").read_text() == "mine"
    assert all(path.stat().st_mode & 0o200 for path in [copy, *copy.rglob("*")])


@pytest.mark.thorough
def test_the_exit_code_shows_whether_ended_runs_were_left_out(folder, command):
    one, started, planned = folder("one", {0: 1.0}), folder("started", {0: 1.0}, ended=False), folder("planned", {})
    (run_id,) = one.run_ids()
    planned.run(run_id).plan(one.run(run_id).spec(), "1" * 16)
    other, damaged = folder("other", {0: 1.5}), folder("damaged", {0: 1.0})
    damaged.run(run_id).policy.write_bytes(b"broken")
    for into, code, words in (
        (started, 1, f"exists here and has not ended: run {run_id} (planned at 100 steps)\n    finish it here, or"),
        (other, 1, f"different: run {run_id} (evaluations.csv)\n    to take theirs, move {other.root}/runs/ID away"),
        (damaged, 1, "policy.safetensors: damaged: its bytes are not those that were written)\n    to take theirs"),
        (planned, 0, "1 run copied"),
    ):
        ran = command("merge", one.root, "--results", into.root)
        assert (ran.returncode, words in ran.stdout) == (code, True), ran.stdout + ran.stderr
