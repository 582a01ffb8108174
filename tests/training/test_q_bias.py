"""Q is compared with returns of the evaluation's own episodes, summed one by one."""

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map

from sac_bench.algorithms import sac, td3
from sac_bench.algorithms.critics import q_values
from sac_bench.algorithms.heads import pooled
from sac_bench.options.metric import names
from sac_bench.spec.run import RunSpec
from sac_bench.training.evaluate import evaluate
from sac_bench.training.metrics import Q_BIAS_METRICS
from sac_bench.training.q_bias import bonuses_to_go, compared, counted, horizon, returns_to_go
from sac_bench.training.random import Draws
from sac_bench.training.trainer import Trainer
from tests.conftest import tiny

SEEDS = (3, 8)


def evaluated(algorithm, env, episodes=2, **overrides):
    config = tiny(algorithm, precision="float64", **overrides)
    trained = Trainer([RunSpec(algorithm, config, env, seed) for seed in SEEDS], 200, compiled=False)
    return trained, evaluate(trained.cohort, trained.env, list(SEEDS), 0, episodes, threads=1)


@pytest.mark.parametrize("n", [1, 3])
def test_returns_and_bonuses_equal_explicit_sums(n):
    generator, gamma = np.random.default_rng(0), np.array([[0.9], [0.5]])
    lengths = np.array([[12, 5], [1, 9]])
    reward, bonus = generator.normal(size=(2, 12, 2, 2))
    paid, counted = returns_to_go(reward, lengths, gamma), bonuses_to_go(bonus, lengths, gamma, n)
    for m, e, t in np.ndindex(2, 2, 12):
        later = range(t, lengths[m, e])
        expected = sum(gamma[m, 0] ** (k - t) * reward[k, m, e] for k in later)
        assert paid[t, m, e] == pytest.approx(expected, abs=1e-12)
        expected = sum(gamma[m, 0] ** (k - t) * bonus[k, m, e] for k in list(later)[n::n])
        assert counted[t, m, e] == pytest.approx(expected, abs=1e-12)


def test_a_discount_falls_to_one_percent_at_its_horizon():
    gamma = np.array([0.0, 0.005, 0.2, 0.9, 0.99, 1.0])
    assert horizon(gamma).tolist() == [1, 1, 3, 44, 459, np.inf]
    k = horizon(gamma[1:-1])
    assert (gamma[1:-1] ** k <= 0.01).all()
    assert (gamma[2:-1] ** (k[1:] - 1) > 0.01).all()


def times(lengths, terminated, gamma, limit, steps=12):
    """The times that count in episodes of one member."""
    counts = counted(steps, np.array([lengths]), np.array([terminated]), np.array([[gamma]]), limit)
    return [np.flatnonzero(episode).tolist() for episode in counts[:, 0].T]


def test_counted_times_do_not_depend_on_how_an_episode_ends():
    early, late, truncated = times([4, 9, 10], [True, True, False], 0.2, 10)  # 0.2^3 = 0.008
    assert early == [0, 1, 2, 3]
    assert late == truncated == [0, 1, 2, 3, 4, 5, 6]


def test_no_state_counts_if_the_limit_is_within_the_horizon():
    assert times([2, 3], [True, False], 0.2, 3) == [[], []]
    assert times([2, 4], [True, False], 0.2, 4) == [[0], [0]]
    assert times([4, 10], [True, False], 1.0, 10) == [[], []]


def test_an_episode_cut_before_the_limit_counts_up_to_its_own_horizon():
    assert times([5], [False], 0.2, 10) == [[0, 1]]


def test_a_bias_is_a_share_of_the_mean_return():
    q, paid = np.array([-1.0, -3.0, -8.0]), np.array([-3.0, -4.0, -5.0])
    bias, spread, mean = compared(q, paid)  # differences 2, 1, -3
    assert (bias, mean) == (0.0, -4.0)
    assert spread == pytest.approx(np.sqrt(14 / 3) / 4)
    assert compared(q + 8, paid)[0] == 2.0
    assert np.isnan(compared(q[:0], paid[:0])).all()
    assert np.isnan(compared(q, np.array([-1.0, 0.0, 1.0]))[:2]).all()


def test_q_of_td3_is_compared_with_returns_of_mean_actions():
    """InvertedPendulum gives reward 1 per step, and 0 in the step in which it falls."""
    _, found = evaluated("td3", "InvertedPendulum-v5", gamma=0.8, reward_scale=3.0)
    for m, lengths in enumerate(found.lengths[:, 0]):
        assert lengths.max() < 1000
        expected = [3 * (1 - 0.8 ** (length - t - 1)) / 0.2 for length in lengths for t in range(length)]
        assert float(found.bias["monte_carlo_return"][m]) == pytest.approx(np.mean(expected), rel=1e-6)


