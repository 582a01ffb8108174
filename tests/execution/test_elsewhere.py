"""Workers that do not share the results folder, without a cluster: their places are in this process."""

import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import cloudpickle
import pytest

from sac_bench.errors import InputError
from sac_bench.execution import place as places
from sac_bench.execution import scratch
from sac_bench.execution import user_code as users
from sac_bench.execution.budget import TimeLimit
from sac_bench.execution.calibration import Machine
from sac_bench.execution.elsewhere import DistantProcess, Fault, Lost
from sac_bench.execution.engine import MAX_LOSSES, Engine
from sac_bench.execution.host import BY_VALUE, Host
from sac_bench.execution.launch import LOST, OUT_OF_TIME, Job, Order, Refused
from sac_bench.execution.place import News, Place
from sac_bench.execution.plan import make_plan, write
from sac_bench.execution.user_code import user_modules
from sac_bench.execution.versions import different, versions
from sac_bench.execution.worker_options import WorkerOptions, Workers
from sac_bench.spec.load import load
from sac_bench.store.store import Store
from tests.execution.test_faults import comparable


class Direct:
    """A connection to a place in this process. It is lost once it has told of a save after `last` steps.

    `change` changes what it tells.
    """

    def __init__(self, last=None, about=None, change=lambda news: news):
        self.last, self.about, self.change, self.is_lost = last, about, change, False
        self.place, self.calls = Place(), []

    def call(self, method, *arguments):
        self.calls.append(method)
        if method == "about":
            return self.about or ("near", versions())
        if self.is_lost:
            self.end()
            raise Lost("ActorDiedError: the cable")
        try:
            result = getattr(self.place, method)(*arguments)
        except Exception as error:
            raise Fault(error) from None
        if method == "news":
            result = self.change(result)
            self.is_lost = self.last in [report.get("saved") for report in result.reports if "saved" in report]
        return result

    def has_room(self, seconds):
        return True

    def tell(self, method):
        getattr(self.place, method)()

    def end(self):
        if hasattr(self.place, "_process"):
            self.place._process.kill()
            self.place._process.close()


class Elsewhere:
    """A launcher whose workers run at these places, one after another, or are these processes."""

    memory = None

    def __init__(self, *places):
        self.left = list(places)

    def places(self):
        return None

    def machine(self, device):
        return Machine.here(device)

    def start(self, job):
        place = self.left.pop(0)
        return place if isinstance(place, Ended) else DistantProcess(job, 1, place, {})


class Ended:
    """A worker that ends at once."""

    def __init__(self, code, why):
        self.code, self.why = code, why

    def reports(self):
        yield {"error": self.why}

    def wait(self, timeout=None):
        return self.code

    def stop(self):
        pass

    kill = close = stop


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    monkeypatch.setattr(scratch.tempfile, "tempdir", str(tmp_path))
    return tmp_path


def planned(experiment_file, root):
    store = Store(root)
    experiment = load(experiment_file, variants=["sac"], steps=300, settings=["eval_every=100", "eval_episodes=1"])
    plan = make_plan(experiment, store, 1, 8e9)
    write(plan, store)
    return store, plan


def engine_of(store, plan, launcher):
    said = []
    display = SimpleNamespace(show=lambda *_: None, say=said.append, finish=lambda *_: None, close=lambda: None)
    return Engine(plan, store, device="cpu", workers=1, display=display, launcher=launcher), said


@pytest.mark.thorough
def test_a_lost_worker_elsewhere_is_replaced_with_identical_results(experiment_file, folder):
    here, plan = planned(experiment_file, folder / "here")
    engine_of(here, plan, Workers("cpu", 1).launcher)[0].run()
    store, plan = planned(experiment_file, folder / "results")
    engine, said = engine_of(store, plan, Elsewhere(Direct(last=200), Direct()))
    engine.run()
    assert comparable(store.root) == comparable(here.root)
    assert "machine near was lost, or its worker's process there; continues from its last segment" in said[0]
    assert "cable" not in said[0]
    assert "lost: ActorDiedError: the cable" in (store.cohort(plan.cohorts[0].id) / "log.txt").read_text()
    assert "trained 2 runs" in said[1]
    assert not store.is_trained(plan.cohorts[0].id)


