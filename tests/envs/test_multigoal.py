"""The four goals: what a step costs, where an episode ends, and whose share it is."""

import gymnasium
import numpy as np
import pytest

from sac_bench.envs.multigoal import GOALS, goal_shares
from sac_bench.envs.pool import Pool

ENV = "gymnasium:MultiGoal-v0"


def steps_of(*actions):
    env = gymnasium.make("MultiGoal-v0").unwrapped
    start, _ = env.reset(seed=0)
    return start, [env.step(np.array(action, np.float32)) for action in actions]


@pytest.mark.parametrize(("axis", "sign"), [(0, 1), (0, -1), (1, 1), (1, -1)])
def test_an_episode_ends_within_1_of_each_goal_and_is_rewarded_there(axis, sign):
    goal = np.zeros(2)
    goal[axis] = 5 * sign
    at, taken = steps_of(*[0.15 * goal] * 6)
    for observation, reward, terminated, _, _ in taken:
        at = at + 0.15 * goal
        distance = np.linalg.norm(at - goal)
        np.testing.assert_allclose(observation, at, atol=1e-5)
        assert terminated == (distance < 1)
        assert reward == pytest.approx(-30 * 0.75**2 - distance**2 + 10 * terminated, abs=1e-4)
    assert [step[2] for step in taken].index(True) in (4, 5)  # 3.75 and 4.5 from a start near the origin


def test_actions_and_positions_are_bounded():
    start, taken = steps_of(*[(9.0, 8.0)] * 9)
    distance = min(np.linalg.norm(start + 1 - goal) for goal in GOALS)
    assert taken[0][1] == pytest.approx(-30 * 2 - distance**2, abs=1e-4)
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
