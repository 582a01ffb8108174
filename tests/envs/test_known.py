"""The table of the shipped experiments' environments equals what these say of themselves."""

from dataclasses import replace

import gymnasium
import numpy as np
import pytest

from sac_bench.envs import known
from sac_bench.envs.heavy import with_masses
from sac_bench.envs.known import KNOWN, WITH_MASSES, backend, check_masses, properties
from sac_bench.envs.pool import describe
from sac_bench.errors import InputError


@pytest.mark.parametrize("env_id", KNOWN)
def test_the_table_says_what_the_environment_says(env_id):
    assert replace(KNOWN[env_id], backend=backend(env_id)) == describe(env_id)


@pytest.mark.parametrize("env_id", WITH_MASSES)
def test_masses_can_be_changed_where_the_table_says_so(env_id):
    assert with_masses(env_id) == f"gymnasium:{env_id}"


def test_environments_that_are_not_in_the_table_are_asked():
    assert properties("Pendulum-v1") == describe("Pendulum-v1")
    with pytest.raises(InputError, match="masses can be changed only in Gymnasium's environments"):
        check_masses("HumanoidRun-v1")
    with pytest.raises(InputError, match="unknown environment 'Hoper-v5'; did you mean 'Hopper-v5'"):
        known.check("Hoper-v5")


def test_rows_for_other_versions_do_not_count(monkeypatch):
    monkeypatch.setitem(KNOWN, "Hopper-v5", replace(KNOWN["Hopper-v5"], backend="envpool 0", observation_dim=1))
    assert properties("Hopper-v5").observation_dim == 11


class Other(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (3,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)


def test_a_users_environment_under_a_known_id_is_asked(monkeypatch):
    own = gymnasium.envs.registration.EnvSpec("MultiGoal-v0", Other, max_episode_steps=30)
    monkeypatch.setitem(gymnasium.registry, "MultiGoal-v0", own)
    describe.cache_clear()
    asked = properties(known.MULTIGOAL)
    describe.cache_clear()
    assert asked.observation_dim == 3
    assert asked.definition
