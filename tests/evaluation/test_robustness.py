"""Robustness: known losses of known policies, bit-identical, and kept until the policy or the definition changes."""

from __future__ import annotations

import math
from dataclasses import replace

import gymnasium
import numpy as np
import pytest
import torch
from safetensors.torch import save

from sac_bench.algorithms.pytree import named_tensors
from sac_bench.envs.pool import Pool, describe
from sac_bench.errors import InputError
from sac_bench.evaluation import robustness
from sac_bench.evaluation.random_policy import measured_random_policy
from sac_bench.evaluation.robustness import MEASURING, MeasuredPolicy, entropy, measure, measurements
from sac_bench.spec.measures import ROBUSTNESS, check_robustness
from sac_bench.spec.run import RunSpec
from sac_bench.store.atomic import read_json, write_json
from sac_bench.store.run import RunDirectory
from sac_bench.store.store import Store
from sac_bench.training.random import derived_seeds
from tests.answers.probes import register
from tests.conftest import tiny
from tests.training.members import cohort

LIMIT = 200


class SquaredAction(gymnasium.Env):
    """Reward: action^2, of actions in [-2, 2]."""

    observation_space = gymnasium.spaces.Box(-10, 10, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-2, 2, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, np.float32), {}

    def step(self, action):
        return np.zeros(1, np.float32), float(action[0]) ** 2, False, False, {}


