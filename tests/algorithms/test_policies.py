"""A mixture has its stated density, and the estimators of a policy's gradient agree in expectation."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch.func import grad, vmap

from sac_bench.algorithms import policies, sac
from sac_bench.algorithms.networks import Layer
from sac_bench.options.sac import SACConfig
from sac_bench.spec.run import RunSpec
from tests.algorithms.problem import D, Problem, network, vector

WEIGHTS, MEANS, STDS = (0.2, 0.5, 0.3), (-1.0, 0.1, 1.2), (0.3, 0.6, 0.2)


def sampled(noise):
    """Samples of a mixture of three Gaussians with noise [N, 2]. Its biases are the policy, the same in every state."""
    problem = Problem(mixture=3)
    gaussians = [x for mean, std in zip(MEANS, STDS, strict=True) for x in (mean, math.log(std))]
    bias = torch.tensor([math.log(w) for w in WEIGHTS] + gaussians, dtype=torch.float64)
    actor = (Layer(torch.zeros(D, 9, dtype=torch.float64), bias),)
    return policies.policy(problem.nets, actor, torch.zeros(len(noise), D, dtype=noise.dtype), noise, problem.hyper)


def density():
    """The mixture's density on a grid of actions, each drawn from the second component."""
    u = torch.linspace(-7, 7, 40_001, dtype=torch.float64)
    sample = sampled(torch.stack([(u - MEANS[1]) / STDS[1], torch.zeros_like(u)], 1))
    torch.testing.assert_close(sample.action[:, 0], u.tanh())
    return sample.action[:, 0], sample.log_pi.exp()


def test_density_of_a_mixture_integrates_to_one_and_equals_the_formula():
    action, found = density()
    assert float(torch.trapezoid(found, action)) == pytest.approx(1, abs=1e-4)
    u = torch.atanh(action[10_000:30_000])
    normal = sum(
        w * torch.distributions.Normal(m, s).log_prob(u).exp() for w, m, s in zip(WEIGHTS, MEANS, STDS, strict=True)
    )
    torch.testing.assert_close(found[10_000:30_000], normal / (1 - u.tanh() ** 2), rtol=1e-6, atol=0)


def test_samples_of_a_mixture_have_its_density():
    noise = torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sample = sampled(noise)
    edges, (action, found) = torch.linspace(-1, 1, 41, dtype=torch.float64), density()
    counts = torch.histogram(sample.action[:, 0], edges).hist
    mass = torch.stack(
        [
            torch.trapezoid(torch.where((action >= low) & (action < high), found, 0.0), action)
            for low, high in pairwise(edges)
        ]
    )
    expected = len(noise) * mass
    assert ((counts - expected).abs() < 5 * expected.sqrt() + 20).all()  # 20: a bin's edges lie between points
    torch.testing.assert_close(sample.mean, torch.full_like(sample.mean, math.tanh(MEANS[1])))  # the likeliest's


def gradients(estimator, structure, repeats=40_000, batch=3):
    """Gradients [repeats, P] of the actor's loss in one state, with a known Q: that of fixed networks, less 5."""
    problem = Problem(layers=[5], activation="tanh", gradient_estimator=estimator, **structure)
    actor, critic = problem.state["params"]["actor"], problem.state["params"]["critic"]
    critic = (*critic[:-1], critic[-1]._replace(weight=4 * critic[-1].weight, bias=critic[-1].bias - 5))
    observation = problem.normal(1, D)  # `batch` actions in this state
    noise = problem.normal(repeats, batch, problem.learner.noise_dim)
    alpha = torch.tensor(0.3, dtype=torch.float64)

    def loss(parameters, noise):
        one = network(parameters, actor)
        return sac.actor_loss(one, problem.nets, critic, observation, noise, alpha, problem.hyper)[0]

    return vmap(grad(loss), (None, 0))(vector(actor), noise)


@pytest.mark.parametrize("structure", [{}, {"mixture": 3}, {"log_std_form": "tanh", "log_std_min": -1.0}])
def test_estimators_of_the_policys_gradient_agree_in_expectation(structure):
    by_path, by_score = (gradients(name, structure) for name in ("reparameterised", "score-function"))
    error = (by_path.var(0) / len(by_path) + by_score.var(0) / len(by_score)).sqrt()
    assert ((by_path.mean(0) - by_score.mean(0)).abs() < 4.5 * error + 1e-12).all()
    assert by_path.mean(0).norm() > 30 * error.norm()  # or agreement would say nothing
    assert by_score.var(0).sum() > 1.4 * by_path.var(0).sum()


def test_the_baseline_reduces_the_variance_of_the_score_function_gradient(monkeypatch):
    with_baseline = gradients("score-function", {}, repeats=4000, batch=16)
    monkeypatch.setattr(sac, "leave_one_out", lambda cost, states: 0 * cost)
    assert with_baseline.var(0).sum() < 0.1 * gradients("score-function", {}, repeats=4000, batch=16).var(0).sum()


