"""EnvPool's MuJoCo tasks against Gymnasium's. What differs is listed in docs/environments.md.

Gymnasium's environment is put into EnvPool's state, both take the same action, and the results are compared.
EnvPool 1.2.5 is built with MuJoCo 3.6.0. Measured once with that MuJoCo under Gymnasium too: every observation of
every step below was equal to the bit. The tolerances are what MuJoCo 4.0.0 adds to that.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import envpool
import gymnasium
import mujoco
import numpy as np
import pytest
from scipy import stats

from sac_bench.envs.pool import Pool, describe

TASKS = ["HalfCheetah-v5", "Hopper-v5", "Walker2d-v5", "Ant-v5", "Humanoid-v5"]
PLANAR = TASKS[:3]
FREE = TASKS[3:]  # a free joint as root

# EnvPool's name of a reward term -> Gymnasium's. Hopper and Walker2d tell no terms in EnvPool.
TERMS = {
    "HalfCheetah-v5": {"reward_run": "reward_forward", "reward_ctrl": "reward_ctrl"},
    "Hopper-v5": {"x_velocity": "reward_forward"},
    "Walker2d-v5": {"x_velocity": "reward_forward"},
    "Ant-v5": {name: name for name in ("reward_forward", "reward_ctrl", "reward_contact", "reward_survive")},
    "Humanoid-v5": {
        "reward_linvel": "reward_forward",
        "reward_quadctrl": "reward_ctrl",
        "reward_alive": "reward_survive",
        "reward_impact": "reward_contact",
    },
}
ENVIRONMENTS, ROWS = 8, 150


class Comparison(NamedTuple):
    """Steps of both backends from the same states with the same actions, one row each."""

    observation: np.ndarray  # [2, S, D] of EnvPool and of Gymnasium
    reward: np.ndarray  # [2, S]
    terminated: np.ndarray  # [2, S]
    terms: dict[str, np.ndarray]  # by Gymnasium's names, [2, S]


def gymnasium_env(task):
    return gymnasium.make(task).unwrapped


def whole_state_pool(task, seeds):
    """EnvPool's environments, observing all of their state: positions left in, speeds not clipped."""
    unclipped = {"velocity_min": -np.inf, "velocity_max": np.inf} if task in ("Hopper-v5", "Walker2d-v5") else {}
    return envpool.make_gymnasium(
        task, num_envs=len(seeds), seed=seeds, exclude_current_positions_from_observation=False, **unclipped
    )


def place(env, state, warmstart, position):
    """Put Gymnasium's environment where another simulation is after a step, or after a reset: then `position` is NaN."""
    mujoco.mj_resetData(env.model, env.data)
    env.set_state(state[: env.model.nq], state[env.model.nq :][: env.model.nv])
    env.data.qacc_warmstart[:] = warmstart
    # Ant and Humanoid are paid for how far bodies moved, from where the last substep (RK4) left them.
    if np.isfinite(position).all():
        if env.spec.id == "Ant-v5":
            env.data.xpos[1, :2] = position
        else:
            mass = env.model.body_mass[:, None]
            env.data.xipos[:, :2] += position - ((mass * env.data.xipos).sum(axis=0) / mass.sum())[:2]


@functools.cache
def compared(task) -> Comparison:
    """Random steps of 8 environments through all their episodes."""
    seeds = list(range(100, 100 + ENVIRONMENTS))
    pool, twin = envpool.make_gymnasium(task, num_envs=ENVIRONMENTS, seed=seeds), whole_state_pool(task, seeds)
    env = gymnasium_env(task)
    env.reset(seed=0)
    pool.reset()
    state, _ = twin.reset()
    warmstart, position = np.zeros((ENVIRONMENTS, env.model.nv)), np.full((ENVIRONMENTS, 2), np.nan)
    space, random = env.action_space, np.random.default_rng(0)
    rows, terms = [], []
    for _ in range(ROWS):
        action = random.uniform(space.low, space.high, (ENVIRONMENTS, *space.shape))
        observation, reward, terminated, truncated, info = pool.step(action)
        after, *_ = twin.step(action)
        for k in range(ENVIRONMENTS):
            place(env, state[k], warmstart[k], position[k])
            theirs = env.step(action[k])
            warmstart[k] = env.data.qacc_warmstart
            rows.append((observation[k].copy(), theirs[0], reward[k], theirs[1], terminated[k], theirs[2]))
            terms.append([(info[own][k], theirs[4][name]) for own, name in TERMS[task].items()])
        state = after.copy()
        if task in FREE:
            position = np.stack([info["x_position"], info["y_position"]], axis=1)
        done = terminated | truncated
        if done.any():
            pool.reset(options={"reset_mask": done})
            fresh, info = twin.reset(options={"reset_mask": done})
            state[info["env_id"]] = fresh
            warmstart[done], position[done] = 0.0, np.nan
    pool.close()
    twin.close()
    columns = [np.array(column) for column in zip(*rows, strict=True)]
    by_name = dict(zip(TERMS[task].values(), np.array(terms).transpose(1, 2, 0), strict=True))
    return Comparison(np.stack(columns[:2]), np.stack(columns[2:4]), np.stack(columns[4:]), by_name)