class Echo(gymnasium.Env):
    """Observes 0.2 in half of the steps and -0.2 in the others, and a constant; reward: the squared distance to both."""

    observation_space = gymnasium.spaces.Box(-10, 10, (2,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observe(), {}

    def step(self, action):
        reward = float(((action - self.seen) ** 2).sum())
        return self._observe(), reward, False, False, {}

    def _observe(self):
        self.seen = np.array([self.np_random.choice([-0.2, 0.2]), 0.5], np.float32)
        return self.seen.copy()


class Lasting(gymnasium.Env):
    """Reward 1 a step, for as many steps as it observes at the start, drawn from 1 to 40."""

    observation_space = gymnasium.spaces.Box(0, 50, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = int(self.np_random.integers(1, 41))
        return np.array([self.left], np.float32), {}

    def step(self, action):
        self.left -= 1
        return np.array([self.left], np.float32), 1.0, self.left == 0, False, {}


class Acting:
    """A policy whose actions are a function of observations [K, D] and noise [K, A]: (sampled, mean)."""

    def __init__(self, env, function, algorithm="sac"):
        self.spec, self._function = RunSpec(algorithm, tiny(algorithm), env, 0), function
        self.noise_dim = describe(env).action_dim

    def sampled_and_mean(self, observation, noise):
        assert observation.dtype == np.float32
        return self._function(observation, noise)


def measured(name, env, function, algorithm="sac", random=None):
    """Return a measure of a policy given as a function; `random`: {name: value} of a random policy."""
    return MEASURING[name](MeasuredPolicy(Acting(env, function, algorithm), lambda of: random | {"of": of})).value


def always(*action):
    def constant(observation, noise):
        return np.tile(np.array(action), (len(observation), 1))

    return lambda *seen: (math.nan * constant(*seen), constant(*seen))


@pytest.mark.parametrize("mean", [0.0, 0.5, -1.0])
def test_known_loss_to_action_noise_in_units_of_the_bounds_and_clipped(mean):
    env, z = register(SquaredAction, LIMIT), np.linspace(-6, 6, 10001)
    density = np.exp(-(z**2) / 2) / np.exp(-(z**2) / 2).sum()
    squared = 4 * np.clip(mean + 0.3 * z, -1, 1) ** 2
    expected, deviation = density @ squared, np.sqrt(density @ squared**2 - (density @ squared) ** 2)
    calm = LIMIT * 4 * mean**2
    assert measured("undisturbed", env, always(mean)) == calm
    noisy = measured("action-noise", env, always(mean))
    assert noisy == pytest.approx(LIMIT * expected, abs=4 * deviation * math.sqrt(LIMIT / 10))
    lost = measured("lost-to-action-noise", env, always(mean), random={"return_mean": -500.0})
    assert lost == (calm - noisy) / (calm + 500)


@pytest.mark.parametrize("size", [1.0, 3.0])
def test_observation_noise_is_a_tenth_of_the_deviation_under_a_random_policy(size):
    env, echo = register(Echo, LIMIT), lambda observation, noise: (observation, observation)
    random = {"observation_std": [size, 0.0], "return_mean": -1.0}
    assert measured("undisturbed", env, echo) == 0
    noisy = measured("observation-noise", env, echo, random=random)  # the constant has no noise
    assert noisy == pytest.approx(LIMIT * (0.1 * size) ** 2, rel=4 * math.sqrt(2 / LIMIT / 10))
    assert measured("lost-to-observation-noise", env, echo, random=random) == -noisy


def test_all_policies_of_an_environment_get_the_same_observation_noise():
    env, seen = register(SquaredAction, LIMIT), []

    def watching(action):
        return lambda observation, noise: (seen.append(observation), always(action)(observation, noise))[1]

    for action in (0.1, 1.0):
        measured("observation-noise", env, watching(action), random={"observation_std": [2.0]})
    first, second = np.concatenate(seen).reshape(2, -1)
    np.testing.assert_array_equal(first, second)
    assert first.std() == pytest.approx(0.2, rel=0.1)


def test_a_policy_that_ignores_observations_loses_nothing_to_observation_noise():
    random = {"observation_std": [0.7, 0.7, 2.0], "return_mean": -9999.0}
    assert measured("lost-to-observation-noise", "Pendulum-v1", always(0.3), random=random) == 0
    assert measured("lost-to-action-noise", "Pendulum-v1", always(0.3), random=random) != 0


@pytest.mark.parametrize("random", [200.0, 201.0, None])
def test_without_a_gain_no_lost_share_is_measured_and_the_reason_is_reported(random):
    policy = MeasuredPolicy(Acting(register(SquaredAction, LIMIT), always(0.5)), lambda env: {"return_mean": random})
    value, reason = MEASURING["lost-to-action-noise"](policy)
    assert math.isnan(value)
    known = "nan" if random is None else f"{random:.1f}"
    assert reason == f"no gain that could be lost: 200.0 undisturbed, and {known} by a random policy"


def test_each_disturbance_is_measured_for_sampled_actions_too():
    env, differing = register(SquaredAction, LIMIT), lambda seen, noise: (0 * noise + 0.5, 0 * noise + 1.0)
    random = {"return_mean": 0.0}
    assert measured("undisturbed", env, differing) == LIMIT * 4
    assert measured("undisturbed-sampled", env, differing) == LIMIT * 4 * 0.5**2
    noisy = measured("action-noise-sampled", env, differing)
    assert noisy == pytest.approx(LIMIT * 4 * (0.5**2 + 0.3**2), rel=0.1)
    lost = measured("lost-to-action-noise-sampled", env, differing, random=random)
    assert lost == (LIMIT - noisy) / LIMIT < 0 < measured("lost-to-action-noise", env, differing, random=random)
    sampled = {name.removesuffix("-sampled") for name in MEASURING if name.endswith("-sampled")}
    assert sampled == {name for name in MUJOCO if not name.endswith("-sampled")}
    assert MEASURING.keys() == ROBUSTNESS.keys()


def test_loss_to_mass_is_a_share_of_the_gain_in_the_environment_with_changed_masses():
    envs = []

    def random(env):
        envs.append(env)
        return {"return_mean": -1.0}

    MEASURING["lost-to-mass"](MeasuredPolicy(Acting("InvertedPendulum-v5", always(0.0)), random))
    assert envs == ["gymnasium:InvertedPendulum-v5"]


def test_known_returns_of_episodes_that_end_at_different_times():
    env = register(Lasting, LIMIT)
    played = MeasuredPolicy(Acting(env, always(0.0)), random=dict).played(robustness.Conditions())
    pool = Pool(env, derived_seeds(0, "examination/environments", 0, 10))
    lasting = pool.reset()[:, 0]
    pool.close()
    np.testing.assert_array_equal(played.returns, lasting)
    np.testing.assert_array_equal(played.last, np.zeros((10, 1)))
    assert played.terminated.all()


def test_an_algorithm_without_mean_actions_is_measured_with_sampled_actions():
    env, both = register(SquaredAction, LIMIT), lambda seen, noise: (0 * noise + 1.0, 0 * noise)
    assert measured("undisturbed", env, both, algorithm="sql") == LIMIT * 4
    assert measured("undisturbed", env, both, algorithm="sac") == 0


def to_a_side(observation, noise):
    """Continues along x; from the origin, noise chooses the side."""
    x = np.where(observation[:, :1] == 0, noise[:, :1], observation[:, :1])
    return np.concatenate([np.sign(x), 0 * x], axis=1), math.nan * noise


def ahead(observation, noise):
    return np.tile([0.0, -1.0], (len(noise), 1)), math.nan * noise


def staying(observation, noise):
    return 0 * noise, math.nan * noise


def to_the_nearest_axis(observation, noise):
    """Deterministic: continues along the longer coordinate; from the origin, always along x."""
    along_x = np.abs(observation[:, :1]) >= np.abs(observation[:, 1:])
    axis = np.concatenate([along_x, ~along_x], axis=1)
    return axis * np.where(observation < 0, -1.0, 1.0), math.nan * noise


@pytest.mark.parametrize(
    ("policy", "goals", "in_nats"),
    [(to_a_side, 2, math.log(2)), (ahead, 1, 0.0), (staying, 0, 0.0), (to_the_nearest_axis, 1, 0.0)],
)
def test_known_goals_of_sampled_actions_from_the_origin(policy, goals, in_nats):
    env = "gymnasium:MultiGoal-v0"
    assert measured("goals", env, policy) == goals
    assert measured("goal-entropy", env, policy) == pytest.approx(in_nats, abs=0.05)


def test_modes_are_counted_in_actions_sampled_at_the_origin():
    observations = []

    def to_four(observation, noise):
        observations.append(observation)
        x, y = noise.T
        along_x = (x + y > 0)[:, None]
        goal = np.concatenate([along_x * np.sign(x)[:, None], ~along_x * np.sign(x)[:, None]], axis=1)
        return 0.7 * goal + 0.1 * noise[:, ::-1], math.nan * noise

    assert measured("modes", "gymnasium:MultiGoal-v0", to_four) == 4
    assert measured("modes", "gymnasium:MultiGoal-v0", ahead) == 1
    np.testing.assert_array_equal(np.concatenate(observations), np.zeros((10_000, 2)))


def test_known_entropies():
    assert entropy(np.full(4, 0.25)) == pytest.approx(math.log(4))
    assert entropy(np.array([0.1, 0.3, 0, 0])) == pytest.approx(-(0.25 * math.log(0.25) + 0.75 * math.log(0.75)))
    assert str(entropy(np.array([0, 0.7, 0, 0]))) == str(entropy(np.zeros(4))) == "0.0"


def made(root, env, run_seed=0, weights_seed=0):
    """A store with one finished run of a policy as it is initialised by a seed."""
    config, dims = tiny(), (describe(env).observation_dim, describe(env).action_dim)
    policy = cohort([config], [weights_seed], dims=dims)
    spec = RunSpec("sac", config, env, run_seed)
    run = RunDirectory(root / "runs" / spec.id)
    write_json(run.path / "spec.json", spec.as_dict())
    saved = named_tensors(policy.learner.policy(policy.state))
    run.policy.write_bytes(save({name: leaf[0].contiguous() for name, leaf in saved.items()}, {"steps": "400"}))
    run.end("finished", steps=400)
    return Store(root), run


MUJOCO = [name for name, one in ROBUSTNESS.items() if one.requires != "goals"]


@pytest.mark.thorough
def test_repeated_measurements_are_bit_identical(tmp_path, as_workers):
    store, run = made(tmp_path / "a", "Hopper-v5")
    first = measure(store, run.id, MUJOCO, threads=2)
    store, run = made(tmp_path / "b", "Hopper-v5")
    torch.set_num_threads(2)
    try:
        torch.set_float32_matmul_precision("highest")
        again = {name: measure(store, run.id, [name])[name] for name in reversed(MUJOCO)}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert list(first) == MUJOCO
    np.testing.assert_equal(first, again)
    returns = [value for name, value in first.items() if ROBUSTNESS[name].unit == "return"]
    assert len(set(returns)) == len(returns)
    for policy in ("", "-sampled"):
        for name, (calm, disturbed) in {
            "lost-to-action-noise": ("undisturbed", "action-noise"),
            "lost-to-observation-noise": ("undisturbed", "observation-noise"),
            "lost-to-mass": ("unchanged-mass", "mass"),
        }.items():
            env = "Hopper-v5" if calm == "undisturbed" else "gymnasium:Hopper-v5"
            undisturbed, random = first[calm + policy], measured_random_policy(store, env)["return_mean"]
            lost = (undisturbed - first[disturbed + policy]) / (undisturbed - random)
            np.testing.assert_equal(first[name + policy], lost if undisturbed > random else math.nan)


def test_unchanged_masses_give_the_undisturbed_return(tmp_path):
    store, run = made(tmp_path, "gymnasium:Hopper-v5")
    values = measure(store, run.id, ["undisturbed", "unchanged-mass", "mass"])
    assert values["undisturbed"] == values["unchanged-mass"] != values["mass"]


def test_a_value_is_kept_until_the_policy_or_its_definition_changes(tmp_path, monkeypatch):
    store, run = made(tmp_path, "Hopper-v5")
    names, path = ["undisturbed", "action-noise"], run.path / "robustness.json"
    first = measure(store, run.id, names)
    known = read_json(path)
    assert {name: entry["value"] for name, entry in known.items()} == first
    assert {entry["reason"] for entry in known.values()} == {""}
    for entry in known.values():
        entry["value"] += 1
    write_json(path, known)
    kept = {name: value + 1 for name, value in first.items()}
    assert measure(store, run.id, names) == kept

    newer = replace(ROBUSTNESS["action-noise"], version=2)
    monkeypatch.setitem(ROBUSTNESS, "action-noise", newer)
    assert measure(store, run.id, names) == kept | {"action-noise": first["action-noise"]}
    assert read_json(path)["action-noise"]["version"] == 2

    made(tmp_path, "Hopper-v5", weights_seed=1)
    other = measure(store, run.id, names)
    assert not set(other.values()) & (set(first.values()) | set(kept.values()))
    elsewhere, _ = made(tmp_path / "b", "Hopper-v5", weights_seed=1)
    assert other == measure(elsewhere, run.id, names)

    path.write_text(path.read_text().replace("value", "volue"))
    assert measure(store, run.id, names) == other


def test_each_run_has_its_own_start_states(tmp_path):
    store, run = made(tmp_path, "Hopper-v5")
    _, other = made(tmp_path, "Hopper-v5", run_seed=1)
    assert measure(store, run.id, ["undisturbed"]) != measure(store, other.id, ["undisturbed"])


def test_a_missing_share_is_stored_with_its_reason(tmp_path, monkeypatch):
    store, run = made(tmp_path, "InvertedPendulum-v5")
    monkeypatch.setattr(robustness, "measured_random_policy", lambda store, env: {"return_mean": 1e6})
    first = measurements(store, run.id, ["lost-to-action-noise"])
    assert first["lost-to-action-noise"].reason.endswith(" and 1000000.0 by a random policy")
    assert read_json(run.path / "robustness.json")["lost-to-action-noise"]["value"] is None
    np.testing.assert_equal(measurements(store, run.id, ["lost-to-action-noise"]), first)


def test_a_diverged_run_has_no_values_and_an_unfinished_run_is_refused(tmp_path):
    store, run = made(tmp_path, "Hopper-v5")
    run.end("diverged", steps=200)
    assert all(map(math.isnan, measure(store, run.id, MUJOCO).values()))
    assert {one.reason for one in measurements(store, run.id, MUJOCO).values()} == {"the run diverged"}
    run.update(status="started")
    with pytest.raises(InputError, match=f"^run {run.id} cannot be measured: it has not finished$"):
        measure(store, run.id, MUJOCO)
    with pytest.raises(InputError, match="it has not finished"):
        measure(store, "0" * 16, MUJOCO)
    run.end("finished")
    run.policy.write_bytes(b"")
    with pytest.raises(InputError, match=r"policy\.safetensors: damaged: cut"):
        measure(store, run.id, MUJOCO)
    assert not (run.path / "robustness.json").exists()


@pytest.mark.parametrize(
    ("name", "env", "words"),
    [
        ("acton-noise", "Hopper-v5", "no robustness measure 'acton-noise'; did you mean 'action-noise'?"),
        (
            "goals",
            "Hopper-v5",
            "robustness measure 'goals': Hopper-v5: goals are counted in gymnasium:MultiGoal-v0 only",
        ),
        ("mass", "HumanoidWalk-v1", "masses can be changed only in Gymnasium's environments"),
        ("lost-to-mass", "Pendulum-v1", "Pendulum-v1: not one of Gymnasium's MuJoCo environments"),
        ("unchanged-mass", "HalfCheetah-v3", "'gymnasium:HalfCheetah-v3' cannot be made"),
    ],
)
def test_invalid_measures_are_refused_in_one_line(name, env, words):
    with pytest.raises(InputError) as error:
        check_robustness(["undisturbed", name], env)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


MULTIGOAL = """
name = "goals"
question = "Which goals does it reach?"
envs = ["gymnasium:MultiGoal-v0"]
seeds = 2
steps = 400
reference = "sac"

[base]
layers = [8]
learning_starts = 100
eval_every = 200
eval_episodes = 2

[variants.sac]
"""


@pytest.mark.soak
def test_trained_runs_on_the_multi_goal_task_can_be_measured(command, tmp_path):
    (tmp_path / "goals.toml").write_text(MULTIGOAL)
    ran = command("run", "goals.toml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    store = Store(tmp_path / "results")
    for run_id in store.run_ids():
        values = measure(store, run_id, ["undisturbed", "goals", "goal-entropy", "modes"])
        assert -30 * 110 < values["undisturbed"] < 0
        assert 0 <= values["goal-entropy"] <= math.log(4)
        assert values["goals"] in range(5)
        assert values["modes"] in range(5)
