"""Time limits and GPUs: which cohorts start on which device, and when no more segments start."""

import math
import os
import subprocess
from dataclasses import replace
from types import SimpleNamespace

import pytest

from sac_bench.errors import InputError
from sac_bench.execution import engine as engines
from sac_bench.execution import worker
from sac_bench.execution.budget import LeftToOthers, OutOfTime, TimeLimit
from sac_bench.execution.calibration import Basis, Estimate
from sac_bench.execution.cost import START_SECONDS
from sac_bench.execution.engine import Engine
from sac_bench.execution.machine import available_memory, choose_gpus
from sac_bench.execution.plan import make_plan, write
from sac_bench.execution.progress import Signs, block
from sac_bench.execution.schedule import Divisible, at_least, indivisible
from sac_bench.execution.train import plan as make_plan_of
from sac_bench.execution.worker_options import WorkerOptions, Workers
from sac_bench.spec.experiment import ExperimentGroup
from sac_bench.spec.load import load
from sac_bench.store.store import Store
from tests.store.hosts import Clock, machine


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("3:50:00", 13_800),
        ("0:00:01", 1),
        ("1-12:00:00", 129_600),
        ("90min", 5400),
        ("8h", 28_800),
        ("100:00:00", 36e4),
    ],
)
def test_a_time_limit_counts_from_now(text, seconds):
    clock = Clock()
    clock.now = 50.0
    limit = TimeLimit.parse(text, clock)
    assert limit.left == seconds
    clock.now += 10
    assert limit.left == seconds - 10


@pytest.mark.parametrize("text", ["", "soon", "0:00:00", "-1:00:00", "3:50", "5M transitions", "0h", "1:2:3"])
def test_an_invalid_time_limit_is_refused(text):
    with pytest.raises(InputError, match=r"--until .*: must be a positive time"):
        TimeLimit.parse(text)


def test_gpus_are_chosen_by_their_position_among_visible_ones():
    assert choose_gpus("all", ["3", "GPU-x"]) == ("3", "GPU-x")
    assert choose_gpus("1, 0", ["3", "GPU-x"]) == ("GPU-x", "3")
    for text, words in (("2", "there is no 2"), ("0,0", "0 is duplicated"), ("", "must be all"), ("a", "must be all")):
        with pytest.raises(InputError, match=words):
            choose_gpus(text, ["3", "GPU-x"])


def test_a_team_has_one_worker_per_gpu(monkeypatch):
    monkeypatch.setattr("sac_bench.execution.worker_options.resolve_device", lambda device: ("cuda", ""))
    monkeypatch.setattr("sac_bench.execution.worker_options.visible_gpus", lambda: ["0", "1", "2"])
    monkeypatch.setattr("sac_bench.execution.worker_options.available_memory", lambda *_: 100)
    every = WorkerOptions().choose()
    assert (every.count, every.gpus, every.memory) == (3, ("0", "1", "2"), 90.0)
    assert WorkerOptions().choose(runs=2).count == 2
    assert WorkerOptions(gpus="0,2").choose().count == 2
    assert WorkerOptions(count=4, gpus="0,2").choose().memory == 45.0


def test_the_memory_of_a_worker_is_that_of_the_fullest_gpu_in_use(monkeypatch):
    monkeypatch.setattr("sac_bench.execution.machine.visible_gpus", lambda: ["5", "GPU-x", "7"])
    monkeypatch.setattr("torch.cuda.mem_get_info", lambda index: ([10, 300, 200][index], 1000))
    assert Workers("cuda", 2, gpus=("GPU-x", "7")).memory == 180.0
    assert available_memory("cuda") == 10


def test_structures_are_divided_into_at_least_as_many_cohorts_as_workers():
    long, short = Divisible(8, 1, 8, lambda runs: 10.0 * runs), Divisible(4, 1, 2, float)
    assert at_least([long, short], [1, 1], 2) == [1, 1]
    assert at_least([long, short], [1, 1], 4) == [3, 1]
    assert sum(at_least([short, indivisible(1e6)], [1, 1], 8)) == 3  # it cannot be divided more


@pytest.fixture
def store(experiment_file, tmp_path, monkeypatch):
    monkeypatch.setattr(worker, "cannot_compile", lambda: "not here")
    return Store(tmp_path / "results")


def planned(store, experiment_file, workers=1, device="cpu", **changes):
    experiment = load(experiment_file, **changes)
    plan = make_plan(experiment, store, workers, 8e9, device)
    write(plan, store)
    return plan


def test_a_plan_for_gpus_has_a_cohort_for_each(store, experiment_file):
    plan = make_plan(load(experiment_file, variants=["sac"], seeds=16), store, 8, 8e9, "cuda")
    assert [len(cohort.runs) for cohort in plan.cohorts] == [2] * 8


