"""PPO's pieces against plain loops over steps in NumPy; minibatch updates are checked in test_parity_ppo.py."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.vec_env import VecNormalize
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms import on_policy
from sac_bench.algorithms.networks import init_mlp
from sac_bench.training.random import uniform
from tests.algorithms.problem import A, D, Problem

N = 3


def doubles(*values: float) -> tuple[torch.Tensor, ...]:
    return tuple(torch.tensor(value, dtype=torch.float64) for value in values)


@given(
    steps=st.integers(1, 40),
    envs=st.integers(1, 3),
    ends=st.floats(0, 0.9),
    gamma=st.sampled_from([0.0, 0.9, 1.0]),
    lam=st.sampled_from([0.0, 0.95, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_advantages_and_running_returns_equal_a_loops(steps, envs, ends, gamma, lam, seed):
    generator = np.random.default_rng(seed)
    reward, value, next_value = generator.normal(size=(3, steps, envs))
    done = (generator.random((steps, envs)) < ends).astype(float)
    final = done * (generator.random((steps, envs)) < 0.5)
    expected, ahead = np.zeros((steps, envs)), np.zeros(envs)
    for t in reversed(range(steps)):
        delta = reward[t] + gamma * (1 - final[t]) * next_value[t] - value[t]
        ahead = expected[t] = delta + gamma * lam * (1 - done[t]) * ahead
    hyper = dict(zip(("gamma", "gae_lambda"), doubles(gamma, lam), strict=True))
    tensors = [torch.as_tensor(x) for x in (reward, value, next_value, final, done)]
    np.testing.assert_allclose(on_policy.advantages(*tensors, hyper).numpy(), expected, rtol=0, atol=1e-10)

    carried = running = generator.normal(size=envs)
    for t in range(steps):
        expected[t] = running = reward[t] + gamma * running
        running = running * (1 - done[t])
    returns, carry = on_policy.running_returns(tensors[0], tensors[-1], torch.as_tensor(carried), hyper["gamma"])
    np.testing.assert_allclose(returns.numpy(), expected, rtol=0, atol=1e-10)
    np.testing.assert_allclose(carry.numpy(), running, rtol=0, atol=1e-10)


def rollout(steps: int, seed: int) -> dict[str, torch.Tensor]:
    """Transitions [steps * N, ...] of N environments, with every kind of end."""
    generator = np.random.default_rng(seed)

    def normal(*shape):
        return torch.as_tensor(generator.normal(size=(steps * N, *shape)))

    terminated = (normal() > 0.8).double()
    truncated = (1 - terminated) * (normal() > 0.8)
    assert terminated.any()
    assert truncated.any()
    return {
        "observation": 5 * normal(D) + 2,
        "action": normal(A),
        "reward": 40 * normal(1) + 3,
        "length": torch.ones(steps * N, dtype=torch.float64),
        "terminated": terminated,
        "truncated": truncated,
        "next_observation": 5 * normal(D) + 2,
    }


def forward(network, x: np.ndarray) -> np.ndarray:
    for i, (weight, bias) in enumerate(network):
        x = np.tanh(x) if i else x
        x = x @ weight.numpy() + bias.numpy()
    return x


def test_log_prob_equals_that_of_the_normal_distribution():
    problem = Problem("ppo")
    problem.state["params"]["actor"]["log_std"] += torch.tensor([0.3, -0.7])
    params, x, action = problem.state["params"], problem.normal(5, D), problem.normal(5, A)
    log_prob, _ = on_policy.evaluated(problem.nets, params, x, action)
    mean = torch.as_tensor(forward(params["actor"]["mean"], x.numpy()))
    normal = torch.distributions.Normal(mean, params["actor"]["log_std"].exp())
    torch.testing.assert_close(log_prob, normal.log_prob(action).sum(-1), rtol=0, atol=1e-12)


@pytest.mark.parametrize("bootstrap", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_prepared_samples_equal_a_loops(bootstrap, normalize):
    problem = Problem(
        "ppo",
        num_envs=N,
        rollout=48,
        eval_every=48,
        bootstrap_truncated=bootstrap,
        normalize_observations=normalize,
        normalize_rewards=normalize,
    )
    config, params, state = problem.config, problem.state["params"], problem.state
    seen, returns, running = np.zeros((0, D)), [], np.zeros(N)
    for seed in range(3):
        sent = rollout(16, seed)
        data = {name: part.numpy() for name, part in sent.items()}
        mean, std = (seen.mean(0), np.sqrt(seen.var(0) + 1e-8)) if len(seen) else (0.0, np.sqrt(1 + 1e-8))

        def scale(x, m=mean, s=std):
            return np.clip((x - m) / s, -10, 10) if normalize else x

        value, next_value = (
            forward(params["critic"], scale(data[k]))[:, 0] for k in ("observation", "next_observation")
        )

        def row(t):
            return slice(t * N, (t + 1) * N)

        done = data["terminated"] + data["truncated"]
        for t in range(16):
            running = data["reward"][row(t), 0] + config.gamma * running
            returns.append(running)
            running = running * (1 - done[row(t)])
        reward = data["reward"][:, 0]
        if normalize:
            reward = np.clip(reward / np.sqrt(np.var(returns) + 1e-8), -10, 10)
        advantage, ahead = np.zeros(48), np.zeros(N)
        for t in reversed(range(16)):
            goes_on = 1 - (data["terminated"] if bootstrap else done)[row(t)]
            delta = reward[row(t)] + config.gamma * goes_on * next_value[row(t)] - value[row(t)]
            ahead = advantage[row(t)] = delta + config.gamma * config.gae_lambda * (1 - done[row(t)]) * ahead
        seen = np.concatenate([seen, data["observation"]])

        state = state | {"stopped": torch.ones((), dtype=torch.bool)}
        state, samples = problem.learner.prepare(state, problem.hyper, sent)
        expected = {
            "observation": scale(data["observation"]),
            "action": data["action"],
            "value": value,
            "advantage": advantage,
            "return": advantage + value,
        }
        for name, array in expected.items():
            np.testing.assert_allclose(samples[name].numpy(), array, rtol=0, atol=1e-10, err_msg=name)
        assert samples.keys() - expected.keys() == {"log_prob"}
        log_prob, _ = on_policy.evaluated(problem.nets, params, samples["observation"], samples["action"])
        assert torch.equal(samples["log_prob"], log_prob)
        assert not state["stopped"]
        for part, values in (("observation", seen), ("return", np.array(returns).flatten())):
            found = state["normalizer"][part]
            np.testing.assert_allclose(found["mean"].numpy(), values.mean(0), rtol=1e-12)
            np.testing.assert_allclose(found["var"].numpy(), values.var(0), rtol=1e-10)
            assert float(found["count"]) == len(values)


def test_reward_normalisation_equals_that_of_stable_baselines3():
    class Envs:
        """The only method of environments that VecNormalize requires."""

        num_envs, observation_space, action_space, render_mode = N, None, None, None

        def step_wait(self):
            ended = done[self.t]
            self.t += 1
            return np.zeros((N, D)), reward[self.t - 1], ended > 0, [{}] * N

    sent = rollout(20, 5)
    reward = sent["reward"].reshape(20, N).numpy()
    done = (sent["terminated"] + sent["truncated"]).reshape(20, N).numpy()
    peer = VecNormalize.__new__(VecNormalize)
    peer.venv, peer.num_envs, peer.training, peer.norm_obs, peer.norm_reward = Envs(), N, True, False, True
    peer.venv.t, peer.gamma, peer.epsilon, peer.clip_reward, peer.returns = 0, 0.99, 1e-8, 10.0, np.zeros(N)
    peer.ret_rms = RunningMeanStd(epsilon=0, shape=())
    peer._sanity_checks = lambda: None
    for _ in range(20):
        peer.step_wait()
    problem = Problem("ppo", num_envs=N, rollout=60, batch_size=20, eval_every=60, gae_lambda=0.0)
    state, samples = problem.learner.prepare(problem.state, problem.hyper, sent)
    np.testing.assert_allclose(float(state["normalizer"]["return"]["var"]), peer.ret_rms.var, rtol=1e-12)
    np.testing.assert_allclose(state["normalizer"]["running_return"].numpy(), peer.returns, atol=1e-10)
    # With lambda = 0 the reward of a terminated step is its return; SB3 casts to float32.
    ends = sent["terminated"] > 0
    theirs = peer.normalize_reward(reward).flatten()[ends.numpy()]
    np.testing.assert_allclose(samples["return"][ends].numpy(), theirs, rtol=1e-6)


def test_normalised_observations_and_rewards_are_clipped_at_ten():
    problem = Problem("ppo", num_envs=N, rollout=48, eval_every=48, gae_lambda=0.0, gamma=0.0)
    sent = rollout(16, 0)
    problem.state, _ = problem.learner.prepare(problem.state, problem.hyper, sent)
    # One value far off among K is sqrt(K) deviations away.
    for seed in range(1, 21):
        problem.state, _ = problem.learner.prepare(problem.state, problem.hyper, rollout(16, seed))
    sent["observation"][0], sent["reward"][7] = 1e6, -1e6
    _, samples = problem.learner.prepare(problem.state, problem.hyper, sent)
    assert samples["observation"][0].tolist() == [10.0] * D
    assert float(samples["return"][7]) == pytest.approx(-10.0, abs=1e-12)


def test_acting_normalises_observations_and_adds_noise_of_the_policys_deviation():
    problem = Problem("ppo", num_envs=N, rollout=48, eval_every=48)
    problem.state, _ = problem.learner.prepare(problem.state, problem.hyper, sent := rollout(16, 0))
    problem.state["params"]["actor"]["log_std"][:] = torch.tensor([0.5, -1.0])
    x, noise, seen = problem.normal(4, D) * 5, problem.normal(4, A), sent["observation"].numpy()
    sampled, mean = problem.learner.act(problem.learner.policy(problem.state), problem.hyper, x, noise)
    scaled = np.clip((x.numpy() - seen.mean(0)) / seen.std(0), -10, 10)
    np.testing.assert_allclose(mean.numpy(), forward(problem.state["params"]["actor"]["mean"], scaled), atol=1e-8)
    expected = mean + torch.tensor([math.exp(0.5), math.exp(-1.0)]) * noise
    torch.testing.assert_close(sampled, expected, rtol=0, atol=1e-6)


def test_the_learning_rate_falls_with_every_rollout():
    problem = Problem("ppo", rollout=32, epochs=2, anneal_steps=80, learning_rate=0.5)
    rates = [float(on_policy.annealed(problem.nets, torch.tensor(u), problem.hyper)) for u in range(16)]
    assert rates == pytest.approx([0.5] * 4 + [0.3] * 4 + [0.1] * 4 + [0.0] * 4)
    never = Problem("ppo", learning_rate=0.5)
    assert float(on_policy.annealed(never.nets, torch.tensor(10**9), never.hyper)) == 0.5
    # The update takes it: at a rate of 0 nothing moves.
    problem.state["updates"] += 12
    new, _ = problem.learner.update(problem.state, problem.hyper, problem.samples(), {})
    assert torch.equal(new["params"]["critic"][0].weight, problem.state["params"]["critic"][0].weight)


def test_initial_weights_are_orthogonal_with_their_gain():
    params = Problem("ppo", layers=[40, 40]).state["params"]
    for network, last in ((params["actor"]["mean"], 0.01), (params["critic"], 1.0)):
        for (weight, bias), gain in zip(network, (math.sqrt(2), math.sqrt(2), last), strict=True):
            small = weight if weight.shape[0] <= weight.shape[1] else weight.T
            torch.testing.assert_close(small @ small.T, gain**2 * torch.eye(len(small)).double(), rtol=0, atol=1e-12)
            assert not bias.any()
    # Signs are not those of a QR factorisation, all of whose first rows would lean one way.
    draws = [lambda n, s, k=k: uniform(k, n, s, torch.float64) for k in range(60)]
    firsts = [init_mlp(draw, "x", (2, 2), initialisation="orthogonal") for draw in draws]
    positive = np.mean([float(network[0].weight[0, 0]) > 0 for network in firsts])
    assert 0.25 < positive < 0.75


def test_shape_of_state_uses_no_memory_and_has_the_shapes_of_the_state():
    problem = Problem("ppo", layers=[8, 4])
    shapes = problem.learner.shape_of_state(problem.hyper)
    assert tree_map(lambda leaf: leaf.shape, shapes) == tree_map(lambda leaf: leaf.shape, problem.state)
    assert all(leaf.device.type == "meta" for leaf in tree_leaves((shapes["params"], shapes["adam"])))
