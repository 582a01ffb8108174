"""What is trained, reused and continued, and how runs become cohorts."""

import pytest

from sac_bench.errors import InputError
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.plan import duration, make_plan, write
from sac_bench.experiment import load
from sac_bench.store import Store

GIGABYTE = 1e9


def plan_of(path, store, workers=2, **kwargs):
    retrain = kwargs.pop("retrain", False)
    return make_plan(load(path, **kwargs), store, workers, 8 * GIGABYTE, retrain=retrain)


def test_new_runs_are_grouped_by_structure(experiment_file, tmp_path):
    plan = plan_of(experiment_file, Store(tmp_path))
    assert sum(len(c.runs) for c in plan.cohorts) == 6
    for cohort in plan.cohorts:
        assert len({spec.structure() for spec in cohort.runs}) == 1
    assert not plan.reused


def test_a_lone_group_is_shared_between_workers(experiment_file, tmp_path):
    plan = plan_of(experiment_file, Store(tmp_path), variants=["sac"], seeds=6)
    assert sorted(len(c.runs) for c in plan.cohorts) == [3, 3]


def test_big_networks_train_a_few_at_a_time_on_a_cpu_and_small_ones_together(experiment_file, tmp_path):
    small = plan_of(experiment_file, Store(tmp_path), workers=1, variants=["sac"], seeds=8)
    big = plan_of(experiment_file, Store(tmp_path), workers=1, variants=["sac"], seeds=8,
                  settings=["layers=[256, 256]", "batch_size=256"])  # fmt: skip
    assert [len(c.runs) for c in small.cohorts] == [8]
    assert {len(c.runs) for c in big.cohorts} == {4}
    assert big.cohorts[0].seconds > 0
    assert big.seconds(2) < big.seconds(1)


def test_memory_bounds_a_cohort(experiment_file, tmp_path):
    experiment = load(experiment_file, variants=["sac"], seeds=8, envs=["Humanoid-v5"], steps=1_000_000)
    tight = make_plan(experiment, Store(tmp_path), 1, 4 * GIGABYTE)
    assert max(len(c.runs) for c in tight.cohorts) <= 3
    assert all(c.memory_bytes < 4 * GIGABYTE for c in tight.cohorts)


def test_a_run_that_cannot_fit_is_refused_with_the_numbers(experiment_file, tmp_path):
    experiment = load(experiment_file, variants=["sac"], seeds=2, envs=["Humanoid-v5"], steps=1_000_000)
    refusal = (
        r"would take 2\.1 GB, 1\.5 GB of it for 1,000,000 transitions each, and each of 2 workers may take 1\.2 GB; "
    )
    with pytest.raises(InputError, match=refusal + "use --workers 1 or lower replay_capacity"):
        make_plan(experiment, Store(tmp_path), 2, 1.2 * GIGABYTE)
    with pytest.raises(InputError, match=r"each of 1 workers may take 1\.2 GB; lower replay_capacity"):
        make_plan(experiment, Store(tmp_path), 1, 1.2 * GIGABYTE)
    smaller = load(experiment_file, variants=["sac"], seeds=2, envs=["Humanoid-v5"], steps=1_000_000,
                   settings=["replay_capacity=100000"])  # fmt: skip
    assert make_plan(smaller, Store(tmp_path), 2, 1.2 * GIGABYTE).cohorts


def test_a_gpu_takes_as_many_runs_into_one_program_as_its_memory_holds(experiment_file, tmp_path):
    experiment = load(experiment_file, variants=["sac"], seeds=100, steps=1_000_000)
    (roomy,) = make_plan(experiment, Store(tmp_path), 1, 40 * GIGABYTE, "cuda").cohorts
    assert len(roomy.runs) == 100
    tight = make_plan(experiment, Store(tmp_path), 1, 2 * GIGABYTE, "cuda").cohorts
    assert len(tight) > 1
    assert all(cohort.memory_bytes <= 2 * GIGABYTE for cohort in tight)


def finish(store, plan, steps, saved=False):
    write(plan, store)
    for cohort in plan.cohorts:
        if saved:
            (store.cohort(cohort.id) / "checkpoint.safetensors").write_bytes(b"")
        for spec in cohort.runs:
            store.run(spec.id).update(status="finished", steps=steps)