def test_a_plan_for_all_workers_uses_the_memory_of_its_own_workers(store, experiment_file, monkeypatch):
    group = ExperimentGroup((load(experiment_file, variants=["sac"], seeds=16, steps=100_000),))
    own = Workers("cpu", 2)
    alone, for_all = (len(make_plan_of(group, store, one).cohorts) for one in (own, replace(own, of_all=8)))
    assert alone < for_all == len(make_plan_of(group, store, Workers("cpu", 8)).cohorts)
    monkeypatch.setattr("sac_bench.execution.worker_options.available_memory", lambda *_: 100_000_000)
    with pytest.raises(InputError, match=r"each of 2 workers may use 0\.0 GB"):
        make_plan_of(group, store, replace(own, of_all=8))


class Started:
    """Replaces a worker's process: it records its environment and ends at once."""

    def __init__(self, environments, code):
        self.environments, self.code = environments, code

    def __call__(self, command, *, env, **more):
        self.environments.append(env.get("CUDA_VISIBLE_DEVICES"))
        self.inherited = [os.readlink(f"/proc/self/fd/{number}") for number in more["pass_fds"]]
        self.command = command
        return SimpleNamespace(
            stdout=iter(()),
            wait=lambda *_: self.code,
            returncode=self.code,
            pid=2**22 + 1,
            send_signal=lambda _: None,
            terminate=lambda: None,
        )


def engine_of(plan, store, show=lambda *_: None, finish=lambda _: None, **more):
    messages = []
    display = SimpleNamespace(show=show, say=messages.append, finish=finish, close=lambda: None)
    return Engine(plan, store, device="cpu", display=display, **more), messages


def test_each_worker_sees_one_gpu_and_all_are_used(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file, workers=4, seeds=8)
    environments = []
    monkeypatch.setattr(subprocess, "Popen", Started(environments, 0))
    engine, _ = engine_of(plan, store, workers=4, gpus=("5", "GPU-x"))
    engine._start_workers()
    count = min(4, len(plan.cohorts))
    assert count > 2
    assert sorted(environments) == sorted((["5", "GPU-x"] * 2)[:count])
    engine.run()


def test_a_worker_inherits_the_cohorts_lock_and_knows_its_lease(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file, variants=["sac"])
    started = Started([], 0)
    monkeypatch.setattr(subprocess, "Popen", started)
    engine, _ = engine_of(plan, store, workers=1)
    engine._start_workers()
    (cohort,) = store.cohort_ids()
    lock = store.cohort_lock(cohort)
    assert started.inherited == [str(lock), f"{lock}.range"]
    assert store.lease_of(cohort, started.command[started.command.index("--lease") + 1]).renew()
    assert store.is_trained(cohort)  # also by only its lease
    engine.run()
    assert not store.is_trained(cohort)


def test_what_is_shown_last_after_ctrl_c_has_no_time_left(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file, workers=4, seeds=8)
    monkeypatch.setattr(subprocess, "Popen", Started([], 0))
    last = []
    engine, _ = engine_of(plan, store, interrupt, lambda progress: last.append(progress()), workers=1)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    (shown,) = last
    assert shown.phases == {"left for later": sum(len(cohort.runs) for cohort in plan.cohorts)}
    assert " left" not in block(shown, 80, Signs())[0]


def interrupt(*_):
    raise KeyboardInterrupt


def test_a_cohort_without_time_for_its_next_segment_is_postponed(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file)
    environments, clock = [], Clock()
    monkeypatch.setattr(subprocess, "Popen", Started(environments, 0))
    engine, _ = engine_of(plan, store, workers=1, limit=TimeLimit(START_SECONDS, clock))
    with pytest.raises(OutOfTime):
        engine.run()
    assert environments == []
    engine, _ = engine_of(plan, store, workers=1, limit=TimeLimit(1000 * START_SECONDS, clock))
    engine.run()
    assert len(environments) == len(plan.cohorts)


def test_a_worker_without_time_left_is_neither_failed_nor_restarted(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file, variants=["sac"])
    environments = []
    monkeypatch.setattr(subprocess, "Popen", Started(environments, engines.OUT_OF_TIME))
    engine, messages = engine_of(plan, store, workers=1, limit=TimeLimit(1e6, Clock()))
    with pytest.raises(OutOfTime):
        engine.run()
    assert len(environments) == len(plan.cohorts) == 1
    assert {store.run(run_id).status()["status"] for run_id in store.run_ids()} == {"planned"}
    assert "no time for another segment" in messages[0]


def test_a_cohort_that_was_taken_over_waits_for_its_new_owner(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file, variants=["sac"])
    codes = iter([engines.TAKEN_OVER, 0])
    monkeypatch.setattr(subprocess, "Popen", lambda *a, **k: Started([], next(codes))(*a, **k))
    engine, messages = engine_of(plan, store, workers=1)
    engine.run()
    assert not any("failed" in line or "restarted" in line for line in messages)
    assert next(codes, None) is None


def test_a_command_that_does_not_wait_skips_runs_that_others_train(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file)
    first, *others = plan.cohorts
    assert others
    environments, clock = [], Clock()
    monkeypatch.setattr(subprocess, "Popen", Started(environments, 0))
    monkeypatch.setattr(engines, "EVENT_SECONDS", 0.0)
    limit, show = TimeLimit(clock=clock), lambda *_: clock.pause(10)
    engine, messages = engine_of(plan, store, show, workers=1, waits=False, limit=limit)
    with store.take_cohort(first.id), pytest.raises(LeftToOthers):
        engine.run()
    assert len(environments) == len(others)
    assert not any("waiting" in line for line in messages)


