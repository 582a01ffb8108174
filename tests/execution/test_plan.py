"""Which runs are trained, reused and continued, and how they are grouped into cohorts."""

import re

import pytest

from sac_bench.algorithms import ALGORITHMS
from sac_bench.errors import InputError
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.cost import duration
from sac_bench.execution.plan import make_plan, superseded, write
from sac_bench.spec.load import load
from sac_bench.store.atomic import read_json, write_json
from sac_bench.store.status import device_kinds
from sac_bench.store.store import Store

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
    big = plan_of(
        experiment_file,
        Store(tmp_path),
        workers=1,
        variants=["sac"],
        seeds=8,
        settings=["layers=[256, 256]", "batch_size=256"],
    )
    assert [len(c.runs) for c in small.cohorts] == [8]
    assert {len(c.runs) for c in big.cohorts} == {4}
    assert big.cohorts[0].seconds > 0
    assert big.seconds(2) < big.seconds(1)


def test_a_cohort_is_no_wider_than_can_be_resumed_within_a_minute(experiment_file, tmp_path):
    widths = {}
    for env in ("HalfCheetah-v5", "Humanoid-v5"):
        for steps in (20_000, 1_000_000):
            plan = plan_of(
                experiment_file,
                Store(tmp_path),
                workers=1,
                variants=["sac"],
                seeds=40,
                envs=[env],
                steps=steps,
                settings=["replay_capacity=1000"],
            )
            widths[env, steps] = max(len(c.runs) for c in plan.cohorts)
    assert widths["HalfCheetah-v5", 20_000] == 20  # 40 runs in two cohorts of at most 32
    assert widths["HalfCheetah-v5", 1_000_000] <= 60 / (50_000 * 8e-5)
    assert widths["Humanoid-v5", 1_000_000] == 2


def test_memory_limits_the_width_of_a_cohort(experiment_file, tmp_path):
    experiment = load(experiment_file, variants=["sac"], seeds=8, envs=["Humanoid-v5"], steps=1_000_000)
    tight = make_plan(experiment, Store(tmp_path), 1, 4 * GIGABYTE)
    assert max(len(c.runs) for c in tight.cohorts) <= 3
    assert all(c.memory_bytes < 4 * GIGABYTE for c in tight.cohorts)


def test_a_run_that_does_not_fit_into_memory_is_refused_with_the_numbers(experiment_file, tmp_path):
    experiment = load(experiment_file, variants=["sac"], seeds=2, envs=["Humanoid-v5"], steps=1_000_000)
    refusal = r"needs 3\.5 GB, 2\.9 GB of it for 1,000,000 transitions each, and each of 2 workers may use 2\.2 GB; "
    with pytest.raises(InputError, match=refusal + "use --workers 1 or lower replay_capacity"):
        make_plan(experiment, Store(tmp_path), 2, 2.2 * GIGABYTE)
    with pytest.raises(InputError, match=r"each of 1 workers may use 2\.2 GB; lower replay_capacity"):
        make_plan(experiment, Store(tmp_path), 1, 2.2 * GIGABYTE)
    smaller = load(
        experiment_file,
        variants=["sac"],
        seeds=2,
        envs=["Humanoid-v5"],
        steps=1_000_000,
        settings=["replay_capacity=100000"],
    )
    assert make_plan(smaller, Store(tmp_path), 2, 1.2 * GIGABYTE).cohorts


def test_a_gpu_trains_as_many_runs_in_one_program_as_its_memory_holds(experiment_file, tmp_path):
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
            (store.cohort(cohort.id) / "checkpoint-000000000200.json").write_text("{}")
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


def test_a_run_with_enough_steps_is_reused_even_if_it_failed_later(experiment_file, tmp_path):
    store = Store(tmp_path)
    plan = plan_of(experiment_file, store)
    finish(store, plan, 400, saved=True)
    for status in ("failed", "started"):
        for cohort in plan.cohorts:
            for spec in cohort.runs:
                store.run(spec.id).update(status=status)
        assert not plan_of(experiment_file, store).cohorts
        assert plan_of(experiment_file, store, steps=600).cohorts


def test_fewer_steps_end_an_interrupted_cohort_sooner_and_let_it_continue_later(experiment_file, tmp_path):
    store = Store(tmp_path)
    finish(store, plan_of(experiment_file, store, steps=1000), 200, saved=True)
    shorter = plan_of(experiment_file, store, steps=400)
    assert {c.steps for c in shorter.cohorts} == {400}
    write(shorter, store)
    assert CohortDirectory(store.cohort(shorter.cohorts[0].id)).plan()["furthest"] == 1000


def test_retrain_restarts_runs_without_an_intact_checkpoint(experiment_file, tmp_path):
    store = Store(tmp_path)
    plan = plan_of(experiment_file, store)
    finish(store, plan, 200, saved=True)
    for cohort in plan.cohorts:
        for spec in cohort.runs:
            store.run(spec.id).update(status="failed")
    assert all(not c.is_new for c in plan_of(experiment_file, store).cohorts)
    assert all(c.is_new for c in plan_of(experiment_file, store, retrain=True).cohorts)


