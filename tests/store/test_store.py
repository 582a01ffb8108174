"""Run directories with files that are cut, incomplete or missing, and ids that lead out of the folder."""

import pytest

from sac_bench.errors import InputError
from sac_bench.results.load import load_results
from sac_bench.store.atomic import read_json, write_atomically, write_json
from sac_bench.store.locks import LEASE_SECONDS
from sac_bench.store.run import RunDirectory
from sac_bench.store.status import standing_at
from sac_bench.store.store import LAYOUT, Store
from tests.made_up import results_of, write_results
from tests.store.hosts import Clock, machine


def rows(*steps):
    return [{"step": step, "return_mean": step / 10} for step in steps]


def test_tables_are_cut_back_to_their_fingerprints(tmp_path):
    run = RunDirectory(tmp_path)
    run.append("evaluations", rows(0, 100))
    was = run.fingerprints()
    run.append("evaluations", rows(200))
    run.append("training", rows(200))
    with open(tmp_path / "evaluations.csv", "a", encoding="utf-8") as file:
        file.write("300,3")
    assert run.table("evaluations")["step"].tolist() == [0, 100, 200]  # an incomplete line is ignored
    run.check_tables(was)
    run.cut_back(was)
    assert run.table("evaluations")["step"].tolist() == [0, 100]
    assert run.table("training").empty
    run.append("evaluations", rows(200))
    assert run.table("evaluations")["step"].tolist() == [0, 100, 200]
    run.cut_back({})
    assert run.fingerprints() == {}


def test_a_table_cut_by_another_process_is_not_extended_or_filled(tmp_path):
    run = RunDirectory(tmp_path)
    run.append("evaluations", rows(0, 100))
    was = run.fingerprints()
    addition, _ = run.added("evaluations", rows(200), was["evaluations"])
    content = (tmp_path / "evaluations.csv").read_bytes()[:-3]
    (tmp_path / "evaluations.csv").write_bytes(content)
    for write in (lambda: run.put("evaluations", addition), lambda: run.cut_back(was)):
        with pytest.raises(InputError, match=r"evaluations.csv: damaged: cut to"):
            write()
        assert (tmp_path / "evaluations.csv").read_bytes() == content


def test_a_run_ends_only_with_its_committed_tables(tmp_path):
    run = RunDirectory(tmp_path)
    run.append("evaluations", rows(0, 100))
    was = run.fingerprints()
    run.append("evaluations", rows(200))
    with pytest.raises(InputError, match=r"evaluations.csv: damaged"):
        run.end("finished", was, steps=100)
    assert run.status()["status"] != "finished"
    run.cut_back(was)
    run.end("finished", was, steps=100)
    assert run.status()["status"] == "finished"


def test_a_run_ended_by_another_process_stays_ended(tmp_path):
    paused, other = RunDirectory(tmp_path), RunDirectory(tmp_path)
    paused.update(status="started", steps=100)
    other.update(status="started", steps=200)
    other.end("finished")
    with pytest.raises(InputError, match="another process has ended this run"):
        paused.update(steps=200)
    with pytest.raises(InputError, match="another process has ended this run"):
        paused.end("diverged")
    assert (other.status()["status"], other.status()["steps"]) == ("finished", 200)
    other.update(status="started", steps=200)  # it continues the run
    RunDirectory(tmp_path).update(steps=300)


def test_a_table_cut_in_its_header_is_empty(tmp_path):
    run = RunDirectory(tmp_path)
    for cut in ("", "step,ret"):
        (tmp_path / "training.csv").write_text(cut)
        assert run.table("training").empty


def ended(tmp_path, status="finished"):
    run = RunDirectory(tmp_path)
    run.append("evaluations", rows(0, 100))
    run.policy.write_bytes(b"weights")
    run.end(status, steps=100)
    return RunDirectory(tmp_path)


@pytest.mark.parametrize("status", ["finished", "diverged"])
def test_an_ended_run_is_damaged_once_its_tables_change(status, tmp_path):
    run = ended(tmp_path, status)
    assert run.status()["status"] == status
    whole = (tmp_path / "evaluations.csv").read_bytes()
    for data in (whole[:-3], whole.replace(b"10.0", b"90.0")):
        (tmp_path / "evaluations.csv").write_bytes(data)
        status_now = run.status()
        assert status_now["status"] == "damaged"
        assert str(tmp_path / "evaluations.csv") in status_now["reason"]
        assert standing_at(status_now, 100) == "damaged"
    (tmp_path / "evaluations.csv").write_bytes(whole)
    assert run.status()["status"] == status


@pytest.mark.parametrize("text", ["", "{", "[]", '{"status": "finished"}', '{"status": 3, "steps": 1}', None])
def test_an_unreadable_status_means_a_damaged_run_and_not_a_new_one(text, tmp_path):
    run = ended(tmp_path)
    if text is None:
        (tmp_path / "status.json").unlink()
    else:
        (tmp_path / "status.json").write_text(text)
    assert run.status()["status"] == "damaged"
    assert str(tmp_path / "status.json") in run.status()["reason"]


def test_the_owner_restores_a_damaged_status_file(tmp_path):
    run = ended(tmp_path)
    run.update(status="started", cohort="0" * 16)
    (tmp_path / "status.json").write_text("")
    run.update(steps=200)
    found = RunDirectory(tmp_path).status()
    assert (found["status"], found["steps"], found["cohort"]) == ("started", 200, "0" * 16)


