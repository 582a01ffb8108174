"""Soft policy iteration does what section 4.1 of arXiv 1801.01290 proves, and SAC finds what it finds."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.answers import soft_policy_iteration as spi
from tests.answers.probes import Answers, Probe, register
from tests.answers.soft_policy_iteration import Chain, Policy
from tests.answers.squashed_gaussian import WEIGHTS, actions, entropy

GAMMA, ALPHAS = 0.8, (0.1, 0.5)


def constant(chain, mean, std):
    return Policy(np.full(len(chain.states), mean), np.full(len(chain.states), std))


@pytest.fixture(scope="module", params=[ALPHAS[0], pytest.param(ALPHAS[1], marks=pytest.mark.thorough)])
def iterated(request):
    chain = Chain(GAMMA, request.param)
    return chain, spi.soft_policy_iteration(chain, constant(chain, -0.5, 0.6))


def test_known_lemma_1_soft_evaluation_contracts_to_one_fixed_point():
    chain = Chain(GAMMA, 0.3)
    policy, random = constant(chain, 0.4, 0.7), np.random.default_rng(0)
    one, other = random.normal(size=(2, len(chain.states)))
    backed = [spi.soft_backup(chain, policy, v) for v in (one, other)]
    assert np.abs(backed[0] - backed[1]).max() <= GAMMA * np.abs(one - other).max()
    for _ in range(200):
        one = spi.soft_backup(chain, policy, one)
    np.testing.assert_allclose(one, spi.policy_evaluation(chain, policy), atol=1e-12)


@pytest.mark.thorough
def test_known_lemma_2_every_improvement_raises_q_everywhere(iterated):
    chain, history = iterated
    assert len(history) > 3
    x, a = np.meshgrid(chain.states, np.linspace(-0.99, 0.99, 21), indexing="ij")
    for (_, before), (_, after) in itertools.pairwise(history):
        assert (spi.q_values(chain, after, x, a) >= spi.q_values(chain, before, x, a) - 1e-9).all()
    assert (history[-1][1] > history[0][1] + 0.1).all()


@pytest.mark.thorough
def test_known_theorem_1_the_limit_does_not_depend_on_the_start(iterated):
    chain, history = iterated
    policy, v = history[-1]
    other_policy, other = spi.soft_policy_iteration(chain, constant(chain, 1.0, 0.3))[-1]
    np.testing.assert_allclose(other, v, atol=1e-5)
    np.testing.assert_allclose(np.tanh(other_policy.mean), np.tanh(policy.mean), atol=1e-2)


def test_known_theorem_1_each_improvement_is_the_best_policy_of_its_class(iterated):
    chain, history = iterated
    mean, log_std = np.meshgrid(np.linspace(-3, 3, 31), np.linspace(-4, 1, 26), indexing="ij")
    for (_, v), (improved, _) in itertools.pairwise(history):
        found = spi.soft_value(chain, v, chain.states, *improved)
        for s in range(0, len(chain.states), 8):
            assert found[s] >= spi.soft_value(chain, v, chain.states[s], mean, np.exp(log_std)).max() - 1e-6


def test_known_no_class_beats_the_soft_maximum(iterated):
    chain, history = iterated
    best = spi.soft_value_iteration(chain)
    assert (history[-1][1] <= best + 1e-6).all()
    np.testing.assert_allclose(history[-1][1], best, rtol=0.02)


def test_known_quadrature_agrees_with_a_fine_grid(iterated):
    # The entropy and the expectation again, by a plain sum over 200,001 actions.
    chain, history = iterated
    (mean, std), v = history[-1]
    u = np.linspace(-9, 9, 200_001)
    for s in (0, 20, 40):
        density = np.exp(-((u - mean[s]) ** 2) / (2 * std[s] ** 2)) / (std[s] * np.sqrt(2 * np.pi))
        a = np.tanh(u)
        value = spi.q_values(chain, v, chain.states[s], a) - chain.alpha * (np.log(density) - np.log1p(-(a**2)))
        assert np.trapezoid(density * value, u) == pytest.approx(v[s], abs=1e-4)


class ChainEnvironment(Probe):
    """The chain as an environment; a time limit of three steps truncates it, and changes no value."""

    def start(self):
        return float(self.np_random.uniform(-1, 1))

    def follow(self, at, action):
        return float(spi.next_state(at, action)), float(spi.reward(at, action)), False


def total_variation(one, other):
    """Share of the probability [S] that two squashed Gaussians place differently; the squashing leaves it as it is."""
    u = np.linspace(-8, 8, 4001)[:, None]
    densities = [np.exp(-((u - mean) ** 2) / (2 * std**2)) / (std * np.sqrt(2 * np.pi)) for mean, std in (one, other)]
    return np.trapezoid(np.abs(densities[0] - densities[1]), u, axis=0) / 2


def within_5_percent(found, expected):
    """Of the span of the answer: its values cross zero, where a share of each would mean nothing."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=0.05 * np.ptp(expected))


@pytest.mark.thorough
@pytest.mark.parametrize(
    "value_network", [pytest.param(False, id="q-only"), pytest.param(True, id="v-network", marks=pytest.mark.soak)]
)
def test_known_sac_finds_the_policies_of_soft_policy_iteration(value_network):
    answers = Answers(
        register(ChainEnvironment, limit=3),
        [{"temperature": alpha, "gamma": GAMMA} for alpha in ALPHAS],
        updates=1500,
        value_network=value_network,
        batch_size=128,
        actor_lr=1e-3,
        learning_starts=8000,
    )
    for member, alpha in enumerate(ALPHAS):
        chain = Chain(GAMMA, alpha)
        policy, v = spi.soft_policy_iteration(chain, constant(chain, 0.0, 0.6))[-1]
        x, a = np.meshgrid(chain.states, np.linspace(-0.9, 0.9, 7), indexing="ij")
        within_5_percent(answers.q(member, x, a).reshape(x.shape), spi.q_values(chain, v, x, a))
        mean, std = answers.gaussian(member, chain.states)
        if value_network:
            found = answers.v(member, chain.states)
        else:
            nodes = actions(mean, std)
            q = answers.q(member, chain.states[:, None], nodes).reshape(nodes.shape)
            found = q @ WEIGHTS + alpha * entropy(mean, std)
        within_5_percent(found, v)
        assert total_variation((mean, std), policy).mean() < 0.05
        # What the learned policy is worth, evaluated exactly.
        within_5_percent(spi.policy_evaluation(chain, Policy(mean, std)), v)


def test_known_reward_scale_is_the_inverse_of_a_fixed_temperature(monkeypatch):
    # The objective s r + alpha H has the same maximum as r + (alpha / s) H: all values scale by s, no policy changes.
    scale, start = 4.0, constant(Chain(GAMMA, 0.1), -0.5, 0.6)
    cooler = spi.soft_policy_iteration(Chain(GAMMA, 0.1), start)
    unscaled = spi.reward
    monkeypatch.setattr(spi, "reward", lambda x, a: scale * unscaled(x, a))
    scaled = spi.soft_policy_iteration(Chain(GAMMA, 0.1 * scale), start)
    np.testing.assert_allclose(scaled[-1][1], scale * cooler[-1][1], atol=1e-5)
    np.testing.assert_allclose(np.tanh(scaled[-1][0].mean), np.tanh(cooler[-1][0].mean), atol=1e-2)
