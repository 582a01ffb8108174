"""How measured rates correct estimates, and when a time is shown."""

import math
from dataclasses import replace

import pytest

from sac_bench.execution import calibration
from sac_bench.execution.calibration import Basis, Calibration, Machine, Measurement, Stopwatch, measured, measurements
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.cost import START_SECONDS
from sac_bench.execution.plan import CohortPlan, make_plan, write
from sac_bench.execution.progress import time_left
from sac_bench.execution.work import Work
from sac_bench.spec.load import load
from sac_bench.store.store import Store

HERE = Machine("this CPU", True)


@pytest.fixture
def specs(experiment_file):
    """One run of each structure, {variant: run}, and one on another environment."""
    found = {variant.name: spec for variant, spec in load(experiment_file, steps=10_000).runs()}
    return found | {"elsewhere": replace(found["sac"], env="HalfCheetah-v5")}


def took(spec, ratio, runs=4):
    """A measurement of this ratio to the model."""
    one = Measurement(spec, runs, 1000, 5000, 1.0, HERE)
    return replace(one, seconds=ratio * one.modelled)


def cohort(spec, runs=4):
    return CohortPlan("0" * 16, tuple(replace(spec, seed=seed) for seed in range(runs)), 10_000)


def test_a_time_is_based_on_the_structure_then_the_environment_then_the_model(specs):
    known = Calibration([took(specs["sac"], 3.0), took(specs["elsewhere"], 50.0)])
    of = {name: known.estimate(cohort(spec)) for name, spec in specs.items()}
    model = {name: cohort(spec).training_seconds for name, spec in specs.items()}
    assert of["sac"].seconds == pytest.approx(START_SECONDS + 3.0 * model["sac"])
    assert of["v-network"].seconds == pytest.approx(START_SECONDS + 3.0 * model["v-network"])
    assert (of["sac"].basis, of["v-network"].basis) == (Basis.MEASURED, Basis.SIMILAR)
    unknown = Calibration([took(specs["elsewhere"], 50.0)]).estimate(cohort(specs["sac"]))
    assert (unknown.seconds, unknown.basis) == (cohort(specs["sac"]).seconds, Basis.MODEL)


def test_the_nearest_of_several_widths_counts(specs):
    known = Calibration([took(specs["sac"], 6.0, runs=2), took(specs["sac"], 2.0, runs=20)])
    narrow, wide = (known.estimate(cohort(specs["sac"], runs)) for runs in (3, 15))
    assert narrow.seconds == pytest.approx(START_SECONDS + 6.0 * cohort(specs["sac"], 3).training_seconds)
    assert wide.seconds == pytest.approx(START_SECONDS + 2.0 * cohort(specs["sac"], 15).training_seconds)