def relative(pair):
    return np.abs(pair[0] - pair[1]) / (1 + np.abs(pair[1]))


# -- what an environment declares -------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_contract_backends_declare_the_same_sizes_bounds_and_limit(task):
    ours, theirs = describe(task), describe(f"gymnasium:{task}")
    for field in ("observation_dim", "action_dim", "max_episode_steps"):
        assert getattr(ours, field) == getattr(theirs, field), field
    for field in ("action_low", "action_high"):  # Gymnasium's are float32: 0.4 is 0.4000000059604645
        np.testing.assert_allclose(getattr(ours, field), getattr(theirs, field), rtol=6e-8)


@pytest.mark.parametrize("task", TASKS)
def test_contract_backends_share_weights_noise_and_health(task):
    env, pool = gymnasium_env(task), envpool.make_gymnasium(task, num_envs=1)
    config = pool.spec.config._asdict()
    pool.close()
    for name, (low, high) in {k: v for k, v in vars(env).items() if k.endswith("_range")}.items():
        bounds = name.removeprefix("_").removesuffix("_range")
        assert config.get(f"{bounds}_min", -np.inf) == low, name
        assert config.get(f"{bounds}_max", np.inf) == high, name
    names = ["frame_skip", "ctrl_cost_weight", "forward_reward_weight", "reset_noise_scale"]
    names += [] if task == "HalfCheetah-v5" else ["healthy_reward", "terminate_when_unhealthy"]
    names += ["contact_cost_weight"] if task in FREE else []
    for name in names:
        assert config[name] == getattr(env, name if name == "frame_skip" else f"_{name}"), name


# -- one step from the same state -------------------------------------------------------------------------------------

# The largest relative difference of an observation: (median, 99 % of the steps). Measured with MuJoCo 4.0.0:
# Ant-v5 (2.2e-5, 1.5e-2), its contact forces jump at impacts; Humanoid-v5 (1.0e-5, 7.2e-4).
OBSERVATION = {"Ant-v5": (2e-4, 1e-1), "Humanoid-v5": (1e-4, 7e-3)}
# The same for the rewards of moving and of contacts. Measured: Ant-v5 (1.4e-6, 3.7e-4), Humanoid-v5 (1.8e-5, 1.6e-4).
REWARD = {"Ant-v5": (1e-5, 4e-3), "Humanoid-v5": (2e-4, 2e-3)}


def assert_near(difference, bounds):
    assert np.median(difference) < bounds[0]
    assert np.quantile(difference, 0.99) < bounds[1]


@pytest.mark.thorough
@pytest.mark.parametrize("task", PLANAR)
def test_contract_backends_take_the_same_step_from_the_same_state(task):
    pair = compared(task)
    assert relative(pair.observation).max() < 1e-11  # measured: 2e-13
    assert np.abs(pair.reward[0] - pair.reward[1]).max() < 1e-6  # EnvPool's rewards are float32
    np.testing.assert_array_equal(*pair.terminated)
    for name, values in pair.terms.items():
        np.testing.assert_allclose(*values, rtol=0, atol=1e-12, err_msg=name)


@pytest.mark.thorough
@pytest.mark.parametrize("task", FREE)
def test_contract_backends_take_nearly_the_same_step_with_a_free_joint(task):
    pair = compared(task)
    assert_near(relative(pair.observation).max(axis=1), OBSERVATION[task])
    assert_near(np.abs(pair.reward[0] - pair.reward[1]), REWARD[task])
    np.testing.assert_array_equal(*pair.terminated)
    for name in ("reward_ctrl", "reward_survive"):
        np.testing.assert_allclose(*pair.terms[name], rtol=0, atol=1e-12, err_msg=name)
    for name in ("reward_forward", "reward_contact"):
        assert_near(np.abs(pair.terms[name][0] - pair.terms[name][1]), REWARD[task])
        assert np.abs(pair.terms[name]).max() > 0.005  # there was something to compare


