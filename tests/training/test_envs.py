"""The adapter's contract, on real environments of both backends."""

import gymnasium
import numpy as np
import pytest

from sac_bench.errors import InputError
from sac_bench.training.envs import Pool, describe

DIMENSIONS = {
    "HalfCheetah-v5": (17, 6, 1000),
    "HalfCheetah-v4": (17, 6, 1000),
    "HalfCheetah-v3": (17, 6, 1000),
    "Humanoid-v5": (348, 17, 1000),
    "BipedalWalker-v3": (24, 4, 1600),
    "HumanoidWalk-v1": (95, 21, 1000),
    "Pendulum-v1": (3, 1, 200),
    "gymnasium:Hopper-v5": (11, 3, 1000),
    "gymnasium:Pendulum-v1": (3, 1, 200),
}


@pytest.mark.parametrize("env_id", DIMENSIONS)
def test_contract_dimensions_of_an_environment(env_id):
    spec = describe(env_id)
    assert (spec.observation_dim, spec.action_dim, spec.max_episode_steps) == DIMENSIONS[env_id]
    pool = Pool(env_id, [1, 2])
    assert pool.reset().shape == (2, spec.observation_dim)
    step = pool.step(np.zeros((2, spec.action_dim), dtype=np.float32))
    assert step.observation.dtype == np.float32
    assert step.reward.shape == (2,)
    pool.close()


def test_contract_papers_humanoid_has_21_actions_and_gymnasiums_17():
    assert (describe("HumanoidRun-v1").action_dim, describe("Humanoid-v5").action_dim) == (21, 17)


def rollout(env_id, seeds, actions):
    pool = Pool(env_id, seeds)
    observations, steps = [pool.reset()], []
    for action in actions:
        steps.append(pool.step(action))
        observations.append(steps[-1].observation)
    pool.close()
    return observations, steps


@pytest.mark.parametrize("env_id", ["Hopper-v5", "gymnasium:Hopper-v5"])
def test_contract_finished_environments_restart_alone_and_at_once(env_id):
    actions = np.random.default_rng(0).uniform(-1, 1, (200, 3, 3)).astype(np.float32)
    observations, steps = rollout(env_id, [1, 2, 3], actions)
    ended = [t for t, step in enumerate(steps) if step.terminated.any()]
    assert len(ended) > 5
    for t in ended:
        done = steps[t].terminated
        # The finished one starts standing again, the others' next observation is what their action led to.
        assert not np.array_equal(steps[t].final_observation[done], steps[t].observation[done])
        assert np.array_equal(steps[t].final_observation[~done], steps[t].observation[~done])
        assert (np.abs(steps[t].observation[done][:, 0] - 1.25) < 0.01).all()  # Hopper's height at reset
    assert not any((step.terminated & step.truncated).any() for step in steps)
    del observations


@pytest.mark.parametrize("env_id", ["Hopper-v5", "gymnasium:Hopper-v5"])
def test_contract_no_reset_frame_every_step_obeys_its_action(env_id):
    # The step after an episode's end differs with the action taken: under auto-reset it would be ignored.
    actions = np.random.default_rng(0).uniform(-1, 1, (120, 1, 3)).astype(np.float32)
    _, steps = rollout(env_id, [7], actions)
    end = next(t for t, step in enumerate(steps) if step.terminated[0])
    changed = actions.copy()
    changed[end + 1] = -changed[end + 1]
    _, others = rollout(env_id, [7], changed)
    assert np.array_equal(steps[end].observation, others[end].observation)
    assert not np.array_equal(steps[end + 1].final_observation, others[end + 1].final_observation)


@pytest.mark.parametrize("env_id", ["Pendulum-v1", "gymnasium:Pendulum-v1"])
def test_contract_time_limit_truncates_with_the_true_final_observation(env_id):
    actions = np.zeros((200, 2, 1), dtype=np.float32)
    _, steps = rollout(env_id, [1, 2], actions)
    assert not any(step.truncated.any() or step.terminated.any() for step in steps[:-1])
    last = steps[-1]
    assert last.truncated.all()
    assert not last.terminated.any()
    # A pendulum moves little in one step; the reset puts it anywhere.
    assert np.abs(last.final_observation[:, :2] - steps[-2].observation[:, :2]).max() < 0.6
    assert not np.array_equal(last.final_observation, last.observation)


