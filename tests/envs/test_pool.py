"""Which environments the adapter accepts, and how it describes them. Steps are tested in test_contract.py."""

import sys
import tempfile
from typing import ClassVar

import gymnasium
import mujoco
import numpy as np
import pytest
from gymnasium.envs.mujoco import MujocoEnv

from sac_bench.envs.pool import Pool, describe
from sac_bench.errors import InputError

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
    "gymnasium:MultiGoal-v0": (2, 2, 30),
    "gymnasium:HeavyHalfCheetah-v5": (17, 6, 1000),
}


@pytest.mark.parametrize("env_id", DIMENSIONS)
def test_contract_environments_have_the_expected_dimensions(env_id):
    spec = describe(env_id)
    assert (spec.observation_dim, spec.action_dim, spec.max_episode_steps) == DIMENSIONS[env_id]
    pool = Pool(env_id, [1, 2])
    assert pool.reset().shape == (2, spec.observation_dim)
    step = pool.step(np.zeros((2, spec.action_dim), dtype=np.float32))
    assert step.observation.dtype == np.float32
    assert step.reward.shape == (2,)
    pool.close()


def test_contract_the_papers_humanoid_has_21_actions_and_gymnasiums_17():
    assert (describe("HumanoidRun-v1").action_dim, describe("Humanoid-v5").action_dim) == (21, 17)


class Chain(gymnasium.Env):
    """A user-defined environment, with a dictionary of observations and a step limit."""

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


def test_contract_a_user_defined_environment_may_have_dict_observations():
    spec = describe("gymnasium:tests/Chain-v0")
    assert (spec.observation_dim, spec.action_dim, spec.max_episode_steps) == (5, 1, 5)
    pool = Pool("gymnasium:tests/Chain-v0", [0, 1])
    pool.reset()
    steps = [pool.step(np.full((2, 1), 1.0, dtype=np.float32)) for _ in range(6)]
    pool.close()
    assert [float(step.reward[0]) for step in steps] == [4.0, 8.0, 12.0, 16.0, 20.0, 4.0]
    assert steps[4].truncated.all()
    np.testing.assert_array_equal(steps[4].final_observation[0], [-20.0, 20.0, 20.0, 20.0, 20.0])
    np.testing.assert_array_equal(steps[4].observation[0], np.zeros(5))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "env_id", ["Hopper-v5", "Pendulum-v1", "CheetahRun-v1", "gymnasium:Hopper-v5", "gymnasium:tests/Chain-v0"]
)
def test_environments_stepped_without_the_others_give_the_same_steps(env_id, threads):
    generator, seeds = np.random.default_rng(0), list(range(5))
    alone, together = (Pool(env_id, seeds, threads) for _ in range(2))
    np.testing.assert_array_equal(alone.reset(), together.reset())
    running = np.ones(5, dtype=bool)
    for t in range(30):
        action = generator.uniform(-1, 1, (5, describe(env_id).action_dim))
        found, expected = alone.play(action, running), together.step(action)
        for rows, of_all in (
            (found.observation, expected.final_observation),
            *zip(found[1:], expected[1:], strict=True),
        ):
            assert rows.dtype == of_all.dtype
            np.testing.assert_array_equal(rows[running], of_all[running])
            assert not rows[~running].any()
        running &= ~(found.terminated | found.truncated)
        running[t // 8] = False
        if not running.any():
            break
    for pool in (alone, together):
        pool.close()
    assert t > 3


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
        ("tests/Chain-v0", "gymnasium:tests/Chain-v0"),
        ("CarRacing-v3", "vectors of numbers"),
        ("Cig-v1", "vectors of numbers"),  # its process ends where it is made
    ],
)
def test_contract_environments_that_cannot_be_trained_on_are_refused(env_id, words):
    with pytest.raises(InputError) as refused:
        describe(env_id)
    assert words in str(refused.value)
    assert "\n" not in str(refused.value)


def test_no_warning_about_old_model_files_is_printed(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    Pool("gymnasium:HalfCheetah-v5", [0, 1]).close()
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.iterdir())


LEGS = "".join(f'<body><joint name="j{i}" axis="0 1 0"/><geom size=".1"/></body>' for i in range(60))
MODEL = '<mujoco><option OPTION/><worldbody>LEGS</worldbody><actuator><motor joint="j0"/></actuator></mujoco>'


class Centipede(MujocoEnv):
    """Sixty degrees of freedom."""

    metadata: ClassVar = {"render_modes": [], "render_fps": 500}

    def __init__(self, option, **kwargs):
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", suffix=".xml") as file:
            file.write(MODEL.replace("OPTION", option).replace("LEGS", LEGS))
            file.flush()
            super().__init__(file.name, 1, gymnasium.spaces.Box(-9, 9, (60,)), **kwargs)

    def reset_model(self):
        return self.data.qpos


@pytest.mark.parametrize(
    ("version", "option", "refused"),
    [
        ("4.0.0", "", True),
        ("4.0.0", 'jacobian="dense"', False),
        ("4.0.0", 'solver="CG"', False),
        ("4.0.1", "", False),
        ("3.17.0", "", False),
    ],
)
def test_models_that_mujoco_4_0_0_simulates_wrongly_are_refused(version, option, refused, monkeypatch):
    monkeypatch.setattr(mujoco, "mj_versionString", lambda: version)
    gymnasium.register("tests/Centipede-v0", Centipede, max_episode_steps=5, kwargs={"option": option})
    describe.cache_clear()
    if refused:
        with pytest.raises(InputError, match=r"MuJoCo 4\.0\.0's .* wrong .*4\.0\.1 .* jacobian=\"dense\""):
            describe("gymnasium:tests/Centipede-v0")
    else:
        assert describe("gymnasium:tests/Centipede-v0").observation_dim == 60
    gymnasium.registry.pop("tests/Centipede-v0")


def test_a_module_named_in_an_id_is_not_imported():
    for use in (describe, lambda env_id: Pool(env_id, [0])):
        with pytest.raises(InputError, match="write 'gymnasium:Pendulum-v1', and --import this"):
            use("gymnasium:this:Pendulum-v1")
    assert "this" not in sys.modules
