"""Parity with Stable-Baselines3's PPO: same weights, same minibatches, in float64 on both sides.

The peer's cast of observations to float32 is removed, for exactness. Everything else is its own
`PPO.train` and `RolloutBuffer`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer

from sac_bench.algorithms import on_policy
from tests.algorithms.problem import B, Problem
from tests.algorithms.rollout_peers import assert_same_parameters, buffered, in_float64
from tests.algorithms.test_parity_sb3 import Spaces


class Peer:
    """Stable-Baselines3's PPO with a Problem's weights, fed with its minibatches."""

    def __init__(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        config = problem.config
        self.ppo = PPO(
            "MlpPolicy",
            Spaces(),
            learning_rate=config.learning_rate,
            n_steps=B,
            batch_size=B,
            n_epochs=1,
            clip_range=config.clip,
            clip_range_vf=config.clip_value or None,
            normalize_advantage=config.normalize_advantage,
            ent_coef=config.entropy_coefficient,
            vf_coef=config.value_coefficient,
            max_grad_norm=config.max_grad_norm or 1e9,
            target_kl=config.target_kl or None,
            policy_kwargs={"net_arch": list(config.layers)},
            device="cpu",
        )
        in_float64(self.ppo, problem, monkeypatch)
        monkeypatch.setattr(self.ppo.rollout_buffer, "get", lambda size: iter(self._minibatches))

    def train(self, batches) -> dict[str, float]:
        """One rollout's minibatches, one epoch of them."""
        self._minibatches = [buffered(batch) for batch in batches]
        self.ppo.train()
        return self.ppo.logger.name_to_value


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"clip_value": 0.3}, id="clipped-values"),
        pytest.param({"entropy_coefficient": 0.05, "value_coefficient": 0.7}, id="entropy"),
        pytest.param({"normalize_advantage": False, "clip": 0.05}, id="raw-advantages"),
        pytest.param({"max_grad_norm": 0.0, "learning_rate": 0.01}, id="no-gradient-clipping"),
        pytest.param({"max_grad_norm": 0.05, "layers": [16]}, id="much-gradient-clipping"),
    ],
)
def test_parity_with_stable_baselines3(overrides, monkeypatch):
    problem = Problem("ppo", **overrides)
    peer = Peer(problem, monkeypatch)
    for _ in range(12):
        batch = problem.samples()
        theirs = peer.train([batch])
        problem.state, metrics = problem.learner.update(problem.state, problem.hyper, batch, {})
        for name, value in {
            "loss": theirs["train/loss"],
            "policy_loss": theirs["train/policy_gradient_loss"],
            "value_loss": theirs["train/value_loss"],
            "entropy": -theirs["train/entropy_loss"],
            "approx_kl": theirs["train/approx_kl"],
            "clip_fraction": theirs["train/clip_fraction"],
        }.items():
            assert float(metrics[name]) == pytest.approx(value, rel=0, abs=1e-7 if name == "clip_fraction" else 1e-9)
        assert 0 < float(metrics["clip_fraction"]) < 1
    assert_same_parameters(problem, peer.ppo)


def test_parity_of_stopping_at_a_target_kl(monkeypatch):
    problem = Problem("ppo", target_kl=0.003, learning_rate=0.01)
    peer = Peer(problem, monkeypatch)
    start, stops = problem.state["params"], []
    for rollout in range(3):
        batches = [problem.samples() for _ in range(12)]
        for batch in batches:  # as if the rollout were of the current policy
            batch["log_prob"], _ = on_policy.evaluated(
                problem.nets, problem.state["params"], batch["observation"], batch["action"]
            )
        peer.train(batches)
        problem.state = problem.state | {"stopped": torch.zeros((), dtype=torch.bool)}
        flags = []
        for batch in batches:
            problem.state, metrics = problem.learner.update(problem.state, problem.hyper, batch, {})
            assert all(value.isfinite() for value in metrics.values())
            flags.append(bool(metrics["stopped"]))
        assert flags == sorted(flags)  # once stopped, stopped
        stops.append(flags.count(False))
        assert_same_parameters(problem, peer.ppo)
        assert int(problem.state["updates"]) == 12 * (rollout + 1)
    assert 0 < stops[0] < 12 == stops[1]  # one ends early, and the next does not
    assert not torch.equal(start["critic"][0].weight, problem.state["params"]["critic"][0].weight)


def test_advantages_equal_those_of_stable_baselines3s_buffer():
    steps, envs, generator = 37, 3, np.random.default_rng(0)
    buffer = RolloutBuffer(steps, Spaces.observation_space, Spaces.action_space, "cpu", 0.9, 0.97, envs)
    reward, value = generator.normal(size=(2, steps + 1, envs))
    done = (generator.random((steps, envs)) < 0.2).astype(np.float64)
    for name in ("rewards", "values", "advantages", "returns", "episode_starts"):
        setattr(buffer, name, np.zeros((steps, envs)))
    buffer.rewards[:], buffer.values[:], buffer.episode_starts[1:] = reward[:-1], value[:-1], done[:-1]
    buffer.compute_returns_and_advantage(torch.as_tensor(value[-1]), done[-1])
    hyper = {"gamma": torch.tensor(0.97, dtype=torch.float64), "gae_lambda": torch.tensor(0.9, dtype=torch.float64)}
    ours = on_policy.advantages(*map(torch.as_tensor, (reward[:-1], value[:-1], value[1:], done, done)), hyper)
    np.testing.assert_allclose(ours.numpy(), buffer.advantages, rtol=0, atol=1e-10)
    assert done.any()