@pytest.mark.parametrize("env_id", ["Hopper-v5", "BipedalWalker-v3", "CheetahRun-v1", "gymnasium:Hopper-v5"])
def test_contract_a_pool_replays_to_the_bit_from_seeds_and_actions(env_id):
    a = describe(env_id).action_dim
    actions = np.random.default_rng(0).uniform(-1, 1, (300, 2, a)).astype(np.float32)
    first, second = rollout(env_id, [1, 2], actions), rollout(env_id, [1, 2], actions)
    assert all(np.array_equal(x, y) for x, y in zip(first[0], second[0], strict=True))
    alone, _ = rollout(env_id, [2], actions[:, 1:])
    assert all(np.array_equal(x[1], y[0]) for x, y in zip(first[0], alone, strict=True))


@pytest.mark.parametrize("env_id", ["Humanoid-v5", "gymnasium:Humanoid-v5"])
def test_contract_actions_reach_the_environments_own_bounds(env_id):
    # Humanoid's control cost is 0.1 |a|^2 for a in [-0.4, 0.4]: its largest is 0.1 * 17 * 0.16.
    pool = Pool(env_id, [0])
    pool.reset()
    seen = []
    env, original = pool._env, pool._env.step
    env.step = lambda action: seen.append(action) or original(action)
    pool.step(np.full((1, 17), 1.0, dtype=np.float32))
    pool.step(np.full((1, 17), -1.0, dtype=np.float32))
    pool.step(np.full((1, 17), 5.0, dtype=np.float32))
    pool.close()
    np.testing.assert_allclose([a.max() for a in seen], [0.4, -0.4, 0.4], rtol=1e-6)


class Chain(gymnasium.Env):
    """An environment of one's own, with a dictionary of observations and a limit."""

    observation_space = gymnasium.spaces.Dict(
        {"b": gymnasium.spaces.Box(-9, 9, (2, 2)), "a": gymnasium.spaces.Box(-9, 9, ())}
    )
    action_space = gymnasium.spaces.Box(-2.0, 4.0, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0.0
        return self._observe(), {}

    def step(self, action):
        self.at += float(action[0])
        return self._observe(), self.at, False, False, {}

    def _observe(self):
        return {"b": np.full((2, 2), self.at, np.float32), "a": np.array(-self.at, np.float32)}


class Buttons(Chain):
    action_space = gymnasium.spaces.Discrete(3)


class Unbounded(Chain):
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))


class Picture(Chain):
    observation_space = gymnasium.spaces.Box(0, 255, (8, 8, 3), np.uint8)


gymnasium.register("tests/Chain-v0", Chain, max_episode_steps=5)
gymnasium.register("tests/Endless-v0", Chain)
gymnasium.register("tests/Buttons-v0", Buttons, max_episode_steps=5)
gymnasium.register("tests/Unbounded-v0", Unbounded, max_episode_steps=5)
gymnasium.register("tests/Picture-v0", Picture, max_episode_steps=5)


def test_contract_ones_own_environment_with_a_dictionary():
    spec = describe("gymnasium:tests/Chain-v0")
    assert (spec.observation_dim, spec.action_dim, spec.max_episode_steps) == (5, 1, 5)
    _, steps = rollout("gymnasium:tests/Chain-v0", [0, 1], np.full((6, 2, 1), 1.0, dtype=np.float32))
    assert [float(step.reward[0]) for step in steps] == [4.0, 8.0, 12.0, 16.0, 20.0, 4.0]
    assert steps[4].truncated.all()
    np.testing.assert_array_equal(steps[4].final_observation[0], [-20.0, 20.0, 20.0, 20.0, 20.0])
    np.testing.assert_array_equal(steps[4].observation[0], np.zeros(5))


@pytest.mark.parametrize(
    ("env_id", "words"),
    [
        ("HalfCheeta-v5", "did you mean 'HalfCheetah-v5'"),
        ("CartPole-v1", "continuous"),
        ("gymnasium:CartPole-v1", "continuous"),
        ("gymnasium:NoSuch-v0", "unknown Gymnasium environment"),
        ("gymnasium:tests/Buttons-v0", "Discrete"),
        ("gymnasium:tests/Unbounded-v0", "unbounded"),
        ("gymnasium:tests/Picture-v0", "vectors of numbers"),
        ("gymnasium:tests/Endless-v0", "max_episode_steps"),
        ("gymnasium:nosuchmodule:X-v0", "nosuchmodule"),
        ("tests/Chain-v0", "gymnasium:tests/Chain-v0"),
        ("CarRacing-v3", "vectors of numbers"),
    ],
)
def test_contract_what_cannot_be_trained_on_is_refused(env_id, words):
    with pytest.raises(InputError) as refused:
        describe(env_id)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)
