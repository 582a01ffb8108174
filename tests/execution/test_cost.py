"""The estimated cost of training and evaluations."""

import csv
from pathlib import Path

import pytest

from sac_bench.execution.cost import (
    UPDATE_OVERHEAD_SECONDS,
    Cost,
    cost,
    env_step_seconds,
    evaluation_share,
    training_seconds,
    update_seconds,
)
from sac_bench.options.sac import SACConfig
from sac_bench.spec.run import RunSpec
from sac_bench.training.evaluate import POLICIES
from tests.conftest import tiny

GROWTH = Path(__file__).parents[2] / "results" / "record" / "benchmark" / "growth.csv"


@pytest.mark.parametrize("every", [0, 1, 3])
@pytest.mark.parametrize("algorithm", ["sac", "sql"])
@pytest.mark.parametrize(("done", "steps"), [(0, 1000), (0, 250), (500, 1000), (550, 950), (1000, 1000)])
def test_evaluation_steps_count_the_episodes_that_are_due(algorithm, every, done, steps):
    """Pendulum's episodes have 200 steps."""
    spec = RunSpec(algorithm, tiny(algorithm, eval_every=100, eval_sampled_every=every), "Pendulum-v1", 0)
    stops = range(done + (done > 0), steps + 1)
    due = sum(int(spec.evaluated_by(policy, step, steps)) for policy in POLICIES for step in stops)
    found = cost(spec, 3, done, steps, "cpu")
    assert found.evaluation_steps == 3 * 200 * spec.config.eval_episodes * due
    assert found.steps == found.evaluation_steps + 3 * (steps - done)
    assert 0 <= found.evaluation_seconds <= found.seconds == training_seconds(spec, 3, done, steps, "cpu")


def test_evaluation_shares_cover_all_cohorts():
    assert evaluation_share([Cost(100, 8.0, 40, 1.0), Cost(300, 2.0, 60, 1.0)]) == (0.25, 0.2)
    assert evaluation_share([]) == (0, 0)


def grown():
    """Yield (spec, runs, measured seconds of a step with its update) of the benchmark that the model was fitted to."""
    with GROWTH.open(encoding="utf-8") as lines:
        for row in csv.DictReader(lines):
            axis, point, runs, options = row["axis"], row["point"], 1, {}
            if axis == "runs in one program":
                size, _, count = point.rpartition(": ")
                runs, options = int(count), {"layers": (64, 64), "batch_size": 64} if "2x64" in size else {}
            elif axis == "units of both layers":
                options = {"layers": (int(point),) * 2}
            elif axis == "batch size":
                options = {"batch_size": int(point)}
            else:
                continue
            config = SACConfig(**options)
            yield pytest.param(config, runs, runs / float(row["steps"]), id=f"{axis} {point}")


@pytest.mark.parametrize(("config", "runs", "measured"), [*grown()])
def test_model_agrees_with_the_recorded_benchmark(config, runs, measured):
    spec = RunSpec("sac", config, "HalfCheetah-v5", 0)
    modelled = UPDATE_OVERHEAD_SECONDS + runs * (update_seconds(spec) + env_step_seconds(spec.env))
    assert modelled == pytest.approx(measured, rel=0.25)
