"""Evaluation: whole episodes, both policies from the same states, and no memory leak."""

import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch

from sac_bench.envs.pool import Pool, Step, describe
from sac_bench.spec.run import RunSpec
from sac_bench.training.evaluate import POLICIES, evaluate, random_episodes
from sac_bench.training.trainer import Trainer
from tests.answers.probes import register
from tests.conftest import tiny


def trainer(env, seeds=(0, 1), **overrides):
    return Trainer([RunSpec("sac", tiny(**overrides), env, seed) for seed in seeds], 400, compiled=False)


def evaluated(trained, steps=0, seeds=(0, 1), episodes=3, **more):
    return evaluate(trained.cohort, trained.env, list(seeds), steps, episodes, threads=1, **more)


def test_evaluation_depends_only_on_policy_seed_and_steps():
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


@pytest.mark.parametrize("env", ["Hopper-v5", "gymnasium:Hopper-v5"])
@pytest.mark.parametrize("seeds", [(0,), (0, 1, 2)])
def test_skipping_finished_environments_does_not_change_the_episodes(env, seeds, monkeypatch):
    trained, width = trainer(env, seeds, gamma=0.9), len(seeds)
    found = evaluated(trained, seeds=seeds)
    monkeypatch.setattr(Pool, "play", lambda pool, action, running: masked(pool.step(action), running))
    expected = evaluated(trained, seeds=seeds)
    assert found.returns.shape == (width, 2, 3)
    assert found.lengths.min() < found.lengths.max()
    np.testing.assert_array_equal(found.returns, expected.returns)
    np.testing.assert_array_equal(found.lengths, expected.lengths)
    for name, values in expected.bias.items():
        assert torch.equal(found.bias[name], values)
        assert values.isfinite().all()


def masked(step, running):
    """Rows of running environments, zeros in the others, as `Pool.play` returns them."""
    return Step(*(np.where(running.reshape(-1, *[1] * (rows.ndim - 1)), rows, 0).astype(rows.dtype) for rows in step))


def test_a_finished_environment_is_not_stepped_again(recorded):
    trained = trainer("Hopper-v5")
    found = evaluated(trained)
    (pool,) = recorded[1]
    assert [running.sum() for running in pool.running] == [
        (found.lengths > t).sum() for t in range(found.lengths.max())
    ]


@pytest.mark.parametrize(("algorithm", "policy"), [("sac", "mean"), ("sac", "sample"), ("td3", "mean")])
def test_a_policys_episodes_do_not_depend_on_playing_the_other_policy(algorithm, policy, recorded):
    trained = Trainer(
        [RunSpec(algorithm, tiny(algorithm, gamma=0.9), "Hopper-v5", s) for s in (0, 1)], 400, compiled=False
    )
    both, one = evaluated(trained), evaluated(trained, policies=[policy])
    assert (both.policies, one.policies) == (POLICIES, (policy,))
    np.testing.assert_array_equal(one.returns[:, 0], both.returns[:, POLICIES.index(policy)])
    np.testing.assert_array_equal(one.lengths[:, 0], both.lengths[:, POLICIES.index(policy)])
    assert recorded[1][1].running[0].sum() == 2 * 3
    measured = trained.cohort.learner.value.policy == policy
    for name, values in both.bias.items():
        assert torch.equal(one.bias[name], values) if measured else one.bias[name].isnan().all()


def test_evaluation_of_a_member_does_not_depend_on_its_cohort():
    both, alone = trainer("Hopper-v5"), trainer("Hopper-v5", seeds=(1,))
    np.testing.assert_array_equal(evaluated(both).returns[1], evaluated(alone, seeds=(1,)).returns[0])


def test_random_policy_is_measured_from_fixed_seeds():
    env = describe("Pendulum-v1")
    played, again = random_episodes(env, episodes=20), random_episodes(env, episodes=20)
    np.testing.assert_array_equal(played.returns, again.returns)
    np.testing.assert_array_equal(played.deviation, again.deviation)
    assert -1800 < played.returns.mean() < -900  # about -1200


class Counting(gymnasium.Env):
    """Observes the step from 1000 on, and a constant. An episode ends after 3 to 12 steps."""

    observation_space = gymnasium.spaces.Box(-2000, 2000, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at, self.end = 0, int(self.np_random.integers(3, 13))
        return self._observe(), {}

    def step(self, action):
        self.at += 1
        return self._observe(), 1.0, self.at == self.end, False, {}

    def _observe(self):
        return np.array([1000 + self.at, 0.1], np.float32)


def test_known_deviation_of_the_observations_of_a_random_policy():
    played = random_episodes(describe(register(Counting, 50)), episodes=30)
    observed = np.concatenate([np.arange(length) for length in played.returns])
    np.testing.assert_allclose(played.deviation, [observed.std(), 0.0], rtol=1e-12)
    assert played.deviation[1] == 0


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


@pytest.mark.soak
def test_memory_does_not_grow_over_200_evaluations():
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, timeout=200, cwd=Path(__file__).parents[2]
    )
    assert ran.returncode == 0, ran.stderr
    assert float(ran.stdout) < 40  # MB; it varies by about 10, and is over 100 where nothing is given back
