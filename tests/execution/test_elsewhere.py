"""Workers that do not share the results folder, without a cluster: their places are in this process."""

import subprocess
import sys
from types import ModuleType, SimpleNamespace

import pytest

from sac_bench.cli.common import team_of
from sac_bench.errors import InputError
from sac_bench.execution import scratch
from sac_bench.execution.budget import TimeLimit
from sac_bench.execution.calibration import Machine
from sac_bench.execution.elsewhere import DistantProcess, Lost
from sac_bench.execution.engine import Engine
from sac_bench.execution.launch import OUT_OF_TIME, Refused
from sac_bench.execution.place import Place
from sac_bench.execution.plan import make_plan, write
from sac_bench.execution.train import Workers
from sac_bench.execution.user_code import user_modules
from sac_bench.execution.versions import versions
from sac_bench.spec.load import load
from sac_bench.store.store import Store
from tests.execution.test_faults import comparable


class Direct:
    """A connection to a place in this process. It is lost at the `fatal`-th call for news."""

    def __init__(self, fatal=-1, about=None):
        self.fatal, self.about, self.place, self.calls = fatal, about, Place(), []

    def call(self, method, *arguments):
        self.calls.append(method)
        if method == "about" and self.about:
            return self.about
        if self.calls.count("news") == self.fatal:
            self.end()
            raise Lost("the cable")
        return getattr(self.place, method)(*arguments)

    def has_room(self, seconds):
        return True

    def tell(self, method):
        getattr(self.place, method)()

    def end(self):
        if hasattr(self.place, "_process"):
            self.place._process.kill()
            self.place._process.close()


class Elsewhere:
    """A launcher whose workers run at these places, one after another."""

    memory = None

    def __init__(self, *places):
        self.left = list(places)

    def places(self):
        return None

    def machine(self, device):
        return Machine.here(device)

    def start(self, job):
        return DistantProcess(job, 1, self.left.pop(0), {})


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
    engine, said = engine_of(store, plan, Elsewhere(Direct(fatal=4), Direct()))
    engine.run()
    assert comparable(store.root) == comparable(here.root)
    assert "worker lost, with its machine or its process there: the cable; restarted from its last" in said[0]
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


def test_a_folder_of_a_killed_process_is_deleted_by_the_next_place(folder):
    program = f"import tempfile; tempfile.tempdir = {str(folder)!r}; from sac_bench.execution.place import Place\n"
    program += "import os; print(Place()._folder, flush=True); os._exit(9)"
    killed = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout.strip()
    living = Place()
    living.put("results/a/b", b"x")
    assert (living._folder / "results/a/b").read_bytes() == b"x"
    other = Place()
    assert sorted(path for path in other._folder.parent.iterdir() if path.is_dir()) == sorted(
        [living._folder, other._folder]
    )
    assert killed
    living.close()
    assert not living._folder.exists()


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


def test_missing_ray_is_reported(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "sac_bench.execution.on_ray", raising=False)
    with pytest.raises(InputError, match=r"Ray is not installed: pip install 'sac_bench\[ray\]'"):
        Workers.on_ray()
    with pytest.raises(InputError, match="workers: must be between 1 and 1024, not 0"):
        Workers.on_ray(count=0)


@pytest.mark.parametrize(
    ("engine", "address", "gpus", "words"),
    [
        ("dask", None, None, "--engine dask: must be local or ray"),
        ("local", "auto", None, "--address auto: is that of a Ray cluster; add --engine ray"),
        ("ray", None, "all", "--gpus all: Ray assigns the GPUs"),
    ],
)
def test_options_that_do_not_fit_an_engine_are_refused(engine, address, gpus, words):
    with pytest.raises(InputError, match=words):
        team_of(engine, address, "auto", None, None, [], gpus, None)