@pytest.mark.thorough
def test_a_machine_with_other_versions_is_refused_and_its_cohort_is_untouched(experiment_file, folder):
    store, plan = planned(experiment_file, folder / "results")
    there = versions() | {"torch": "1.0", "envpool": "2.0"}
    place = Direct(about=("far", there))
    engine, _ = engine_of(store, plan, Elsewhere(place))
    with pytest.raises(Refused, match=r"machine far has torch 1\.0, envpool 2\.0, and this command has torch 2\."):
        engine.run()
    assert place.calls == ["about"]
    assert {store.run(run_id).status()["status"] for run_id in store.run_ids()} == {"planned"}


def test_lost_machines_do_not_count_as_crashes(experiment_file, folder):
    store, plan = planned(experiment_file, folder / "results")
    lost, crashes = Ended(LOST, "machine far was lost"), [Ended(1, "one"), Ended(1, "two")]
    engine, said = engine_of(store, plan, Elsewhere(lost, crashes[0], lost, lost, crashes[1], lost, Ended(0, "")))
    engine.run()
    assert [line.partition(": ")[2] for line in said[:3]] == [
        "machine far was lost; continues from its last segment where there is room (not counted as a crash)",
        "worker one; restarted from its last segment (1 of 2 times)",
        "machine far was lost (2 in a row); continues from its last segment where there is room (not counted as a crash)",
    ]
    assert "trained 2 runs" in said[-1]


def test_a_cohort_fails_once_many_machines_were_lost_in_a_row(experiment_file, folder):
    store, plan = planned(experiment_file, folder / "results")
    engine, said = engine_of(store, plan, Elsewhere(*[Ended(LOST, "machine far was lost")] * (MAX_LOSSES + 1)))
    engine.run()
    assert "21 machines in a row were lost before a segment was saved, the last: machine far was lost" in said[-1]
    assert {store.run(run_id).status()["status"] for run_id in store.run_ids()} == {"failed"}


def run_once(store, plan, place):
    """Return the reports and the exit code of a worker at a place, after the steps that the results folder has."""
    (cohort,) = plan.cohorts
    log = store.cohort(cohort.id) / "log.txt"
    with store.take_cohort(cohort.id) as lock:
        job = Job(store, cohort, lock, log, "cpu", 1, (), TimeLimit(), None)
        process = DistantProcess(job, 1, place, {})
        reports = list(process.reports())
    return reports, process.wait()


def steps(store):
    return {store.run(run_id).status()["steps"] for run_id in store.run_ids()}


@pytest.mark.thorough
def test_a_machine_that_is_lost_after_the_last_save_has_finished_its_cohort(experiment_file, folder):
    store, plan = planned(experiment_file, folder / "results")
    reports, code = run_once(store, plan, Direct(last=300))
    assert code == 0
    assert reports[-1]["saved"] == 300
    assert {store.run(run_id).status()["status"] for run_id in store.run_ids()} == {"finished"}
    assert not list(store.cohort(plan.cohorts[0].id).glob("checkpoint-*"))


def damaged(news):
    """Return news in which a byte of a file of tensors is another one, if it has a checkpoint after step 100."""
    if news.changes is None or not any(name > "checkpoint-000000000100" for name in news.changes.checkpoints):
        return news
    name, data = next((name, data) for name, data in news.changes.tensors.items() if name.startswith("state"))
    tensors = {**news.changes.tensors, name: data[:-1] + bytes([data[-1] ^ 1])}
    return replace(news, changes=replace(news.changes, tensors=tensors))


@pytest.mark.thorough
def test_a_segment_that_arrives_damaged_is_lost_and_trained_again(experiment_file, folder):
    here, plan = planned(experiment_file, folder / "here")
    engine_of(here, plan, Workers("cpu", 1).launcher)[0].run()
    store, plan = planned(experiment_file, folder / "results")
    reports, code = run_once(store, plan, Direct(change=damaged))
    assert (code, reports[-1]) == (LOST, {"error": "machine near has sent a damaged segment"})
    (saved,) = steps(store)
    engine, _ = engine_of(store, plan, Elsewhere(Direct()))
    engine.run()
    assert comparable(store.root) == comparable(here.root)
    assert saved < 300


