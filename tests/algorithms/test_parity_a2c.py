"""Parity with Stable-Baselines3's A2C: same weights, same rollouts, in float64 on both sides."""

from __future__ import annotations

import inspect

import pytest
import torch
from stable_baselines3 import A2C

from sac_bench.options.a2c import A2CConfig
from tests.algorithms.problem import B, Problem
from tests.algorithms.rollout_peers import assert_same_parameters, buffered, in_float64
from tests.algorithms.test_parity_sb3 import Spaces


def peer_of(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> A2C:
    """Stable-Baselines3's A2C with a Problem's settings and weights."""
    config = problem.config
    peer = A2C(
        "MlpPolicy",
        Spaces(),
        learning_rate=lambda left: config.learning_rate * (left if config.anneal_steps else 1.0),
        n_steps=B,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        ent_coef=config.entropy_coefficient,
        vf_coef=config.value_coefficient,
        max_grad_norm=config.max_grad_norm or 1e9,
        rms_prop_eps=config.rmsprop_epsilon,
        normalize_advantage=config.normalize_advantage,
        policy_kwargs={"net_arch": list(config.layers)},
        device="cpu",
    )
    in_float64(peer, problem, monkeypatch)
    peer.policy.optimizer.param_groups[0]["alpha"] = config.rmsprop_decay
    return peer


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"entropy_coefficient": 0.05, "value_coefficient": 0.7}, id="entropy"),
        pytest.param({"normalize_advantage": True}, id="normalised-advantages"),
        pytest.param({"max_grad_norm": 0.0, "learning_rate": 0.01, "rmsprop_epsilon": 0.1}, id="no-gradient-clipping"),
        pytest.param({"max_grad_norm": 0.05, "rmsprop_decay": 0.5, "layers": [16]}, id="much-gradient-clipping"),
        pytest.param({"anneal_steps": 20 * B}, id="annealed"),
    ],
)
def test_parity_with_stable_baselines3(overrides, monkeypatch):
    problem = Problem("a2c", **overrides)
    peer = peer_of(problem, monkeypatch)
    start = problem.state["params"]["critic"][0].weight
    for number in range(12):
        batch = problem.samples()
        monkeypatch.setattr(peer.rollout_buffer, "get", lambda batch_size, batch=batch: iter([buffered(batch)]))
        if problem.config.anneal_steps:
            peer._current_progress_remaining = 1 - number * B / problem.config.anneal_steps
        peer.train()
        problem.state, metrics = problem.learner.update(problem.state, problem.hyper, batch, {})
        logged = peer.logger.name_to_value
        for name, value in {
            "policy_loss": logged["train/policy_loss"],
            "value_loss": logged["train/value_loss"],
            "entropy": -logged["train/entropy_loss"],
        }.items():
            assert float(metrics[name]) == pytest.approx(value, rel=0, abs=1e-9)
        assert_same_parameters(problem, peer)
    assert not torch.equal(start, problem.state["params"]["critic"][0].weight)


def test_defaults_are_those_of_stable_baselines3():
    theirs = {name: one.default for name, one in inspect.signature(A2C).parameters.items()}
    ours = A2CConfig()
    pairs = {
        "learning_rate": ours.learning_rate,
        "n_steps": ours.rollout_steps,
        "gamma": ours.gamma,
        "gae_lambda": ours.gae_lambda,
        "ent_coef": ours.entropy_coefficient,
        "vf_coef": ours.value_coefficient,
        "max_grad_norm": ours.max_grad_norm,
        "rms_prop_eps": ours.rmsprop_epsilon,
        "normalize_advantage": ours.normalize_advantage,
    }
    assert {name: theirs[name] for name in pairs} == pairs
    assert theirs["use_rms_prop"]
    peer = A2C("MlpPolicy", Spaces(), device="cpu")
    assert peer.policy.optimizer.param_groups[0]["alpha"] == ours.rmsprop_decay
    assert peer.policy.net_arch == {"pi": list(ours.layers), "vf": list(ours.layers)}
