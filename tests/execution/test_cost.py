"""The estimated cost of evaluations."""

import pytest

from sac_bench.execution.cost import Cost, cost, evaluation_share, training_seconds
from sac_bench.spec.run import RunSpec
from sac_bench.training.evaluate import POLICIES
from tests.conftest import tiny


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
