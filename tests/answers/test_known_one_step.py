"""A one-step problem whose maximum-entropy optimum lies in the policy class, and the limits the theory names.

The reward is r(a) = 1 + log N(atanh a; m, s) - log(1 - a^2): one plus the log-density of the squashed Gaussian (m, s).
With the reward scaled by alpha, the optimum exp(r / alpha) / Z is that squashed Gaussian, and V = alpha log Z = alpha.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sac_bench.algorithms import critics, sac
from sac_bench.algorithms.networks import Layer
from tests.algorithms.problem import Problem
from tests.answers.probes import Answers, Probe, register
from tests.answers.squashed_gaussian import entropy, log_density, widest

pytestmark = pytest.mark.thorough

M, S = 0.4, 0.75
ENTROPY = float(entropy(np.array(M), np.array(S)))


class DensityReward(Probe):
    def follow(self, at, action):
        return at, 1 + float(log_density(np.clip(action, -1 + 1e-6, 1 - 1e-6), M, S)), True


MEMBERS = {
    "alpha 0.3": {"temperature": 0.3, "reward_scale": 0.3},
    "alpha 3": {"temperature": 3.0, "reward_scale": 3.0},
    # dim(A) = 1, so minus the scale is the target entropy itself.
    "learned, its own entropy": {
        "learn_temperature": True,
        "temperature": 0.5,
        "temperature_lr": 2e-3,
        "target_entropy_scale": -ENTROPY,
    },
    "learned, a lower entropy": {
        "learn_temperature": True,
        "temperature": 0.3,
        "temperature_lr": 2e-3,
        "target_entropy_scale": 0.0,
    },
    "alpha -> 0": {"temperature": 1e-3},
    "alpha -> infinity": {"temperature": 300.0},
}
SETTINGS = {
    "updates": 2000,
    "learning_starts": 4800,
    "batch_size": 128,
    "layers": [64, 64],
    "activation": "silu",
    "actor_lr": 1e-3,
    "critic_lr": 2e-3,
    "pessimism": 0.0,
}


@pytest.fixture(scope="module")
def learned():
    answers = Answers(register(DensityReward, limit=10), list(MEMBERS.values()), **SETTINGS)
    names = list(MEMBERS)
    return answers, names.index


def policy(answers, member):
    (mean,), (std,) = answers.gaussian(member, [0.0])
    return float(mean), float(std)


@pytest.mark.parametrize("name", ["alpha 0.3", "alpha 3"])
def test_known_fixed_temperature_finds_the_optimum_in_its_class(learned, name):
    answers, member = learned
    mean, std = policy(answers, member(name))
    assert mean == pytest.approx(M, abs=0.05)
    assert std == pytest.approx(S, rel=0.05)


def test_known_learned_temperature_brings_the_entropy_to_its_target(learned):
    answers, member = learned
    for name, target in (("learned, its own entropy", ENTROPY), ("learned, a lower entropy", 0.0)):
        found = float(entropy(*map(np.array, policy(answers, member(name)))))
        assert found == pytest.approx(target, abs=0.05)


def test_known_learned_temperature_gives_the_optimal_policy_the_target_entropy(learned):
    answers, member = learned
    assert answers.alpha(member("learned, its own entropy")) == pytest.approx(1.0, rel=0.05)
    mean, std = policy(answers, member("learned, its own entropy"))
    assert mean == pytest.approx(M, abs=0.05)
    assert std == pytest.approx(S, rel=0.05)


def test_known_alpha_to_zero_is_greedy(learned):
    answers, member = learned
    mean, std = policy(answers, member("alpha -> 0"))
    a = np.linspace(-0.99, 0.99, 991)
    assert np.tanh(mean) == pytest.approx(a[answers.q(member("alpha -> 0"), 0.0, a).argmax()], abs=0.05)
    assert float(log_density(np.tanh(mean), M, S)) == pytest.approx(log_density(a, M, S).max(), abs=0.1)
    assert std * (1 - np.tanh(mean) ** 2) < 0.05


def test_known_alpha_to_infinity_is_the_widest_policy(learned):
    answers, member = learned
    mean, std = policy(answers, member("alpha -> infinity"))
    width, most = widest()
    assert mean == pytest.approx(0.0, abs=0.05)
    assert std == pytest.approx(width, rel=0.05)
    assert most == pytest.approx(np.log(2), abs=0.05)  # uniform on [-1, 1], of which the class falls short


@pytest.mark.soak
def test_known_soft_value_is_the_log_integral_of_exp_q():
    members = [MEMBERS["alpha 0.3"], MEMBERS["alpha 3"]]
    answers = Answers(register(DensityReward, limit=10), members, value_network=True, **SETTINGS)
    a = np.linspace(-0.9999, 0.9999, 20_001)
    for member, alpha in enumerate((0.3, 3.0)):
        integral = np.trapezoid(np.exp(answers.q(member, 0.0, a).astype(float) / alpha), a)
        (v,) = answers.v(member, [0.0])
        assert float(v) == pytest.approx(alpha * np.log(integral), abs=0.05 * alpha)
        assert float(v) == pytest.approx(alpha, rel=0.05)


def test_known_soft_value_is_the_same_for_every_action_at_the_optimum():
    # Q - alpha log pi = alpha log Z for each action, not in the mean only: our log-density against the reward's.
    problem = Problem()
    nets = critics.Networks((1, 2), (2, 1), (1, 1), critics=2, activation="relu")
    bias = torch.tensor([M, np.log(S)], dtype=torch.float64)
    actor = (Layer(torch.zeros(1, 2, dtype=torch.float64), bias),)  # weights 0: the biases are the policy
    noise = torch.linspace(-3, 3, 101, dtype=torch.float64)[:, None]
    action, log_pi, *_ = sac.policy(nets, actor, torch.zeros(101, 1, dtype=torch.float64), noise, problem.hyper)
    q = 0.7 * (1 + log_density(action[:, 0].numpy(), M, S))
    value = sac.soft_value(torch.from_numpy(q), log_pi, torch.tensor(0.7, dtype=torch.float64))
    np.testing.assert_allclose(value.numpy(), 0.7, rtol=0, atol=1e-9)
