"""Heavier bodies: the mass matrix that the factor says, and nothing else changed."""

import gymnasium
import mujoco
import numpy as np
import pytest

from sac_bench.envs.heavy import heavier
from sac_bench.envs.pool import Pool, describe
from sac_bench.errors import InputError


def mass_matrix(env):
    model, data = env.unwrapped.model, env.unwrapped.data
    env.reset(seed=0)
    mujoco.mj_forward(model, data)
    matrix = np.zeros((model.nv, model.nv))
    mujoco.mj_fullM(model, data, matrix)
    return matrix


@pytest.mark.parametrize("name", ["HalfCheetah-v5", "Humanoid-v5"])
def test_the_factor_multiplies_the_bodies_part_of_the_mass_matrix(name):
    plain, heavy = gymnasium.make(name), heavier(gymnasium.make(name), 1.5)
    armature = np.diag(plain.unwrapped.model.dof_armature)
    expected = 1.5 * (mass_matrix(plain) - armature) + armature
    np.testing.assert_allclose(mass_matrix(heavy), expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(heavy.unwrapped.model.body_subtreemass, 1.5 * plain.unwrapped.model.body_subtreemass)


def played(env_id, **options):
    pool, generator = Pool(env_id, [3, 4], **options), np.random.default_rng(0)
    observed = [pool.reset()]
    observed += [pool.step(generator.uniform(-1, 1, (2, 6))).observation for _ in range(50)]
    pool.close()
    return np.array(observed)


def test_heavy_half_cheetah_is_half_cheetah_with_twice_the_mass():
    plain, heavy = describe("gymnasium:HalfCheetah-v5"), describe("gymnasium:HeavyHalfCheetah-v5")
    assert (plain.observation_dim, plain.action_low, plain.max_episode_steps) == (
        heavy.observation_dim,
        heavy.action_low,
        heavy.max_episode_steps,
    )
    found = played("gymnasium:HeavyHalfCheetah-v5")
    np.testing.assert_array_equal(found, played("gymnasium:HalfCheetah-v5", wrapper=lambda env: heavier(env, 2.0)))
    plainly = played("gymnasium:HalfCheetah-v5")
    np.testing.assert_array_equal(found[0], plainly[0])
    assert np.abs(found[50] - plainly[50]).max() > 0.1


def test_a_factor_of_1_changes_nothing():
    unchanged = played("gymnasium:HalfCheetah-v5", wrapper=lambda env: heavier(env, 1.0))
    np.testing.assert_array_equal(unchanged, played("gymnasium:HalfCheetah-v5"))


def test_environments_without_masses_are_refused():
    with pytest.raises(InputError, match=r"^Pendulum-v1: not one of Gymnasium's MuJoCo environments"):
        heavier(gymnasium.make("Pendulum-v1"), 2.0)
    with pytest.raises(ValueError, match="EnvPool's environments cannot be wrapped"):
        Pool("HalfCheetah-v5", [0], wrapper=lambda env: heavier(env, 2.0))