def test_a_command_that_does_not_wait_reports_runs_it_postponed(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file)
    first, *others = plan.cohorts
    clock = Clock()
    monkeypatch.setattr(subprocess, "Popen", Started([], engines.OUT_OF_TIME))
    monkeypatch.setattr(engines, "EVENT_SECONDS", 0.0)
    limit, show = TimeLimit(1e6, clock), lambda *_: clock.pause(10)
    engine, messages = engine_of(plan, store, show, workers=1, waits=False, limit=limit)
    with store.take_cohort(first.id), pytest.raises(OutOfTime):
        engine.run()
    assert sum("no time for another segment" in line for line in messages) == len(others) > 0


def test_a_command_that_does_not_wait_trains_runs_held_by_a_lost_machine(store, experiment_file, monkeypatch):
    """The lease of a lost machine looks alive at first, also to `status`, which may hold a lock for a moment."""
    plan = planned(store, experiment_file)
    for cohort in plan.cohorts:
        Store(store.root, machine("lost")).take_cohort(cohort.id)
    environments, clock = [], Clock()
    monkeypatch.setattr(subprocess, "Popen", Started(environments, 0))
    monkeypatch.setattr(engines, "EVENT_SECONDS", 0.0)
    limit, show = TimeLimit(clock=clock), lambda *_: clock.pause(10)
    here = Store(store.root, machine("here", clock))
    engine, _ = engine_of(plan, here, show, workers=1, waits=False, limit=limit)
    engine.run()
    assert len(environments) == len(plan.cohorts)


def test_a_worker_that_cannot_be_started_releases_its_lock(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file, variants=["sac"])
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError("no memory")))
    engine, _ = engine_of(plan, store, workers=1)
    with pytest.raises(OSError, match="no memory"):
        engine.run()
    assert not store.is_trained(plan.cohorts[0].id)


@pytest.mark.parametrize("basis", Basis)
def test_a_segment_longer_than_the_whole_limit_is_tried_or_refused(basis, store, experiment_file, monkeypatch):
    """Otherwise a job would be requeued forever."""
    plan = planned(store, experiment_file, variants=["sac"])
    environments = []
    monkeypatch.setattr(subprocess, "Popen", Started(environments, engines.OUT_OF_TIME))
    engine, _ = engine_of(plan, store, workers=1, limit=TimeLimit(90.0, Clock(), 100.0))
    engine._calibration = SimpleNamespace(estimate=lambda _: Estimate(95.0, basis))
    is_known = basis is Basis.MEASURED
    with pytest.raises(InputError if is_known else OutOfTime, match="raise --until above" if is_known else None):
        engine.run()
    assert len(environments) == (not is_known)


def test_nothing_starts_after_the_limit(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file)
    environments, clock = [], Clock()
    monkeypatch.setattr(subprocess, "Popen", Started(environments, engines.OUT_OF_TIME))
    monkeypatch.setattr(engines, "EVENT_SECONDS", 0.01)
    engine, _ = engine_of(plan, store, lambda *_: clock.pause(2.0), workers=1, limit=TimeLimit(1.0, clock, 1.0))
    engine._calibration = SimpleNamespace(estimate=lambda _: Estimate(95.0, Basis.MODEL))
    with pytest.raises(OutOfTime):
        engine.run()
    assert len(environments) == 1 < len(plan.cohorts)


def test_a_segment_that_fits_into_the_next_job_waits_for_it(store, experiment_file, monkeypatch):
    plan = planned(store, experiment_file, variants=["sac"])
    environments = []
    monkeypatch.setattr(subprocess, "Popen", Started(environments, 0))
    for basis in Basis:
        engine, _ = engine_of(plan, store, workers=1, limit=TimeLimit(50.0, Clock(), 100.0))
        engine._calibration = SimpleNamespace(estimate=lambda _, basis=basis: Estimate(80.0, basis))
        with pytest.raises(OutOfTime):
            engine.run()
    assert environments == []


@pytest.mark.thorough
def test_a_segment_that_would_not_end_in_time_is_not_started(store, experiment_file):
    planned(store, experiment_file, variants=["sac"], steps=500, settings=["eval_every=100", "eval_episodes=1"])
    (cohort,) = store.cohort_ids()
    clock = Clock()

    def train(seconds):
        trained = worker.Worker(store, cohort, 500, "cpu", 1, limit=TimeLimit(clock.now + seconds, clock))
        usual = trained.trainer.train

        def timed(*arguments):
            clock.now += 10.0  # each segment, also the evaluation before the first step
            return usual(*arguments)

        trained.trainer.train = timed
        return trained.train(), trained.trainer.steps

    assert train(35.0) == (False, 200)
    assert clock.now == 30.0
    assert train(math.inf) == (True, 500)
