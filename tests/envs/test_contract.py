"""What every pool promises, on both backends, against environments that are stepped one by one.

A pool's environment i must be the environment that a program without this adapter would make from seed i. So the
other side of the comparison is made, scaled, stepped, reset and counted here, by a plain loop.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import envpool
import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sac_bench.envs.pool import Pool, describe
from sac_bench.spec.run import RunSpec
from sac_bench.training import trainer
from tests.conftest import tiny

PREFIX = "gymnasium:"
BACKENDS = ["envpool", "gymnasium"]


def named(task, backend):
    return PREFIX + task if backend == "gymnasium" else task


# -- the other side: one environment, one step at a time --------------------------------------------------------------


class Transition(NamedTuple):
    final: np.ndarray
    after: np.ndarray
    reward: np.float32
    terminated: bool
    truncated: bool


class Lone:
    """One environment, made without `sac_bench`; `step` starts it again itself where an episode ended."""

    def __init__(self, env_id: str, seed: int) -> None:
        self.batched = not env_id.startswith(PREFIX)
        if self.batched:
            self.env, self.options = envpool.make_gymnasium(env_id, num_envs=1, seed=[seed]), {}
        else:
            self.env, self.options = gymnasium.make(env_id.removeprefix(PREFIX)), {"seed": seed}
        space = self.env.action_space
        self.low, self.high, self.dtype = space.low.astype(np.float64), space.high.astype(np.float64), space.dtype

    def reset(self) -> np.ndarray:
        observation, _ = self.env.reset(**self.options)
        self.options = {}
        return self._vector(observation)

    def step(self, action: np.ndarray) -> Transition:
        inside = np.minimum(np.maximum(action.astype(np.float64), -1), 1)
        own = (self.low + (inside + 1) / 2 * (self.high - self.low)).astype(self.dtype)
        observation, reward, terminated, truncated, _ = self.env.step(own[None] if self.batched else own)
        if self.batched:
            reward, terminated, truncated = reward[0], terminated[0], truncated[0]
        final = self._vector(observation)
        after = self.reset() if terminated or truncated else final
        return Transition(final, after, np.float32(reward), bool(terminated), bool(truncated) and not terminated)

    def _vector(self, observation) -> np.ndarray:
        return np.asarray(observation, dtype=np.float32).reshape(-1)

    def close(self) -> None:
        self.env.close()


def episodes_of(env_id, seed, actions):
    """The return and length of every episode that `actions` [T, A] finish, by a plain loop."""
    lone, found, total, length = Lone(env_id, seed), [], 0.0, 0
    lone.reset()
    for action in actions:
        transition = lone.step(action)
        total, length = total + float(transition.reward), length + 1
        if transition.terminated or transition.truncated:
            found.append((total, length))
            total, length = 0.0, 0
    lone.close()
    return found


def rollout(env_id, seeds, actions, threads=1):
    pool = Pool(env_id, seeds, threads)
    start, steps = pool.reset(), [pool.step(action) for action in actions]
    pool.close()
    return start, steps


def as_bytes(start, steps):
    return start.tobytes() + b"".join(part.tobytes() for step in steps for part in step)


def random_actions(env_id, steps, count, seed=0):
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, count, describe(env_id).action_dim))


def assert_is(step, k, expected):
    """Environment k of a vector step made the transition expected, to the bit."""
    np.testing.assert_array_equal(step.final_observation[k], expected.final)
    np.testing.assert_array_equal(step.observation[k], expected.after)
    assert step.reward[k] == expected.reward
    assert (step.terminated[k], step.truncated[k]) == (expected.terminated, expected.truncated)


# -- each environment of a pool is the one its seed makes -------------------------------------------------------------


@settings(max_examples=6, deadline=None)
@given(
    st.sampled_from(["Hopper-v5", "Walker2d-v5", "InvertedPendulum-v5"]),
    st.sampled_from(BACKENDS),
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=4, unique=True),
    st.integers(1, 3),
)
def test_contract_a_pool_equals_its_environments_stepped_alone(task, backend, seeds, threads):
    env_id = named(task, backend)
    actions = random_actions(env_id, 80, len(seeds), seed=seeds[0])
    start, steps = rollout(env_id, seeds, actions, threads)
    for k, seed in enumerate(seeds):
        lone = Lone(env_id, seed)
        np.testing.assert_array_equal(start[k], lone.reset())
        for t, step in enumerate(steps):
            assert_is(step, k, lone.step(actions[t, k]))
        lone.close()


# Those that draw random numbers while they step, other bounds than [-1, 1], other limits, and many observations.
@pytest.mark.parametrize(
    ("env_id", "length"),
    [
        ("Pendulum-v1", 410),
        ("gymnasium:Pendulum-v1", 410),
        ("Humanoid-v5", 60),
        ("gymnasium:Humanoid-v5", 60),
        ("LunarLanderContinuous-v3", 200),
        ("gymnasium:LunarLanderContinuous-v3", 200),
        ("BipedalWalker-v3", 150),
    ],
)
def test_contract_a_pool_equals_its_environments_stepped_alone_on_other_tasks(env_id, length):
    actions = random_actions(env_id, length, 2)
    start, steps = rollout(env_id, [11, 12], actions)
    for k, seed in enumerate([11, 12]):
        lone = Lone(env_id, seed)
        np.testing.assert_array_equal(start[k], lone.reset())
        for t, step in enumerate(steps):
            assert_is(step, k, lone.step(actions[t, k]))
        lone.close()
    assert any((step.terminated | step.truncated).any() for step in steps)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "BipedalWalker-v3", "CheetahRun-v1", "gymnasium:Hopper-v5"])
def test_contract_replaying_an_action_log_gives_the_same_bytes(env_id):
    actions = random_actions(env_id, 200, 3)
    first = as_bytes(*rollout(env_id, [1, 2, 3], actions))
    assert first == as_bytes(*rollout(env_id, [1, 2, 3], actions, threads=3))
    changed = actions.copy()
    changed[-1, 1] *= -1
    assert first != as_bytes(*rollout(env_id, [1, 2, 3], changed))


@pytest.mark.parametrize("backend", BACKENDS)
def test_contract_arrays_that_a_step_returned_are_not_overwritten(backend):
    env_id = named("Hopper-v5", backend)
    pool = Pool(env_id, [1, 2])
    pool.reset()
    steps, copies = [], []
    for action in random_actions(env_id, 60, 2):
        steps.append(pool.step(action))
        copies.append([part.copy() for part in steps[-1]])
    pool.close()
    for step, copy in zip(steps, copies, strict=True):
        for part, before in zip(step, copy, strict=True):
            np.testing.assert_array_equal(part, before)


# -- seeds ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS)
def test_contract_an_environment_depends_on_its_seed_and_not_on_its_position(backend):
    env_id = named("Hopper-v5", backend)
    actions = np.repeat(random_actions(env_id, 60, 1), 3, axis=1)
    (first, a), (second, b) = rollout(env_id, [5, 6, 7], actions), rollout(env_id, [7, 8, 5], actions)
    for one, other in [(0, 2), (2, 0)]:
        np.testing.assert_array_equal(first[one], second[other])
        assert all(np.array_equal(x.observation[one], y.observation[other]) for x, y in zip(a, b, strict=True))
    # 5, 6, 7 and 8: none starts, or starts again, where another does.
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 4


def trained(env_id, steps, seeds=(0, 1), **overrides):
    """The segments of a cohort stepped to `steps` by random actions."""
    config = tiny(num_envs=2, learning_starts=steps, **overrides)
    specs = [RunSpec("sac", config, env_id, seed) for seed in seeds]
    cohort, segments = trainer.Trainer(specs, steps, compiled=False), []
    while cohort.steps < steps:
        segments.append(cohort.train())
    cohort.close()
    return segments


def test_contract_no_two_environments_of_runs_pools_and_evaluations_share_a_seed(recorded):
    # Pendulum's episodes have 200 steps: with two environments the second pool starts after 400 transitions.
    trained("Pendulum-v1", 600, seeds=(0, 1, 2), pool_episodes=1)
    training, evaluation = ([pool.seeds for pool in pools] for pools in recorded)
    assert [len(training), len(evaluation)] == [2, 4]
    seeds = list(itertools.chain(*training))
    for pool in evaluation:  # the two policies of one run start from the same states, on purpose
        assert len(set(pool)) == len(pool) / 2
        seeds += set(pool)
    assert len(set(seeds)) == len(seeds) == 2 * 6 + 4 * 6


# -- episode returns --------------------------------------------------------------------------------------------------


@pytest.mark.thorough
@pytest.mark.parametrize("backend", BACKENDS)
def test_contract_episode_returns_equal_an_independent_count(backend, recorded):
    env_id = named("Hopper-v5", backend)
    segments = trained(env_id, 600)
    (pool,), evaluations = recorded
    for run in range(2):
        # The order in which a run's two environments finish is not compared.
        expected = [episodes_of(env_id, pool.seeds[k], [a[k] for a in pool.sent]) for k in (2 * run, 2 * run + 1)]
        counted = sorted(total for found in expected for total, _ in found)
        assert len(counted) > 10
        assert sorted(itertools.chain(*(segment.training_returns[run] for segment in segments))) == counted
    for segment, pool in zip(segments, evaluations, strict=True):
        first = [episodes_of(env_id, seed, [a[k] for a in pool.sent])[0] for k, seed in enumerate(pool.seeds)]
        np.testing.assert_array_equal(segment.episodes.returns.flatten(), [total for total, _ in first])
        np.testing.assert_array_equal(segment.episodes.lengths.flatten(), [length for _, length in first])


# -- an environment that reports its steps --------------------------------------------------------------------

LIMIT = 4


class Diary(gymnasium.Env):
    """Observes which episode this is, how many steps it has had, and its last action; an action above 3 ends it."""

    observation_space = gymnasium.spaces.Box(-99, 99, (3,))
    action_space = gymnasium.spaces.Box(-2.0, 4.0, (1,))
    episode = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode, self.elapsed = self.episode + 1, 0
        return np.array([self.episode, 0, 0], np.float32), {}

    def step(self, action):
        self.elapsed += 1
        observed = np.array([self.episode, self.elapsed, action[0]], np.float32)
        return observed, 10.0 * self.episode + self.elapsed, bool(action[0] > 3), False, {}


gymnasium.register("tests/Diary-v0", Diary, max_episode_steps=LIMIT)


@given(st.lists(st.lists(st.sampled_from([-1.0, 0.0, 0.5, 1.0]), min_size=3, max_size=3), max_size=16))
def test_contract_each_environment_steps_and_restarts_independently(actions):
    start, steps = rollout("gymnasium:tests/Diary-v0", [0, 1, 2], np.array(actions).reshape(-1, 3, 1))
    np.testing.assert_array_equal(start, [[1, 0, 0]] * 3)
    for k in range(3):
        episode, elapsed = 1, 0
        for t, step in enumerate(steps):
            elapsed += 1
            own = {-1.0: -2.0, 0.0: 1.0, 0.5: 2.5, 1.0: 4.0}[actions[t][k]]
            np.testing.assert_array_equal(step.final_observation[k], [episode, elapsed, own])
            assert step.reward[k] == 10 * episode + elapsed
            assert step.terminated[k] == (own == 4.0)
            # A failure on the last step that the limit allows is a failure, not a truncation as well.
            assert step.truncated[k] == (elapsed == LIMIT and own != 4.0)
            if step.terminated[k] or step.truncated[k]:
                episode, elapsed = episode + 1, 0
                np.testing.assert_array_equal(step.observation[k], [episode, 0, 0])
            else:
                np.testing.assert_array_equal(step.observation[k], step.final_observation[k])


# -- action bounds ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", ["Humanoid-v5", "Pendulum-v1", "gymnasium:Humanoid-v5", "gymnasium:tests/Diary-v0"])
def test_contract_actions_cover_the_environments_bounds_and_never_exceed_them(env_id):
    spec = describe(env_id)
    low, high = np.array(spec.action_low), np.array(spec.action_high)
    ones = np.ones(spec.action_dim, dtype=np.float32)
    np.testing.assert_array_equal(spec.scaled(-ones), low)
    np.testing.assert_array_equal(spec.scaled(ones), high)
    np.testing.assert_allclose(spec.scaled(0 * ones), (low + high) / 2, atol=1e-12)

    @settings(max_examples=50, deadline=None)
    @given(st.floats(width=32, allow_nan=False))
    def stays_inside(value):
        scaled = spec.scaled(np.float32(value) * ones)
        assert ((low <= scaled) & (scaled <= high)).all()

    stays_inside()


@pytest.mark.parametrize("backend", BACKENDS)
def test_contract_actions_are_clipped_to_the_environments_bounds(backend):
    def reward(size):
        # HalfCheetah-v5 pays 0.1 |a|^2 for actions that it does not bound itself.
        _, (step,) = rollout(named("HalfCheetah-v5", backend), [0], np.full((1, 1, 6), size))
        return step.reward[0]

    assert reward(5.0) == reward(1.0) != reward(0.9)


# -- 1e5 random steps on each backend ---------------------------------------------------------------------------------


class Task(NamedTuple):
    """Known facts about an environment: which states are healthy, and how near `start` a reset is."""

    healthy: object
    start: tuple[float, ...]
    noise: float
    limit: int


TASKS = {
    "Hopper-v5": Task(lambda o: (o[:, 0] > 0.7) & (np.abs(o[:, 1]) < 0.2), (1.25, *[0.0] * 10), 0.005, 1000),
    "Walker2d-v5": Task(
        lambda o: (o[:, 0] > 0.8) & (o[:, 0] < 2) & (np.abs(o[:, 1]) < 1), (1.25, *[0.0] * 16), 0.005, 1000
    ),
    "InvertedPendulum-v5": Task(lambda o: np.abs(o[:, 1]) <= 0.2, (0.0,) * 4, 0.01, 1000),
    "Pendulum-v1": Task(lambda o: np.full(len(o), True), (0.0,) * 3, 1.0, 200),
}
COUNT, ROWS = 20, 1250


def swung(observation, action, backend):
    """The next state and reward of a pendulum's action, by its equation of motion."""
    cosine, sine, speed = observation.astype(np.float64).T
    angle, torque = np.arctan2(sine, cosine), 2 * np.clip(action[:, 0], -1, 1)
    unbounded = speed + (15 * sine + 3 * torque) * 0.05
    faster = np.clip(unbounded, -8, 8)
    # EnvPool bounds the speed only after it has moved the angle (docs/environments.md).
    then = angle + 0.05 * (unbounded if backend == "envpool" else faster)
    reward = -(angle**2 + 0.1 * speed**2 + 0.001 * torque**2)
    return np.stack([np.cos(then), np.sin(then), faster], axis=1), reward