@pytest.mark.thorough
def test_a_machine_that_stops_its_processes_is_lost(experiment_file, folder):
    store, plan = planned(experiment_file, folder / "results")
    place = Direct()
    place.change = lambda news: (place.tell("stop") if any("saved" in one for one in news.reports) else None, news)[1]
    reports, code = run_once(store, plan, place)
    assert (code, reports[-1]) == (LOST, {"error": "machine near has stopped the worker"})


def test_a_disk_of_another_machine_that_is_full_is_not_the_fault_of_the_runs(experiment_file, folder):
    store, plan = planned(experiment_file, folder / "results")
    place = Direct()

    def put(path, data):
        raise OSError(errno.ENOSPC, "No space left on device", "/tmp/sac-bench-0/x/results")

    place.place.put = put
    reports, code = run_once(store, plan, place)
    why = "machine near cannot hold the worker's files: No space left on device"
    assert (code, reports) == (LOST, [{"error": why}])


def test_paths_of_another_machine_are_not_shown(experiment_file, folder):
    store, plan = planned(experiment_file, folder / "results")
    place = Direct()
    there = place.place._folder
    error = f"{there}/results/runs/x: damaged; {there}/code/mine/env.py, line 3"
    place.place.start = lambda order: str(there)
    place.place.news = lambda: News(({"error": error},), None, 2)
    reports, _ = run_once(store, plan, place)
    assert reports == [{"error": f"{store.root}/runs/x: damaged; mine/env.py, line 3"}]


def test_a_machine_without_the_package_is_refused_in_words(tmp_path):
    """Ray sends the code of what looks at a machine, so that it needs no package there."""
    shutil.copytree(Path(cloudpickle.__file__).parent, tmp_path / "cloudpickle")
    for module in BY_VALUE:
        cloudpickle.register_pickle_by_value(module)
    try:
        (tmp_path / "host").write_bytes(cloudpickle.dumps(Host))
    finally:
        for module in BY_VALUE:
            cloudpickle.unregister_pickle_by_value(module)
    program = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); import cloudpickle, json\n"
    program += f"print(json.dumps(cloudpickle.load(open({str(tmp_path / 'host')!r}, 'rb'))().about()))"
    found = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True)
    host, theirs = json.loads(found.stdout)
    assert theirs == {}
    message = different(host, theirs)
    assert message.startswith(f"machine {host} has no sac_bench, no torch, ")
    assert f"and this command has sac_bench {versions()['sac_bench']}, torch " in message


@pytest.mark.thorough
def test_an_exception_of_an_environment_elsewhere_is_reported(experiment_file, folder, monkeypatch):
    """The worker cannot import the module: it fails as a worker here does, and its log comes back."""
    store, plan = planned(experiment_file, folder / "results")
    engine, said = engine_of(store, plan, Elsewhere(Direct(), Direct()))
    engine._imports = ["no_such_module"]
    engine.run()
    assert "No module named 'no_such_module'" in said[-1]
    assert {store.run(run_id).status()["status"] for run_id in store.run_ids()} == {"failed"}
    assert "Traceback" in (store.cohort(plan.cohorts[0].id) / "log.txt").read_text()


def test_a_worker_without_a_place_waits_no_longer_than_its_time_limit(folder):
    class Full(Direct):
        def has_room(self, seconds):
            waits.append(seconds)
            clock.now += seconds
            return False

    clock, waits, place = SimpleNamespace(now=0.0), [], Full()
    job = SimpleNamespace(limit=TimeLimit(12.0, lambda: clock.now, 12.0), log=folder / "log.txt")
    process = DistantProcess(job, 1, place, {})
    assert list(process.reports()) == []
    assert process.wait() == OUT_OF_TIME
    assert waits == [5.0, 5.0, 2.0]
    assert place.calls == []


def killed_with_its_folder(folder, then):
    """Return the temporary folder of a process that was killed after it ran the lines `then`, and the process."""
    program = f"import tempfile; tempfile.tempdir = {str(folder)!r}; import os, subprocess\n"
    program += "from sac_bench.execution.scratch import temporary_folder; made, lock = temporary_folder()\n"
    program += f"{then}\nprint(made, flush=True); os._exit(9)"
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    made = Path(process.stdout.readline().strip())
    assert process.wait() == 9
    assert made.is_dir()
    return made, process