def test_a_stopwatch_omits_the_first_updates_and_drops_old_segments(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(calibration.time, "perf_counter", lambda: now[0])
    watch = Stopwatch(updates=100)  # resumed after 100 updates
    for second, steps, updates in [(50.0, 1000, 100), (60.0, 1005, 105), (61.0, 1020, 120), (62.0, 1030, 130)]:
        now[0] = second
        watch.pass_by(steps, updates)
        assert watch.runs == (updates >= 110)
    now[0] = 100.0
    assert watch.end_segment(1410, 510) == {"done": 1020, "steps": 1410, "seconds": 39.0}
    for segment in range(1, 30):
        now[0] = 100.0 + 2.0 * segment
        speed = watch.end_segment(1410 + 400 * segment, 0)
    assert speed == {"done": 1410 + 400 * 19, "steps": 1410 + 400 * 29, "seconds": 20.0}


def test_a_segment_without_a_report_starts_the_stopwatch_at_its_end():
    watch = Stopwatch(0)
    assert watch.end_segment(0, 0) is None
    assert not watch.runs
    assert watch.end_segment(100, 50) is None
    assert watch.end_segment(200, 150)["done"] == 100


def report(spec, **changes):
    speed = {"run": spec.id, "env": spec.env, "runs": 4, "done": 0, "steps": 500, "seconds": 9.0}
    return speed | {"device": HERE.device, "device_kind": "cpu", "compiled": True} | changes


def test_a_store_returns_times_of_this_machine_and_skips_unreadable_ones(experiment_file, tmp_path):
    store = Store(tmp_path / "results")
    write(make_plan(load(experiment_file), store, 1, 8e9), store)
    run = store.run(store.run_ids()[0]).spec()
    changes = [{}, {"device": "another"}, {"compiled": False}, {"steps": 0}, {"seconds": None}, {"run": "0" * 16}]
    for number, change in enumerate(changes):
        CohortDirectory(store.cohort(f"{number:016x}")).write_speed(report(run, **change))
    (store.cohort(f"{7:016x}")).mkdir()
    (store.cohort(f"{7:016x}") / "speed.json").write_text("{")
    found = measurements(store, {run.env}, HERE)
    assert {cohort: one.seconds for cohort, one in found.items()} == {"0" * 16: 9.0}
    assert measurements(store, {"HalfCheetah-v5"}, HERE) == {}


@pytest.mark.parametrize("change", [{"steps": 0}, {"done": -1}, {"runs": 0}, {"seconds": 0.0}, {"seconds": math.nan}])
def test_a_measurement_requires_steps_and_seconds(specs, change):
    with pytest.raises(ValueError, match="must be positive"):
        measured(report(specs["sac"], **change), specs["sac"])


def working(spec, *events, runs=4):
    work = Work(cohort(spec, runs), process=None, log_start=0, lock=None)
    for event in events:
        work.update({"phase": "training", **event})
    return work


def test_no_time_left_is_shown_before_a_rate_is_known(specs):
    spec, nothing = specs["sac"], Calibration()
    starting = working(spec)
    compiling = working(spec, {"steps": 0, "phase": "compiling"})
    unsure = working(spec, {"steps": 400})
    known = working(spec, {"steps": 1000, "saved": 1000, "speed": report(spec, steps=1000, done=500, seconds=2.0)})
    assert [one.state().phase for one in (starting, compiling, unsure)] == ["starting", "compiling", "training"]
    assert [one.state().rate for one in (starting, compiling, unsure)] == [None, None, None]
    assert known.state().rate == 1000.0  # 500 steps of four runs in two seconds
    for work in (starting, compiling, unsure):
        assert work.seconds_left() is None
        assert time_left([work], [], 1, nothing) is None
        assert time_left([work, known], [cohort(spec)], 2, nothing) is None
    assert time_left([compiling], [], 1, Calibration([took(spec, 3.0)])).basis is Basis.MEASURED


def test_running_cohorts_use_their_own_rate_and_waiting_ones_the_calibrated_model(specs):
    spec = specs["sac"]
    known = working(spec, {"steps": 5000, "saved": 5000, "speed": report(spec, done=1000, steps=5000, seconds=400.0)})
    assert known.seconds_left() == pytest.approx(500.0, rel=0.2)  # a few updates are not due at the start
    left = time_left([known], [cohort(spec)], 1, Calibration([known.measured]))
    waiting = Calibration([known.measured]).estimate(cohort(spec)).seconds
    assert left.seconds == pytest.approx(known.seconds_left() + waiting)
    assert left.basis is Basis.MEASURED
    assert time_left([known], [cohort(specs["elsewhere"])], 1, Calibration([known.measured])).basis is Basis.MODEL
    assert time_left([known], [cohort(spec)], 2, Calibration([known.measured])).seconds == pytest.approx(waiting)


def test_the_time_left_of_a_running_cohort_excludes_its_start(specs):
    compiled = working(specs["sac"], {"steps": 9_900})
    left = time_left([compiled], [], 1, Calibration([took(specs["sac"], 1.0)])).seconds
    assert left < START_SECONDS