@pytest.mark.thorough
@pytest.mark.parametrize("backend", BACKENDS)
def test_contract_holds_for_1e5_random_steps(backend):
    assert len(TASKS) * COUNT * ROWS == 100_000
    for task, known in TASKS.items():
        env_id = named(task, backend)
        seeds, watched = [1000 + 7 * k for k in range(COUNT)], 13
        pool, lone = Pool(env_id, seeds, threads=2), Lone(env_id, seeds[watched])
        observation = pool.reset()
        np.testing.assert_array_equal(observation[watched], lone.reset())
        starts, length = [observation], np.zeros(COUNT, dtype=int)
        for action in random_actions(env_id, ROWS, COUNT):
            step = pool.step(action)
            assert_is(step, watched, lone.step(action[watched]))
            assert not (step.terminated & step.truncated).any()
            assert np.isfinite(step.final_observation).all()
            length += 1
            # The true final observation is one that ends the episode, and only such a one ends it.
            np.testing.assert_array_equal(step.terminated, ~known.healthy(step.final_observation))
            np.testing.assert_array_equal(step.truncated, (length == known.limit) & ~step.terminated)
            done = step.terminated | step.truncated
            np.testing.assert_array_equal(step.observation[~done], step.final_observation[~done])
            starts.append(step.observation[done])
            length[done] = 0
            if task == "Pendulum-v1":  # every action is obeyed, the first after a reset too
                final, reward = swung(observation, action, backend)
                np.testing.assert_allclose(step.final_observation, final, atol=1e-5)
                np.testing.assert_allclose(step.reward, reward, rtol=1e-4, atol=1e-4)
            observation = step.observation
        pool.close()
        lone.close()
        fresh = np.concatenate(starts)
        assert (np.abs(fresh - np.array(known.start)) <= known.noise + 1e-6).all()
        assert len(fresh) > COUNT * 3
        assert len(np.unique(fresh, axis=0)) == len(fresh)
