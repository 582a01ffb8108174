"""Probe environments: what the whole trainer learns where the value is known by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.answers import probes
from tests.answers.probes import Answers, register
from tests.answers.squashed_gaussian import widest

GAMMAS = [{"gamma": 0.5}, {"gamma": 0.9}]
ACTIONS = np.array([-0.9, -0.3, 0.3, 0.9])


def near(values, expected, tolerance=0.05):
    np.testing.assert_allclose(values, np.broadcast_to(expected, np.shape(values)), rtol=0, atol=tolerance)


@pytest.fixture(scope="module")
def pair():
    """Members whose gamma, entropy and reward scale differ, on the reward that comes one step later."""
    entropy = {"temperature": 0.5}
    members = [*GAMMAS, {"reward_scale": 3.0}, entropy, entropy | {"entropy_in_backup": False}]
    return Answers(register(probes.LaterReward, limit=10), members, updates=900)


def test_probe_constant_reward():
    answers = Answers(register(probes.ConstantReward, limit=10), GAMMAS, updates=200)
    for member in range(2):
        near(answers.q(member, 0.0, ACTIONS), 1.0)


@pytest.mark.thorough
def test_probe_reward_one_step_later(pair):
    for member, (gamma, scale) in enumerate([(0.5, 1), (0.9, 1), (0.5, 3)]):
        near(pair.q(member, 1.0, ACTIONS), scale, 0.05 * scale)
        near(pair.q(member, 0.0, ACTIONS), scale * gamma, 0.05 * scale)


@pytest.mark.thorough
def test_probe_entropy_is_a_reward_of_the_next_step(pair):
    # Nothing depends on the action: the policy goes to the widest of its class, and Q(0) counts its entropy once.
    std, bonus = widest()
    for member, expected in ((3, 0.5 * (1 + 0.5 * bonus)), (4, 0.5)):
        near(pair.q(member, 0.0, ACTIONS), expected)
        near(pair.q(member, 1.0, ACTIONS), 1.0)
        mean, found = pair.gaussian(member, [0.0, 1.0])
        near(mean, 0.0, 0.1)
        near(found, std, 0.1)


@pytest.mark.thorough
def test_probe_reward_of_the_action():
    answers = Answers(register(probes.RewardOfAction, limit=10), [{}, {"pessimism": 0.0}], updates=900)
    for member in range(2):
        near(answers.q(member, 0.0, ACTIONS), 1 - (ACTIONS - 0.5) ** 2, 0.1)
        mean, _ = answers.gaussian(member, [0.0])
        near(np.tanh(mean), 0.5)


@pytest.mark.thorough
def test_probe_reward_of_the_observation():
    answers = Answers(register(probes.RewardOfObservation, limit=10), [{}], updates=500)
    near(answers.q(0, [-1.0, 1.0], 0.2), [-1.0, 1.0])


def stairs(x, gamma, steps):
    return sum(gamma**k * min(1.0, x + 0.25 * (k + 1)) for k in range(steps))


@pytest.mark.thorough
def test_probe_reward_of_the_action_of_a_deterministic_policy():
    env = register(probes.RewardOfAction, limit=10)
    answers = Answers(env, [{}, {"noise_correlation": 0.8}], updates=900, algorithm="td3", exploration_noise=0.5)
    for member in range(2):
        near(answers.q(member, 0.0, ACTIONS), 1 - (ACTIONS - 0.5) ** 2, 0.1)
        near(answers.action(member, [0.0]), 0.5)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "structure",
    [
        pytest.param({}, id=""),
        pytest.param({"n_step": 3}, id="three-steps", marks=pytest.mark.soak),
        pytest.param({"value_network": True}, id="v-network", marks=pytest.mark.soak),
        pytest.param({"algorithm": "ddpg"}, id="ddpg", marks=pytest.mark.soak),
    ],
)
def test_probe_truncation_bootstraps(structure):
    answers = Answers(register(probes.Stairs, limit=4), GAMMAS, updates=1600, **structure)
    for member, gamma in enumerate([0.5, 0.9]):
        for x in (0.0, 0.25, 0.5, 0.75, 1.0):
            expected = stairs(x, gamma, 1000)
            near(answers.q(member, x, ACTIONS), expected, 0.05 * expected)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "structure", [pytest.param({}, id=""), pytest.param({"n_step": 3}, id="three-steps", marks=pytest.mark.soak)]
)
def test_probe_termination_does_not_bootstrap(structure):
    answers = Answers(register(probes.EndingStairs, limit=10), GAMMAS, updates=1200, **structure)
    for member, gamma in enumerate([0.5, 0.9]):
        for start in range(4):
            near(answers.q(member, start / 4, ACTIONS), stairs(start / 4, gamma, 4 - start))
