"""The four goals: the cost of a step, where an episode ends, and the share of each goal."""

import gymnasium
import numpy as np
import pytest

from sac_bench.envs.multigoal import GOALS, from_origin, goal_shares, modes
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


def test_episodes_start_near_the_origin_and_are_truncated_at_30_steps():
    pool = Pool(ENV, range(400))
    start = pool.reset()
    np.testing.assert_allclose(start.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(start.std(0), 0.1, rtol=0.15)
    steps = [pool.step(np.zeros((400, 2))) for _ in range(30)]
    pool.close()
    assert [step.truncated.all() for step in steps] == [False] * 29 + [True]
    assert not any(step.terminated.any() for step in steps)


def test_goal_shares_are_shares_of_all_episodes():
    last = np.array([[4.5, 0.1], [4.2, 0], [-4.5, 0], [0, 4.9], [0, -4.1], [0, -5.9], [4.5, 0], [1, 0]])
    reached = np.array([1, 1, 1, 1, 1, 1, 0, 0], dtype=bool)
    np.testing.assert_array_equal(goal_shares(last, reached), [2 / 8, 1 / 8, 1 / 8, 2 / 8])
    np.testing.assert_array_equal(goal_shares(last, ~reached[:1].repeat(8)), np.zeros(4))


def test_episodes_from_the_origin_start_exactly_at_the_origin():
    pool = Pool(ENV, range(20), wrapper=from_origin)
    np.testing.assert_array_equal(pool.reset(), np.zeros((20, 2)))
    pool.step(np.tile([1.0, 0.5], (20, 1)))
    for _ in range(29):
        step = pool.step(np.zeros((20, 2)))
    pool.close()
    assert step.truncated.all()
    np.testing.assert_array_equal(step.observation, np.zeros((20, 2)))


def cloud(*centres, deviation=(0.15, 0.15), squash=False, count=10_000):
    """Normal actions [count, 2] around centres [2], equally many at each, within the bounds."""
    noise = np.random.default_rng(0).standard_normal((count, 2)) * deviation
    actions = np.array(centres)[np.arange(count) % len(centres)] + noise
    return np.tanh(actions) if squash else np.clip(actions, -1, 1)


def ring(count=10_000):
    angle = np.random.default_rng(0).uniform(0, 2 * np.pi, count)
    return 0.7 * np.stack([np.cos(angle), np.sin(angle)], axis=1)


RIGHT, LEFT, UP, DOWN = 0.7 * np.eye(2)[0], -0.7 * np.eye(2)[0], 0.7 * np.eye(2)[1], -0.7 * np.eye(2)[1]


@pytest.mark.parametrize(
    ("actions", "count"),
    [
        (cloud(RIGHT, LEFT, UP, DOWN), 4),
        (cloud(RIGHT, LEFT, UP), 3),
        (cloud(RIGHT, LEFT), 2),
        (cloud(DOWN), 1),
        (np.tile(LEFT, (10_000, 1)), 1),
        (cloud(*[RIGHT] * 11, LEFT), 1),  # of fewer than a tenth
        (cloud(*[RIGHT] * 7, LEFT), 2),
        (cloud((0, 0)), 0),
        (cloud((0, 0), deviation=(0.7, 0.7), squash=True), 0),
        (cloud((0, 0), deviation=(0.4, 0.05)), 0),  # one mode at zero, wide along x
        (cloud((0, 0), deviation=(0.35, 1.4), squash=True), 0),
        (cloud((0.5, 0.5)), 0),
        (cloud((0.5, 0.5), (0.5, -0.5), (-0.5, 0.5), (-0.5, -0.5)), 0),
        (ring(), 0),
        (np.zeros((10_000, 2)), 0),
    ],
)
def test_known_modes_of_clouds_of_actions(actions, count):
    assert modes(actions) == count


def optimal_actions(reward_scale, gamma=0.99, cells=29, per_axis=15, sweeps=30, samples=10_000):
    """Actions [samples, 2] at the origin of the soft-optimal policy at temperature 1, by value iteration on a grid."""
    grid, axis = np.linspace(-7, 7, cells), (np.arange(per_axis) + 0.5) * 2 / per_axis - 1
    actions = np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2)
    at = np.stack(np.meshgrid(grid, grid, indexing="ij"), axis=-1).reshape(-1, 1, 2)
    after = np.clip(at + actions, -7, 7)
    squared = np.min([((after - np.array(goal)) ** 2).sum(-1) for goal in GOALS], axis=0)
    reward = reward_scale * (-30 * (actions**2).sum(-1) - squared + 10 * (squared < 1))
    place = (after + 7) / (grid[1] - grid[0])
    low = np.minimum(place.astype(int), cells - 2)
    (x, y), (u, v) = np.moveaxis(low, -1, 0), np.moveaxis(place - low, -1, 0)
    value = np.zeros((cells, cells))
    for _ in range(sweeps):
        below = value[x, y] * (1 - v) + value[x, y + 1] * v
        above = value[x + 1, y] * (1 - v) + value[x + 1, y + 1] * v
        q = reward + gamma * np.where(squared < 1, 0.0, below * (1 - u) + above * u)
        value = (np.logaddexp.reduce(q, axis=1) + 2 * np.log(2 / per_axis)).reshape(cells, cells)
    density, generator = np.exp(q[len(q) // 2] - q[len(q) // 2].max()), np.random.default_rng(0)
    chosen = generator.choice(len(actions), samples, p=density / density.sum())
    return actions[chosen] + (generator.random((samples, 2)) - 0.5) * 2 / per_axis


@pytest.mark.parametrize(("reward_scale", "count"), [(0.1, 0), (0.3, 4), (1.0, 4)])
def test_the_claims_optimal_policy_has_four_modes_and_none_at_the_authors_temperature(reward_scale, count):
    assert modes(optimal_actions(reward_scale)) == count