def test_no_bias_is_measured_if_the_time_limit_is_within_the_horizon():
    assert evaluated("sac", "Pendulum-v1")[1].bias["normalized_q_bias"].isnan().all()  # 200 steps, gamma 0.99
    assert evaluated("sac", "Pendulum-v1", gamma=0.9)[1].bias["normalized_q_bias"].isfinite().all()
    fixed = {"learn_temperature": False, "temperature": 0.0}
    by_mean = evaluated("sac", "Pendulum-v1", gamma=0.9, stochastic_updates=False, **fixed)[1]
    assert by_mean.bias["monte_carlo_return"].isnan().all()


SETTINGS = [
    {"reward_scale": 2.0, "temperature": 0.3, "pessimism": 0.4},
    {"n_step": 3, "normalize_observations": True, "mixture": 2},
    {"entropy_in_backup": False, "critics": 3},
]


@pytest.mark.parametrize("overrides", SETTINGS)
def test_q_of_sac_is_compared_with_returns_of_sampled_actions(recorded, overrides):
    episodes = 3
    trained, found = evaluated("sac", "Hopper-v5", episodes, gamma=0.9, **overrides)
    (pool,), config = recorded[1], trained.config
    nets, width = trained.cohort.learner.act.args[0], trained.cohort.learner.noise_dim
    rewards = np.stack(pool.paid)
    for m, seed in enumerate(SEEDS):
        hyper = {name: values[m] for name, values in trained.cohort.hyper.items()}
        params = tree_map(lambda leaf, m=m: leaf[m], trained.cohort.state["params"])
        alpha, q_less_paid, all_paid = config.temperature * config.entropy_in_backup, [], []
        for e in range(episodes):
            length, place = found.lengths[m, 1, e], (2 * m + 1) * episodes + e
            q, log_pi = [], []
            assert length < trained.env.max_episode_steps - 44  # so all of its states count
            for t in range(length):
                draws = Draws({"evaluation/0": (episodes, width)}, torch.float64)
                noise = draws.at(torch.tensor([seed]), t).normal("evaluation/0")[0, e : e + 1]
                seen = torch.as_tensor(pool.shown[t][place : place + 1]).double()
                if config.normalize_observations:
                    seen = (seen / (1 + 1e-8) ** 0.5).clamp(-10, 10)
                sample = sac.policy(nets, params["actor"], seen, noise, hyper)
                np.testing.assert_allclose(sample.action[0], pool.sent[t][place], rtol=0, atol=1e-6)
                q.append(float(pooled(q_values(nets, params["critic"], seen, sample.action), hyper["pessimism"])))
                log_pi.append(float(sample.log_pi))
            for t in range(length):
                paid = sum(0.9 ** (k - t) * config.reward_scale * rewards[k, place] for k in range(t, length))
                paid -= sum(
                    0.9 ** (k - t) * alpha * log_pi[k] for k in range(t, length)[config.n_step :: config.n_step]
                )
                q_less_paid.append(q[t] - paid)
                all_paid.append(paid)
        size = abs(np.mean(all_paid))
        bias, spread, mean = (float(found.bias[name][m]) for name in names(Q_BIAS_METRICS))
        assert bias == pytest.approx(np.mean(q_less_paid) / size, rel=1e-6)
        assert spread == pytest.approx(np.std(q_less_paid) / size, rel=1e-6)
        assert mean == pytest.approx(np.mean(all_paid), rel=1e-6)


def test_q_of_td3_is_the_value_of_its_policys_action():
    trained, _ = evaluated("td3", "Pendulum-v1", episodes=1, pessimism=0.5)
    learner, observation = trained.cohort.learner, torch.randn(2, 5, 3, dtype=torch.float64)
    q, bonus = trained.cohort.value(observation, torch.zeros(2, 5, 1, dtype=torch.float64))
    for m in (0, 1):
        params = tree_map(lambda leaf, m=m: leaf[m], trained.cohort.state["params"])
        action = td3.policy(learner.act.args[0], params["actor"], observation[m])
        both = q_values(learner.act.args[0], params["critic"], observation[m], action)
        torch.testing.assert_close(q[m], 0.5 * both.mean(0) + 0.5 * both.min(0).values)
    assert not bonus.any()