def test_a_folder_of_a_killed_process_is_deleted_by_the_next_place(folder):
    killed, _ = killed_with_its_folder(folder, "pass")
    living = Place()
    living.put("results/a/b", b"x")
    assert (living._folder / "results/a/b").read_bytes() == b"x"
    other = Place()
    assert not killed.exists()
    assert living._folder.exists()
    living.close()
    assert not living._folder.exists()
    other.close()


def test_a_folder_is_kept_while_a_worker_outlives_its_place(folder, monkeypatch):
    kept, process = killed_with_its_folder(folder, "subprocess.Popen(['cat'], stdout=2, pass_fds=[lock.fileno()])")
    inherited = []
    monkeypatch.setattr(places, "run_worker", lambda *_, **options: inherited.append(options["inherited"]))
    monkeypatch.setattr(places.Place, "_listen", lambda *_: None)
    place = Place()
    place._results.mkdir()
    place.start(Order("x", 1, "cpu", 1, 1.0))
    assert inherited == [[place._lock.fileno()]]
    assert kept.exists()
    process.stdin.close()  # ends the child


def test_folders_of_other_machines_are_left_alone(folder, monkeypatch):
    """Their locks may not be seen here, if machines share the disk."""
    monkeypatch.setattr(scratch.socket, "gethostname", lambda: "far")
    theirs, lock = scratch.temporary_folder()
    lock.close()
    monkeypatch.setattr(scratch.socket, "gethostname", lambda: "near")
    Place()
    assert theirs.exists()


def test_a_folder_of_another_user_is_not_used(folder):
    (folder / f"sac-bench-{os.getuid()}").symlink_to(folder)
    with pytest.raises(PermissionError, match="another user owns it"):
        Place()


def test_modules_of_the_user_are_sent_to_workers(folder, monkeypatch):
    (folder / "mine").mkdir()
    for name in ("mine/__init__.py", "mine/env.py"):
        (folder / name).write_text("x = 1")
    for name, file in (("mine", "mine/__init__.py"), ("mine.env", "mine/env.py"), ("wave", "mine/env.py")):
        module = ModuleType(name)
        module.__file__ = str(folder / file)
        monkeypatch.setitem(sys.modules, name, module)
    found = user_modules()
    assert found["mine/__init__.py"] == found["mine/env.py"] == b"x = 1"
    assert not any(name.startswith(("wave", "sac_bench/", "torch/")) for name in found)


def test_modules_that_are_imported_late_are_sent_and_other_files_are_refused(folder, monkeypatch):
    (folder / "lateenv.py").write_text("def made():\n    import latemodel\n")
    (folder / "latemodel.py").write_text("x = 1")
    monkeypatch.syspath_prepend(folder)
    importlib.import_module("lateenv")
    run = SimpleNamespace(env="gymnasium:Late-v0", algorithm="sac")
    definition = {"files": {"lateenv.py": "", "latemodel.py": "", "temporary.xml": ""}}
    monkeypatch.setattr(users, "describe", lambda env: SimpleNamespace(definition=definition))
    assert users.user_code([run])["latemodel.py"] == b"x = 1"
    definition["files"]["walker.xml"] = ""
    with pytest.raises(Refused, match=r"gymnasium:Late-v0 reads walker\.xml, and only modules are sent"):
        users.user_code([run])
    monkeypatch.delitem(sys.modules, "lateenv")


def test_missing_ray_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "sac_bench.execution.on_ray", raising=False)
    with pytest.raises(InputError, match=r"Ray is not installed: pip install 'sac_bench\[ray\]'"):
        WorkerOptions(engine="ray").choose()
    with pytest.raises(InputError, match="workers: must be between 1 and 1024, not 0"):
        WorkerOptions(engine="ray", count=0).choose()


@pytest.mark.parametrize(
    ("engine", "address", "gpus", "words"),
    [
        ("dask", None, None, "--engine dask: must be local or ray"),
        ("local", "auto", None, "--address auto: requires --engine ray; add it"),
        ("ray", None, "all", "--gpus all: Ray assigns the GPUs"),
    ],
)
def test_options_that_do_not_fit_an_engine_are_refused(engine, address, gpus, words):
    with pytest.raises(InputError, match=words):
        WorkerOptions(engine=engine, address=address, gpus=gpus).choose()