def by_score(baseline, repeats=2000, states=16):
    """Gradients [repeats, P] by score function with 2 actions per state, in states whose costs differ; a known Q, V."""
    problem = Problem(layers=[5], activation="tanh", gradient_estimator="score-function", value_network=True)
    params = problem.state["params"]
    observation = problem.normal(states, D)
    level = 20 * observation[:, 0]  # a part of Q that does not depend on the action
    noise = problem.normal(repeats, 2 * states, problem.learner.noise_dim)
    alpha = torch.tensor(0.3, dtype=torch.float64)

    def loss(parameters, noise):
        sample = policies.policy(
            problem.nets, network(parameters, params["actor"]), observation.repeat(2, 1), noise, problem.hyper
        )
        q = sac.q_values(problem.nets, params["critic"], observation.repeat(2, 1), sample.action).amin(0)
        cost = alpha * sample.log_pi - q - level.repeat(2)
        return policies.mean_with_score(cost, sample.score, baseline(cost, level.repeat(2)))

    return vmap(grad(loss), (None, 0))(vector(params["actor"]), noise)


def test_a_baseline_per_state_has_far_less_variance_than_one_of_other_states():
    of_other_states = by_score(lambda cost, level: (cost.sum() - cost) / (len(cost) - 1))
    of_own_actions = by_score(lambda cost, level: policies.leave_one_out(cost, len(cost) // 2))
    of_value = by_score(lambda cost, level: -level)
    error = (of_other_states.var(0) / len(of_other_states)).sqrt()
    for better in (of_own_actions, of_value):
        assert better.var(0).sum() < 0.02 * of_other_states.var(0).sum()
        assert ((better.mean(0) - of_other_states.mean(0)).abs() < 4.5 * error + 1e-12).all()


def test_the_baseline_is_minus_the_value_or_the_mean_of_the_other_actions():
    problem = Problem(gradient_estimator="score-function", value_network=True)
    params, observation = problem.state["params"], problem.normal(4, D)
    noise, alpha = problem.normal(12, problem.learner.noise_dim), torch.tensor(0.3, dtype=torch.float64)
    repeated = observation.repeat(3, 1)
    value = sac.v_values(problem.nets, params["value"], observation)

    def found(noise, value):
        def loss(actor):
            return sac.actor_loss(
                actor, problem.nets, params["critic"], observation, noise, alpha, problem.hyper, value=value
            )[0]

        return vector(grad(loss)(params["actor"]))

    def expected(noise, states, baseline):
        fixed = policies.policy(problem.nets, params["actor"], states, noise, problem.hyper)
        cost = alpha * fixed.log_pi - sac.q_values(problem.nets, params["critic"], states, fixed.action).amin(0)

        def score(actor):
            return (
                (cost - baseline(cost)) * policies.policy(problem.nets, actor, states, noise, problem.hyper).score
            ).mean()

        return vector(grad(score)(params["actor"]))

    def others(cost):
        return torch.stack([(cost[i % 4 :: 4].sum() - cost[i]) / 2 for i in range(12)])

    torch.testing.assert_close(found(noise[:4], value), expected(noise[:4], observation, lambda cost: -value))
    torch.testing.assert_close(found(noise, None), expected(noise, repeated, others))


def test_one_sample_has_no_baseline_and_costs_are_reported_unchanged():
    cost, score = torch.tensor([2.0]), torch.tensor([0.3], requires_grad=True)
    found = policies.mean_with_score(cost, score, policies.leave_one_out(cost, 1))
    found.backward()
    assert (found.item(), score.grad.item()) == (2.0, 2.0)


def test_each_form_of_log_sigma_has_the_bounds_of_its_source():
    def low(**options):
        return SACConfig.model_validate(options).hyperparameters()["log_std_min"]

    assert (low(), low(log_std_form="tanh"), low(log_std_form="tanh", log_std_min=-20.0)) == (-20.0, -5.0, -20.0)
    problem = Problem(log_std_form="tanh", state_dependent_std=False)  # log sigma of 0 is mapped to the middle
    noise = torch.ones(1, 2, dtype=torch.float64)
    sample = policies.policy(problem.nets, problem.state["params"]["actor"], problem.normal(1, D), noise, problem.hyper)
    spread = sample.action.atanh() - sample.mean.atanh()
    torch.testing.assert_close(spread, torch.full_like(spread, math.exp(-1.5)))


def test_a_written_default_bound_keeps_the_id_and_the_new_default_of_tanh_changes_it():
    def run(**options):
        return RunSpec("sac", SACConfig.model_validate(options), "Hopper-v5", 0)

    assert run(log_std_min=-20.0).id == run().id
    assert run(log_std_min=-20.0, log_std_form="clipped").config.option_versions == {}
    unset, before = run(log_std_form="tanh"), run(log_std_form="tanh", log_std_min=-20.0)
    assert (unset.config.option_versions, before.config.option_versions) == ({"log_std_min": 2}, {})
    for spec in (run(), unset, before):
        assert RunSpec.from_dict(spec.as_dict()).id == spec.id
    as_stored_before = run().as_dict()
    as_stored_before["config"]["log_std_min"] = -20.0
    assert RunSpec.from_dict(as_stored_before).id == run().id


def test_a_tanh_spans_the_bounds_of_log_sigma():
    bounds = {"log_std_min": torch.tensor(-5.0), "log_std_max": torch.tensor(2.0)}
    raw, nets = torch.tensor([-30.0, 0.0, 1.0, 30.0]), [Problem(log_std_form=form).nets for form in ("tanh", "clipped")]
    assert policies.bounded(nets[0], raw, bounds).tolist() == pytest.approx(
        [-5.0, -1.5, -1.5 + 3.5 * math.tanh(1), 2.0]
    )
    assert policies.bounded(nets[1], raw, bounds).tolist() == [-5.0, 0.0, 1.0, 2.0]
