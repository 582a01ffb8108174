"""The four goals: what a step costs, where an episode ends, and whose share it is."""

import gymnasium
import numpy as np
import pytest

from sac_bench.tasks.multigoal import goal_shares
from sac_bench.training.envs import Pool

ENV = "gymnasium:MultiGoal-v0"


def steps_of(*actions, env=None):
    env = env or gymnasium.make("MultiGoal-v0")
    start, _ = env.reset(seed=0)
    return start, [env.step(np.array(action, np.float32)) for action in actions]


@pytest.mark.parametrize(("axis", "sign"), [(0, 1), (0, -1), (1, 1), (1, -1)])
def test_an_episode_ends_within_1_of_each_goal_and_is_rewarded_there(axis, sign):
    ahead = np.zeros(2)
    ahead[axis] = sign
    at, taken = steps_of(*[ahead] * 5)
    at = at.astype(float)
    for number, (observation, reward, terminated, _, _) in enumerate(taken, 1):
        at = at + ahead
        distance = np.linalg.norm(at - 5 * ahead)
        np.testing.assert_allclose(observation, at, atol=1e-5)
        assert terminated == (distance < 1)
        assert reward == pytest.approx(-30 - distance**2 + 10 * terminated, abs=1e-5)
        if terminated:
            assert number in (4, 5)
            return
    pytest.fail("it never ended")


def test_actions_and_positions_are_bounded():
    _, taken = steps_of(*[(9.0, 9.0)] * 9)
    assert taken[0][1] > -30 * 2 - 50  # as for (1, 1)
    np.testing.assert_array_equal(taken[-1][0], [7, 7])
    assert not any(step[2] for step in taken)


def test_episodes_start_near_the_origin_and_are_cut_at_30_steps():
    pool = Pool(ENV, range(400))
    start = pool.reset()
    np.testing.assert_allclose(start.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(start.std(0), 0.1, rtol=0.15)
    steps = [pool.step(np.zeros((400, 2))) for _ in range(30)]
    pool.close()
    assert [step.truncated.all() for step in steps] == [False] * 29 + [True]
    assert not any(step.terminated.any() for step in steps)


def test_shares_are_of_all_episodes_at_the_goal_they_ended_at():
    last = np.array([[4.5, 0.1], [4.2, 0], [-4.5, 0], [0, 4.9], [0, -4.1], [0, -5.9], [4.5, 0], [1, 0]])
    reached = np.array([1, 1, 1, 1, 1, 1, 0, 0], dtype=bool)
    np.testing.assert_array_equal(goal_shares(last, reached), [2 / 8, 1 / 8, 1 / 8, 2 / 8])
    np.testing.assert_array_equal(goal_shares(last, ~reached[:1].repeat(8)), np.zeros(4))
