"""Parity with sb3-contrib's TRPO: same weights, same rollouts, in float64 on both sides.

The peer averages the KL divergence over action dimensions, where ours is the sum. With A times its `target_kl` and its
damping, both take the same step. It starts conjugate gradient at a small random vector, ours at 0: here both do.
"""

from __future__ import annotations

import inspect

import pytest
import torch
from sb3_contrib import TRPO

from sac_bench.algorithms import on_policy, trpo
from sac_bench.options.trpo import TRPOConfig
from tests.algorithms.problem import A, Problem
from tests.algorithms.rollout_peers import assert_same_parameters, buffered, give_parameters, in_float64
from tests.algorithms.test_parity_sb3 import Spaces
from tests.algorithms.test_ppo import rollout

SIZE = {"rollout": 48, "num_envs": 3, "batch_size": 16, "epochs": 2, "eval_every": 48}


def peer_of(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> TRPO:
    """sb3-contrib's TRPO with a Problem's settings and weights."""
    config = problem.config
    peer = TRPO(
        "MlpPolicy",
        Spaces(),
        learning_rate=config.learning_rate,
        n_steps=config.rollout,
        batch_size=config.batch_size,
        cg_max_steps=config.cg_steps,
        cg_damping=config.cg_damping / A,
        line_search_shrinking_factor=config.line_search_factor,
        line_search_max_iter=config.line_search_steps,
        n_critic_updates=config.epochs,
        normalize_advantage=config.normalize_advantage,
        target_kl=config.max_kl / A,
        sub_sampling_factor=config.sub_sampling,
        policy_kwargs={"net_arch": list(config.layers)},
        device="cpu",
    )
    in_float64(peer, problem, monkeypatch)
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    return peer


def part(samples, indices):
    """The samples at these indices."""
    return {name: values[indices] for name, values in samples.items()}


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="defaults"),
        pytest.param({"max_kl": 0.5, "cg_damping": 0.02, "cg_steps": 6, "line_search_factor": 0.5}, id="long-steps"),
        pytest.param({"normalize_advantage": False, "cg_steps": 4}, id="raw-advantages"),
        pytest.param({"cg_steps": 60, "cg_damping": 0.5, "layers": [4]}, id="conjugate-gradient-ends-early"),
        pytest.param({"num_envs": 1, "sub_sampling": 4}, id="sub-sampling"),
        pytest.param({"max_kl": 5.0, "line_search_steps": 1}, id="steps-that-are-refused"),
    ],
)
def test_parity_with_sb3_contrib(overrides, monkeypatch):
    problem = Problem("trpo", **SIZE | overrides)
    config, accepted = problem.config, []
    peer = peer_of(problem, monkeypatch)
    minibatches, drawn = config.rollout // config.batch_size, torch.Generator().manual_seed(0)
    for number in range(6):
        sent = rollout(16, number)
        _, samples = on_policy.prepare(problem.nets, problem.state, problem.hyper, sent)
        orders = [torch.randperm(config.rollout, generator=drawn) for _ in range(config.epochs)]
        batches = [part(samples, at) for order in orders for at in order.split(config.batch_size)]
        given = iter([[samples], *(batches[k : k + minibatches] for k in range(0, len(batches), minibatches))])
        monkeypatch.setattr(peer.rollout_buffer, "get", lambda batch_size, given=given: map(buffered, next(given)))
        peer.train()

        assert torch.equal(problem.prepare(sent)["return"], samples["return"])
        losses = []
        for batch in batches:
            problem.state, metrics = problem.learner.update(problem.state, problem.hyper, batch, {})
            losses.append(float(metrics["value_loss"]))
        # 15 steps of conjugate gradient amplify rounding errors: over many orders, to at most 2e-9.
        assert_same_parameters(problem, peer, 1e-8)
        give_parameters(problem, peer)
        logged = peer.logger.name_to_value
        assert sum(losses) / len(losses) == pytest.approx(float(logged["train/value_loss"]), rel=0, abs=1e-9)
        assert float(metrics["kl"]) / A == pytest.approx(logged["train/kl_divergence_loss"], rel=0, abs=1e-9)
        assert float(metrics["accepted"]) == float(logged["train/is_line_search_success"])
        accepted.append(float(metrics["accepted"]))
    assert (0.0 in accepted) == ("line_search_steps" in overrides)
    assert "line_search_steps" in overrides or accepted == [1.0] * 6


def test_conjugate_gradient_ends_early_as_sb3_contribs_does(monkeypatch):
    """A matrix with two eigenvalues takes two steps; more would divide by a residual of 0."""
    matrix, b = torch.diag(torch.tensor([1.0, 3.0, 3.0, 3.0])).double(), torch.tensor([1.0, 2.0, 3.0, 4.0]).double()
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    module = inspect.getmodule(TRPO)
    theirs = module.conjugate_gradient_solver(matrix.matmul, b, max_iter=50)
    ours = solved(matrix.matmul, b, 50)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-14)
    torch.testing.assert_close(ours, torch.linalg.solve(matrix, b), rtol=0, atol=1e-12)
    assert not solved(matrix.matmul, torch.zeros_like(b), 5).any()


def solved(product, b, iterations):
    """The x that is found."""
    search = trpo.search_for(b)
    for _ in range(iterations):
        search = trpo.iteration(product, search)
    return search["x"]


def test_defaults_are_those_of_sb3_contrib():
    theirs = {name: one.default for name, one in inspect.signature(TRPO).parameters.items()}
    ours = TRPOConfig()
    pairs = {
        "learning_rate": ours.learning_rate,
        "n_steps": ours.rollout,
        "batch_size": ours.batch_size,
        "gamma": ours.gamma,
        "cg_max_steps": ours.cg_steps,
        "cg_damping": ours.cg_damping,
        "line_search_shrinking_factor": ours.line_search_factor,
        "line_search_max_iter": ours.line_search_steps,
        "n_critic_updates": ours.epochs,
        "gae_lambda": ours.gae_lambda,
        "normalize_advantage": ours.normalize_advantage,
        "target_kl": ours.max_kl,
        "sub_sampling_factor": ours.sub_sampling,
    }
    assert {name: theirs[name] for name in pairs} == pairs
    peer = TRPO("MlpPolicy", Spaces(), device="cpu")
    assert peer.policy.net_arch == {"pi": list(ours.layers), "vf": list(ours.layers)}