@pytest.mark.parametrize("task", [FREE[0], *(pytest.param(task, marks=pytest.mark.thorough) for task in FREE[1:])])
def test_contract_envpools_reward_is_the_sum_of_its_terms(task):
    pair = compared(task)
    np.testing.assert_allclose(pair.reward[0], sum(values[0] for values in pair.terms.values()), atol=1e-6)


@pytest.mark.parametrize("task", [task for task in TASKS if task != "HalfCheetah-v5"])
def test_contract_the_compared_steps_include_failures(task):
    assert compared(task).terminated[0].sum() > 5


# -- where the state cannot be set: the draws of a reset, and whole episodes ------------------------------------------

# Fixed seeds: a test that fails at 1e-3 fails always or never, so the level is no rate of false alarms.
LEVEL = 1e-3


@pytest.mark.parametrize("task", TASKS)
def test_contract_backends_reset_to_the_same_distribution(task):
    env, pool = gymnasium_env(task), envpool.make_gymnasium(task, num_envs=20, seed=list(range(20)))
    size = env.model.nq + env.model.nv - (2 if task in FREE else 1)  # positions and velocities, without the root's x, y
    ours = np.concatenate([pool.reset()[0][:, :size] for _ in range(30)])
    pool.close()
    theirs = np.array([env.reset(seed=seed)[0][:size] for seed in range(600)])
    assert stats.ks_2samp(ours, theirs).pvalue.min() * size > LEVEL


def first_episodes(env_id, seed, count=40, cap=100):
    """Returns and lengths of `count` random first episodes, cut after `cap` steps."""
    action_dim, random = describe(env_id).action_dim, np.random.default_rng(seed)
    pool = Pool(env_id, [1000 * seed + k for k in range(count)])
    pool.reset()
    returns, lengths, running = np.zeros(count), np.zeros(count), np.ones(count, dtype=bool)
    for _ in range(cap):
        step = pool.step(random.uniform(-1, 1, (count, action_dim)))
        returns += running * step.reward
        lengths += running
        running &= ~(step.terminated | step.truncated)
    pool.close()
    return returns, lengths


@pytest.mark.thorough
@pytest.mark.parametrize("task", TASKS)
def test_contract_backends_give_a_random_policy_the_same_returns(task):
    (ours, lengths), (theirs, their_lengths) = first_episodes(task, 1), first_episodes(f"gymnasium:{task}", 2)
    assert stats.ttest_ind(ours, theirs, equal_var=False).pvalue > LEVEL
    if task == "HalfCheetah-v5":
        assert (lengths == their_lengths).all()
    else:
        assert stats.ttest_ind(lengths, their_lengths, equal_var=False).pvalue > LEVEL


# -- differences that stay ---------------------------------------------------------------------------------------------


def last_flags(make, actions, limit):
    """Terminated and truncated of the step that ends the first episode, and that step's number."""
    env = make(limit)
    env.reset()
    for t, action in enumerate(actions, start=1):
        _, _, terminated, truncated, _ = env.step(action)
        if np.any(terminated) or np.any(truncated):
            env.close()
            return bool(np.all(terminated)), bool(np.all(truncated)), t
    raise AssertionError("no episode ended")


def test_contract_envpool_reports_a_failure_at_the_limit_as_a_truncation():
    def ours(limit):
        return envpool.make_gymnasium("Hopper-v5", num_envs=1, seed=[7], max_episode_steps=limit)

    def theirs(limit):
        env = gymnasium.make("Hopper-v5", max_episode_steps=limit)
        env.reset(seed=7)
        env.reset = lambda: None  # the seeded start is the one to use
        return env

    actions = np.random.default_rng(0).uniform(-1, 1, (300, 3))
    *flags, failed_at = last_flags(ours, actions[:, None], 1000)
    assert flags == [True, False]
    assert last_flags(ours, actions[:, None], failed_at)[:2] == (False, True)
    *flags, failed_at = last_flags(theirs, actions, 1000)
    assert flags == [True, False]
    assert last_flags(theirs, actions, failed_at)[:2] == (True, True)


@pytest.mark.parametrize("task", FREE)
def test_contract_gymnasiums_x_position_is_that_of_the_root_and_envpools_is_not(task):
    pool = whole_state_pool(task, [3])
    pool.reset()
    observation, _, _, _, info = pool.step(np.zeros((1, describe(task).action_dim)))
    pool.close()
    env = gymnasium_env(task)
    env.reset(seed=3)
    assert env.step(np.zeros(env.action_space.shape))[4]["x_position"] == env.data.qpos[0]
    assert info["x_position"][0] != observation[0, 0]