def test_finished_runs_are_reused_by_any_experiment_and_by_shorter_ones(experiment_file, tmp_path):
    store = Store(tmp_path)
    finish(store, plan_of(experiment_file, store), 400)
    assert not plan_of(experiment_file, store).cohorts
    shorter = plan_of(experiment_file, store, steps=300, name="other")
    assert not shorter.cohorts
    assert len(shorter.reused) == 6
    more = plan_of(experiment_file, store, seeds=3)
    assert {spec.seed for c in more.cohorts for spec in c.runs} == {2}


def test_interrupted_cohorts_continue_as_they_were_planned(experiment_file, tmp_path):
    store = Store(tmp_path)
    first = plan_of(experiment_file, store)
    finish(store, first, 200, saved=True)
    again = plan_of(experiment_file, store, workers=7, variants=["sac", "v-network"])
    assert {c.id for c in again.cohorts} == {c.id for c in first.cohorts}
    assert all(not c.is_new and c.done == 200 for c in again.cohorts)
    wanted = {c.id: [spec.id for spec in c.runs] for c in first.cohorts}
    assert {c.id: [spec.id for spec in c.runs] for c in again.cohorts} == wanted


def test_more_steps_without_a_replay_are_refused_with_the_cost(experiment_file, tmp_path):
    store = Store(tmp_path)
    finish(store, plan_of(experiment_file, store), 400)
    with pytest.raises(InputError, match=r"--retrain .*--keep-replay"):
        plan_of(experiment_file, store, steps=600)
    again = plan_of(experiment_file, store, steps=600, retrain=True)
    assert sum(len(c.runs) for c in again.cohorts) == 6
    assert all(c.is_new for c in again.cohorts)


def test_enough_steps_are_enough_whatever_came_after(experiment_file, tmp_path):
    store = Store(tmp_path)
    plan = plan_of(experiment_file, store)
    finish(store, plan, 400, saved=True)
    for status in ("queued", "failed", "interrupted", "running"):
        for cohort in plan.cohorts:
            for spec in cohort.runs:
                store.run(spec.id).update(status=status)
        assert not plan_of(experiment_file, store).cohorts
        assert plan_of(experiment_file, store, steps=600).cohorts


def test_fewer_steps_end_an_interrupted_cohort_sooner_and_keep_it_going_on(experiment_file, tmp_path):
    store = Store(tmp_path)
    finish(store, plan_of(experiment_file, store, steps=1000), 200, saved=True)
    shorter = plan_of(experiment_file, store, steps=400)
    assert {c.steps for c in shorter.cohorts} == {400}
    write(shorter, store)
    assert CohortDirectory(store.cohort(shorter.cohorts[0].id)).plan()["furthest"] == 1000


def test_retrain_starts_failed_cohorts_anew(experiment_file, tmp_path):
    store = Store(tmp_path)
    plan = plan_of(experiment_file, store)
    finish(store, plan, 200, saved=True)
    for cohort in plan.cohorts:
        for spec in cohort.runs:
            store.run(spec.id).update(status="failed")
    assert all(not c.is_new for c in plan_of(experiment_file, store).cohorts)
    assert all(c.is_new for c in plan_of(experiment_file, store, retrain=True).cohorts)


def test_diverged_runs_are_not_trained_again(experiment_file, tmp_path):
    store = Store(tmp_path)
    plan = plan_of(experiment_file, store)
    finish(store, plan, 400)
    run = store.run(plan.cohorts[0].runs[0].id)
    run.update(status="diverged", steps=200)
    again = plan_of(experiment_file, store)
    assert [spec.id for spec in again.diverged] == [run.id]
    assert not again.cohorts
    assert run.id in [spec.id for spec in plan_of(experiment_file, store, steps=150).reused]


def test_the_plan_is_on_disk_before_training(experiment_file, tmp_path):
    store = Store(tmp_path)
    plan = plan_of(experiment_file, store)
    write(plan, store)
    for cohort in plan.cohorts:
        on_disk = CohortDirectory(store.cohort(cohort.id)).plan()
        assert on_disk == {"runs": [spec.id for spec in cohort.runs], "steps": 400, "furthest": 400}
        for spec in cohort.runs:
            assert store.run(spec.id).spec() == spec
            assert store.run(spec.id).status()["cohort"] == cohort.id


def test_durations_read_well():
    assert [duration(s) for s in (45, 720, 12600)] == ["45 s", "12 min", "3.5 h"]