def test_a_damaged_run_is_reported_with_its_file_and_retrained_only_on_request(experiment_file, tmp_path):
    store = Store(tmp_path)
    finish(store, plan_of(experiment_file, store), 400)
    run = store.run(store.run_ids()[0])
    run.append("evaluations", [{"step": 400, "return_mean": 1.0}])
    run.end("finished")
    (run.path / "evaluations.csv").write_text("step,return_mean\n400,9.0\n")
    with pytest.raises(InputError, match=rf"run {run.id} .*evaluations\.csv: damaged.*--retrain .*\(about .*a copy"):
        plan_of(experiment_file, store)
    again = plan_of(experiment_file, store, retrain=True)
    assert [spec.id for cohort in again.cohorts for spec in cohort.runs] == [run.id]


def test_checkpoints_of_an_older_layout_are_not_read_and_dropped_only_on_request(experiment_file, tmp_path):
    store = Store(tmp_path)
    plan = plan_of(experiment_file, store)
    write(plan, store)
    for cohort in plan.cohorts:
        (store.cohort(cohort.id) / "checkpoint.safetensors").write_bytes(b"older")
        for spec in cohort.runs:
            store.run(spec.id).update(status="interrupted", steps=200)
    with pytest.raises(InputError, match=r"has 200 steps, and there is no checkpoint in"):
        plan_of(experiment_file, store)
    assert all(cohort.is_new for cohort in plan_of(experiment_file, store, retrain=True).cohorts)


def test_runs_of_another_version_are_counted(experiment_file, tmp_path):
    store, experiment = Store(tmp_path), load(experiment_file)
    finish(store, plan_of(experiment_file, store), 400)
    assert not superseded(experiment, store)
    for run_id in store.run_ids()[:2]:
        spec = read_json(store.run(run_id).path / "spec.json")
        write_json(store.run(run_id).path / "spec.json", spec | {"semantics": 1})
        store.run(run_id).path.rename(store.run(f"{int(run_id, 16) ^ 1:016x}").path)
    (((env, words), count),) = superseded(experiment, store).items()
    assert (env, count) == ("InvertedPendulum-v5", 2)
    assert words == f"version 1 of sac (now {ALGORITHMS['sac'].version})"
    assert len(plan_of(experiment_file, store).reused) == 4


def test_the_name_of_a_cohort_in_a_file_cannot_lead_out_of_the_folder(experiment_file, tmp_path):
    store = Store(tmp_path / "results")
    finish(store, plan_of(experiment_file, store), 200)
    (tmp_path / "elsewhere").mkdir()
    for run_id in store.run_ids():
        store.run(run_id).update(cohort="../../elsewhere")
    with pytest.raises(InputError, match="not an id"):
        plan_of(experiment_file, store)


def test_plans_of_a_live_process_are_joined_and_those_of_a_dead_one_are_not(experiment_file, tmp_path):
    store = Store(tmp_path)
    with store.planner() as alive:
        first = plan_of(experiment_file, store, workers=1)
        write(first, store, alive)
        joined = plan_of(experiment_file, store, workers=6, variants=["sac"], steps=600)
        assert {c.id for c in joined.cohorts} <= {c.id for c in first.cohorts}
        assert not any(c.is_new for c in joined.cohorts)
        with store.planner() as second:
            write(joined, store, second)
            plan = CohortDirectory(store.cohort(joined.cohorts[0].id)).plan()
            assert set(plan["planners"]) == {alive, second}
            assert plan["furthest"] == 600
    again = plan_of(experiment_file, store, workers=6, variants=["sac"])
    assert all(c.is_new for c in again.cohorts)
    assert [len(c.runs) for c in again.cohorts] == [2]  # a run alone would train with a copy


def test_an_ended_run_without_replay_is_not_joined_while_its_command_is_alive(experiment_file, tmp_path):
    store = Store(tmp_path)
    with store.planner() as alive:
        plan = plan_of(experiment_file, store)
        write(plan, store, alive)
        for spec in plan.cohorts[0].runs:
            store.run(spec.id).end("finished", steps=400)
        with pytest.raises(InputError, match="its replay was dropped"):
            plan_of(experiment_file, store, steps=600)


def test_a_damaged_run_of_a_cohort_in_training_is_not_trained_separately(experiment_file, tmp_path):
    store = Store(tmp_path)
    with store.planner() as alive:
        finish(store, plan_of(experiment_file, store), 200, saved=True)
        for cohort in store.cohort_ids():
            directory = CohortDirectory(store.cohort(cohort))
            directory.write_plan(directory.plan()["runs"], 400, False, [alive])
        (store.run(store.run_ids()[0]).path / "status.json").write_text("{")
        with pytest.raises(InputError, match="another process is training its cohort"):
            plan_of(experiment_file, store, retrain=True)
    assert plan_of(experiment_file, store, retrain=True).cohorts


