"""Evaluation: whole episodes, both policies from the same states, and no memory left behind."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from sac_bench.envs.pool import describe
from sac_bench.spec.run import RunSpec
from sac_bench.training.evaluate import evaluate, random_returns
from sac_bench.training.trainer import Trainer
from tests.conftest import tiny


def trainer(env, seeds=(0, 1), **overrides):
    return Trainer([RunSpec("sac", tiny(**overrides), env, seed) for seed in seeds], 400, compiled=False)


def evaluated(trained, steps=0, seeds=(0, 1), episodes=3):
    return evaluate(trained.cohort, trained.env, list(seeds), steps, episodes, threads=1, compiled=False)


def test_evaluation_is_a_function_of_policy_seed_and_steps():
    trained = trainer("Hopper-v5")
    first, again, later = evaluated(trained), evaluated(trained), evaluated(trained, steps=200)
    np.testing.assert_array_equal(first.returns, again.returns)
    assert not np.array_equal(first.returns, later.returns)
    assert first.returns.shape == first.lengths.shape == (2, 2, 3)


def test_evaluation_counts_whole_episodes_once():
    pendulum = evaluated(trainer("Pendulum-v1"))
    assert (pendulum.lengths == 200).all()
    # InvertedPendulum pays 1 a step until it falls (the step that falls pays nothing in v5).
    inverted = evaluated(trainer("InvertedPendulum-v5"))
    np.testing.assert_allclose(inverted.returns, inverted.lengths - 1, atol=1)
    assert inverted.lengths.std() > 0


def test_evaluation_of_a_member_does_not_depend_on_its_cohort():
    both, alone = trainer("Hopper-v5"), trainer("Hopper-v5", seeds=(1,))
    np.testing.assert_array_equal(evaluated(both).returns[1], evaluated(alone, seeds=(1,)).returns[0])


def test_random_policy_is_measured_from_fixed_seeds():
    env = describe("Pendulum-v1")
    returns = random_returns(env, episodes=20)
    np.testing.assert_array_equal(returns, random_returns(env, episodes=20))
    assert -1800 < returns.mean() < -900  # about -1200


MEMORY = """
import psutil, torch
from tests.training.test_evaluate import evaluated, trainer
torch.set_num_threads(1)
trained, process, after = trainer("Hopper-v5"), psutil.Process(), {}
for k in range(201):
    evaluated(trained, steps=k, episodes=5)
    if k in (20, 200):
        after[k] = process.memory_info().rss / 1e6
print(after[200] - after[20])
"""


@pytest.mark.slow
def test_memory_does_not_grow_over_200_evaluations():
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=200, cwd=Path(__file__).parents[2]
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 40  # MB; it varies by about 10, and is over 100 where nothing is given back
