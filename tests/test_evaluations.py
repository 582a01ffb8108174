"""After which transitions a run is evaluated."""

import numpy as np
import pytest

from sac_bench.evaluations import evaluation_steps, is_evaluated
from sac_bench.options.sac import SACConfig


@pytest.mark.parametrize(("last", "every"), [(400, 200), (450, 200), (100, 200), (200, 200), (7, 1)])
def test_the_steps_of_evaluations_are_those_that_pass_the_test(last, every):
    steps = np.arange(last + 1)
    assert steps[is_evaluated(steps, last, every)].tolist() == evaluation_steps(last, every)
    assert steps[SACConfig(eval_every=every).is_evaluated(steps, last)].tolist() == evaluation_steps(last, every)