@pytest.mark.parametrize(
    ("status", "steps", "standing"),
    [
        ("new", 0, "not started"),
        ("planned", 0, "not started"),
        ("started", 50, "interrupted"),
        ("started", 100, "finished"),
        ("failed", 50, "failed"),
        ("failed", 100, "finished"),
        ("finished", 50, "to be continued"),
        ("finished", 100, "finished"),
        ("diverged", 50, "diverged"),
        ("diverged", 100, "diverged"),
        ("diverged", 101, "finished"),
        ("damaged", 0, "damaged"),
    ],
)
def test_the_standing_of_a_run_depends_on_its_status_and_steps(status, steps, standing):
    assert standing_at({"status": status, "steps": steps}, 100) == standing


@pytest.mark.parametrize(
    "identifier", ["../x", "a/b", "", "..", "0" * 15, "0" * 17, "G" * 16, 7, None, "0" * 16 + "\n"]
)
def test_ids_cannot_lead_out_of_the_folder(identifier, tmp_path):
    store = Store(tmp_path)
    for place in (store.run, store.cohort, store.cohort_lock):
        with pytest.raises(InputError, match="not an id"):
            place(identifier)


def test_a_damaged_spec_is_reported_with_its_file(tmp_path):
    for text in ("{", "{}", '{"algorithm": "nope", "config": {}}'):
        (tmp_path / "spec.json").write_text(text)
        with pytest.raises(InputError, match=r"spec\.json: damaged"):
            RunDirectory(tmp_path).spec()


def test_a_folder_of_a_newer_layout_is_refused_and_an_older_one_is_upgraded(tmp_path):
    store = Store(tmp_path)
    with store.planning():
        pass
    assert read_json(tmp_path / "store.json") == {"layout": LAYOUT}
    write_json(tmp_path / "store.json", {"layout": LAYOUT + 1})
    with pytest.raises(InputError, match="newer sac_bench"), store.planning():
        pass
    write_json(tmp_path / "store.json", {"layout": 1})
    with store.planning():
        assert read_json(tmp_path / "store.json") == {"layout": LAYOUT}


def test_a_planner_is_alive_until_it_ends(tmp_path):
    store = Store(tmp_path)
    with store.planner() as name:
        assert store.is_alive(name)
        with store.planner() as other:
            assert store.is_alive(name)
            assert store.is_alive(other)
    assert not store.is_alive(name)
    assert not store.is_alive("../../etc/passwd")


def test_a_variant_may_be_called_null(tmp_path):
    about = {"reference": "null", "variants": {"null": {}}}
    row = [{"run_id": "0123", "variant": "null", "env": "Hopper-v5", "seed": 0}]
    write_results(tmp_path / "e", results_of(about, row, row, row, row))
    runs = load_results("e", tmp_path).runs
    assert runs["variant"].tolist() == ["null"]
    assert runs["run_id"].tolist() == ["0123"]
    assert runs["wall_seconds"].isna().all()


def test_a_run_that_never_started_is_new(tmp_path):
    assert Store(tmp_path).run("0" * 16).status() == {"status": "new", "steps": 0}
    assert Store(tmp_path).run("0" * 16).table("evaluations").empty


def test_unknown_results_are_refused_with_the_nearest_name(tmp_path):
    write_atomically(tmp_path / "ablation-quick" / "experiment.json", b"{}")
    with pytest.raises(InputError, match="did you mean 'ablation-quick'"):
        load_results("ablation-qick", tmp_path)


def test_a_table_keeps_the_columns_it_was_created_with(tmp_path):
    run = RunDirectory(tmp_path)
    run.append("training", [{"step": 0, "q": 1.5}])
    run.append("training", [{"step": 100, "q_bias": 2.0, "q": 2.5}, {"step": 200, "q_bias": 3.0, "q": 3.5}])
    run.append("training", [{"step": 300}])
    assert (tmp_path / "training.csv").read_text() == "step,q\n0,1.5\n100,2.5\n200,3.5\n300,\n"


def test_a_long_command_forgets_a_planner_of_a_lost_machine(tmp_path):
    clock = Clock()
    lost, ours = Store(tmp_path, machine("a")), Store(tmp_path, machine("b", clock))
    name = stranded(lost)
    with ours.planner():
        assert ours.is_alive(name)
        clock.now += LEASE_SECONDS
    assert ours.planner_names() == []


def stranded(store):
    """Return the name of a planner whose machine is lost before it ends."""
    planner = store.planner()
    store.kept = planner  # so that it is not closed
    return planner.__enter__()


def test_a_former_owner_cannot_change_the_status_of_a_run(tmp_path):
    owned = True

    def check():
        if not owned:
            raise InputError("taken over")

    run = Store(tmp_path).run("0" * 16, check)
    run.update(status="started", steps=1)
    owned = False
    with pytest.raises(InputError, match="taken over"):
        run.update(status="started", steps=2)
    assert run.status()["steps"] == 1


def test_an_older_layout_is_upgraded_only_if_no_older_command_is_running(tmp_path):
    store, older = Store(tmp_path), {"layout": LAYOUT - 1}
    with store.planner():
        write_json(tmp_path / "store.json", older)
        with pytest.raises(InputError, match="older sac_bench is running"), store.planning():
            pass
        assert store.check_layout() == LAYOUT - 1
    with store.planning():
        assert store.check_layout() == LAYOUT
