"""TRPO's step against dense matrices in NumPy, and its rules; parity is in test_parity_trpo.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.func import hessian
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms import on_policy, trpo
from sac_bench.options.trpo import TRPOConfig
from tests.algorithms.problem import A, B, D, Problem, network, vector
from tests.algorithms.test_ppo import N, rollout

SIZE = {"rollout": 48, "num_envs": N, "batch_size": 16, "epochs": 2, "eval_every": 48}


def perturbed(**overrides) -> Problem:
    """A problem whose policy has different deviations and weights that are not small."""
    problem = Problem("trpo", layers=[4], **overrides)
    actor = problem.state["params"]["actor"]
    actor["log_std"][:] = torch.tensor([0.4, -0.6])
    actor["mean"] = tree_map(lambda leaf: leaf + 0.3 * problem.normal(*leaf.shape), actor["mean"])
    return problem


def samples_of(problem: Problem) -> dict[str, torch.Tensor]:
    """Samples whose probabilities are those of the current policy."""
    samples, actor = problem.samples(), problem.state["params"]["actor"]
    mean = problem.nets.forward(actor["mean"], samples["observation"])
    samples["log_prob"] = torch.distributions.Normal(mean, actor["log_std"].exp()).log_prob(samples["action"]).sum(-1)
    return samples


def stepped(problem: Problem, samples):
    """The policy after a step, and the step's metrics."""
    config, actor, hyper = problem.config, problem.state["params"]["actor"], problem.hyper
    search = trpo.initial_search(problem.nets, actor, samples, hyper)
    product = trpo.fisher_product(problem.nets, actor, samples["observation"], hyper["cg_damping"])
    for _ in range(config.cg_steps):
        search = trpo.iteration(product, search)
    return trpo.line_search(problem.nets, config.line_search_steps, actor, samples, hyper, search["x"])


def torchs_kl(problem: Problem, new, old, observation) -> float:
    """KL(new || old), a mean over states."""
    both = (
        torch.distributions.Normal(problem.nets.forward(actor["mean"], observation), actor["log_std"].exp())
        for actor in (new, old)
    )
    return float(torch.distributions.kl_divergence(*both).sum(-1).mean())


def test_products_with_the_fisher_matrix_equal_those_of_the_divergences_hessian():
    problem = perturbed()
    actor, observation = problem.state["params"]["actor"], problem.normal(B, D)
    old = problem.nets.forward(actor["mean"], observation)

    def kl(parameters):
        net = network(parameters[A:], actor["mean"])
        return trpo.divergence(problem.nets.forward(net, observation), parameters[:A], old, actor["log_std"])

    dense = hessian(kl)(torch.cat([actor["log_std"], vector(actor["mean"])]))
    product = trpo.fisher_product(problem.nets, actor, observation, torch.tensor(0.25, dtype=torch.float64))
    v = problem.normal(len(dense))
    found = product({"mean": network(v[A:], actor["mean"]), "log_std": v[:A]})
    expected = dense @ v + 0.25 * v
    torch.testing.assert_close(torch.cat([found["log_std"], vector(found["mean"])]), expected, rtol=0, atol=1e-12)


def test_a_step_is_the_natural_gradient_of_a_dense_fisher_matrix():
    """The Fisher matrix from scores in NumPy, E [grad log pi grad log pi^T] over actions, and its inverse."""
    problem = perturbed(max_kl=1e-6, cg_steps=60, cg_damping=0.01, normalize_advantage=False)
    samples, actor = samples_of(problem), problem.state["params"]["actor"]
    samples["advantage"] = 1e4 * samples["advantage"]  # which scales the residual's tolerance, not the step
    sigma = actor["log_std"].exp().numpy()
    parameters = vector(actor["mean"])

    def means(parameters):
        return problem.nets.forward(network(parameters, actor["mean"]), samples["observation"])

    jacobian = torch.func.jacrev(means)(parameters).numpy()  # [B, A, P]
    z = (samples["action"].numpy() - means(parameters).numpy()) / sigma
    score = np.concatenate([z**2 - 1, np.einsum("ba,bap->bp", z / sigma, jacobian)], axis=1)
    gradient = (score * samples["advantage"].numpy()[:, None]).mean(0)
    # The expectation over actions: z and z^2 - 1 are uncorrelated, with variances 1 and 2.
    fisher = np.zeros((len(gradient), len(gradient)))
    fisher[:A, :A] = 2 * np.eye(A)
    fisher[A:, A:] = np.einsum("bap,baq->pq", jacobian / sigma[:, None], jacobian / sigma[:, None]) / B
    fisher += 0.01 * np.eye(len(fisher))
    direction = np.linalg.solve(fisher, gradient)
    expected = np.sqrt(2e-6 / (direction @ fisher @ direction)) * direction

    new, metrics = stepped(problem, samples)
    moved = torch.cat([new["log_std"] - actor["log_std"], vector(new["mean"]) - parameters]).numpy()
    np.testing.assert_allclose(moved, expected, rtol=0, atol=1e-8)
    assert np.abs(expected).max() > 1e-5
    assert float(metrics["accepted"]) == 1
    assert float(metrics["improvement"]) == pytest.approx(gradient @ moved, rel=0.03)