def test_a_run_killed_before_it_was_marked_as_ended_is_ended(experiment_file, tmp_path):
    store = Store(tmp_path)
    plan = plan_of(experiment_file, store)
    finish(store, plan, 400, saved=True)
    for cohort in plan.cohorts:
        for spec in cohort.runs:
            store.run(spec.id).update(status="started", target_steps=400)
    again = plan_of(experiment_file, store)
    assert {c.id for c in again.cohorts} == {c.id for c in plan.cohorts}
    assert not again.reused


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
        assert on_disk == {
            "runs": [spec.id for spec in cohort.runs],
            "furthest": 400,
            "planners": [""],
            "keep_replay": False,
        }
        for spec in cohort.runs:
            assert store.run(spec.id).spec() == spec
            assert store.run(spec.id).status()["cohort"] == cohort.id


def test_durations_are_written_in_suitable_units():
    seconds = (45, 720, 12600, 47.9 * 3600, 48 * 3600, 421.9 * 3600, 341 * 86_400)
    assert [duration(s) for s in seconds] == ["45 s", "12 min", "3.5 h", "47.9 h", "2.0 days", "17.6 days", "341 days"]


def trained_on(store, plan, kinds):
    """Finish a plan's runs, with the kinds of devices on which each was trained, in order."""
    finish(store, plan, 400)
    specs = [spec for cohort in plan.cohorts for spec in cohort.runs]
    for spec, of_run in zip(specs, kinds, strict=False):
        stages = [{"since": 0, "device": "its name", "device_kind": kind} for kind in of_run.split()]
        store.run(spec.id).update(conditions=stages)
    return [spec.id for spec in specs]


def test_tf32_has_its_own_cohorts_on_cuda_and_is_refused_on_a_cpu(experiment_file, tmp_path):
    experiment_file.write_text(experiment_file.read_text() + '\n[variants.tf32]\nprecision = "tf32"\n')
    experiment, store = load(experiment_file), Store(tmp_path)
    with pytest.raises(InputError, match="tf32 exists only on CUDA"):
        make_plan(experiment, store, 1, 40 * GIGABYTE)
    cohorts = make_plan(experiment, store, 1, 40 * GIGABYTE, "cuda").cohorts
    assert all(len({spec.config.precision for spec in cohort.runs}) == 1 for cohort in cohorts)


def test_runs_of_another_kind_of_device_are_refused_with_the_alternatives(experiment_file, tmp_path):
    store = Store(tmp_path)
    ids = trained_on(store, plan_of(experiment_file, store), ["cuda"] * 4 + ["cpu"] * 2)
    found = (
        rf"4 of 6 runs in {re.escape(str(tmp_path))} were trained on cuda, and this command would use cpu; .*"
        "use --device cuda, another --results, --retrain to train them again on cpu, or --mix-devices to accept them"
    )
    with pytest.raises(InputError, match=found):
        plan_of(experiment_file, store)
    again = plan_of(experiment_file, store, retrain=True)
    assert {spec.id for cohort in again.cohorts for spec in cohort.runs} == set(ids[:4])
    assert {spec.id for spec in again.reused} == set(ids[4:])
    assert all(cohort.is_new for cohort in again.cohorts)
    accepted = plan_of(experiment_file, store, mix_devices=True)
    assert len(accepted.reused) == 6


def test_a_run_that_changed_its_device_counts_as_both_kinds(experiment_file, tmp_path):
    store = Store(tmp_path)
    trained_on(store, plan_of(experiment_file, store), ["cpu cuda"])
    refusal = "1 of 6 runs .* were trained on cpu and cuda, .*: use another --results"
    for device in ("cpu", "cuda"):
        with pytest.raises(InputError, match=refusal):
            make_plan(load(experiment_file), store, 2, 8 * GIGABYTE, device)


def test_only_requested_runs_that_have_started_are_checked_for_their_device(experiment_file, tmp_path):
    store = Store(tmp_path)
    trained_on(store, plan_of(experiment_file, store, variants=["v-network"]), ["cuda"] * 2)
    assert plan_of(experiment_file, store, variants=["sac"]).cohorts
    write(plan_of(experiment_file, store, retrain=True), store)  # planned again, and not yet started
    assert plan_of(experiment_file, store).cohorts


def test_a_run_in_training_on_another_kind_of_device_is_not_trained_again(experiment_file, tmp_path):
    store = Store(tmp_path)
    with store.planner() as alive:
        plan = plan_of(experiment_file, store)
        trained_on(store, plan, ["cuda"] * 6)
        for cohort in plan.cohorts:
            directory = CohortDirectory(store.cohort(cohort.id))
            directory.write_plan(directory.plan()["runs"], 400, False, [alive])
        with pytest.raises(InputError, match="another process is training its cohort"):
            plan_of(experiment_file, store, retrain=True)


def test_the_kinds_of_devices_are_those_of_all_stages():
    assert device_kinds({"conditions": [{"device_kind": "cpu"}, {"device_kind": "cuda"}]}) == {"cpu", "cuda"}
    assert device_kinds({"status": "planned"}) == set()