@pytest.mark.parametrize("max_kl", [1e-4, 0.01, 0.3])
def test_a_steps_divergence_is_at_most_delta_and_the_surrogate_improves(max_kl):
    for seed in range(5):
        problem = perturbed(max_kl=max_kl, cg_damping=1e-3)
        problem._generator.manual_seed(seed)
        samples, actor = samples_of(problem), problem.state["params"]["actor"]
        new, metrics = stepped(problem, samples)
        assert float(metrics["accepted"]) == 1
        kl = torchs_kl(problem, new, actor, samples["observation"])
        assert float(metrics["kl"]) == pytest.approx(kl, rel=1e-9)
        assert 0.1 * max_kl < kl <= max_kl
        advantage = (samples["advantage"] - samples["advantage"].mean()) / samples["advantage"].std()
        (reached, _), (before, _) = (trpo.surrogate(problem.nets, one, samples, advantage) for one in (new, actor))
        assert float(metrics["improvement"]) == pytest.approx(float(reached - before), rel=1e-6)
        assert reached > before


def test_the_line_search_takes_the_first_step_that_is_short_enough():
    """Almost without damping, the first step has about the divergence delta if that is small: here it is above."""
    shared = {"max_kl": 1.0, "cg_damping": 1e-3, "line_search_factor": 0.8, "cg_steps": 30}
    problem = perturbed(**shared)
    samples, actor = samples_of(problem), problem.state["params"]["actor"]
    new, _ = stepped(problem, samples)
    tried = []
    for steps in range(1, 11):
        problem = perturbed(**shared, line_search_steps=steps)
        tried.append(stepped(problem, samples)[1])
    accepted = [bool(one["accepted"]) for one in tried]
    first = accepted.index(True)
    assert 0 < first < 9
    assert accepted == [False] * first + [True] * (10 - first)
    assert len({float(one["kl"]) for one in tried[first:]}) == 1
    # The step before, which is longer by 1 / 0.8, is too long.
    longer = tree_map(lambda o, n: o + (n - o) / 0.8, actor, new)
    assert torchs_kl(problem, longer, actor, samples["observation"]) > 1.0
    assert torchs_kl(problem, new, actor, samples["observation"]) <= 1.0


@pytest.mark.parametrize("advantage", [0.0, 1.0], ids=["no-gradient", "too-long"])
def test_a_line_search_that_fails_leaves_the_policy_as_it_was(advantage):
    problem = perturbed(max_kl=50.0, cg_damping=1e-6, line_search_steps=1, normalize_advantage=False)
    samples = samples_of(problem)
    samples["advantage"] = advantage * samples["advantage"]
    new, metrics = stepped(problem, samples)
    for before, after in zip(tree_leaves(problem.state["params"]["actor"]), tree_leaves(new), strict=True):
        assert torch.equal(before, after)
    assert [float(metrics[name]) for name in ("accepted", "kl", "improvement")] == [0, 0, 0]


def test_steps_that_are_short_enough_are_refused_unless_the_surrogate_improves():
    """Against the direction, every step that the line search tries makes the surrogate smaller."""
    problem = perturbed(max_kl=1e-4, cg_damping=1e-3)
    samples, actor = samples_of(problem), problem.state["params"]["actor"]
    gradient = trpo.initial_search(problem.nets, actor, samples, problem.hyper)["residual"]
    for sign, is_taken in ((1.0, 1), (-1.0, 0)):
        direction = tree_map(lambda leaf, sign=sign: sign * leaf, gradient)
        new, metrics = trpo.line_search(problem.nets, 10, actor, samples, problem.hyper, direction)
        assert float(metrics["accepted"]) == is_taken
        same = [torch.equal(a, b) for a, b in zip(tree_leaves(actor), tree_leaves(new), strict=True)]
        assert all(same) == (not is_taken)
        assert (float(metrics["improvement"]) > 0) == is_taken


def test_the_policy_moves_once_per_rollout_and_v_in_every_update():
    problem = Problem("trpo", **SIZE)
    before, sent = problem.state, rollout(16, 0)
    _, whole = on_policy.prepare(problem.nets, before, problem.hyper, sent)
    expected, _ = stepped(problem, whole)
    samples = problem.prepare(sent)
    prepared = problem.state
    for ours, theirs in zip(tree_leaves(prepared["params"]["actor"]), tree_leaves(expected), strict=True):
        assert torch.equal(ours, theirs)
    assert prepared["params"]["critic"] is before["params"]["critic"]
    after, metrics = problem.learner.update(prepared, problem.hyper, samples, {})
    assert after["params"]["actor"] is prepared["params"]["actor"]
    assert not torch.equal(after["params"]["critic"][0].weight, before["params"]["critic"][0].weight)
    assert set(metrics) == set(problem.learner.metrics)
    assert float(metrics["kl"]) > 0


def test_sub_sampling_takes_steps_of_every_environment():
    problem = Problem("trpo", **SIZE, sub_sampling=5)
    sent = rollout(16, 0)
    _, whole = on_policy.prepare(problem.nets, problem.state, problem.hyper, sent)
    indices = [t * N + n for t in (0, 5, 10, 15) for n in range(N)]
    expected, _ = stepped(problem, {name: values[indices] for name, values in whole.items()})
    samples = problem.prepare(sent)
    assert torch.equal(vector(problem.state["params"]["actor"]["mean"]), vector(expected["mean"]))
    assert len(samples["return"]) == 48


def test_a_step_on_one_transition_is_refused():
    with pytest.raises(ValidationError, match="sub_sampling = 4096 leaves 1 transition"):
        TRPOConfig(sub_sampling=4096)
    TRPOConfig(sub_sampling=4096, num_envs=2)
