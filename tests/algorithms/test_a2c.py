"""A2C's own rules; its updates are checked in test_parity_a2c.py, its advantages in test_ppo.py."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch.func import grad
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms import a2c
from sac_bench.options.a2c import A2CConfig
from tests.algorithms.problem import A, Problem
from tests.algorithms.test_ppo import N, rollout


def test_the_entropys_gradient_is_its_weight_on_each_log_sigma_and_0_elsewhere():
    """The entropy of N(mean, sigma^2) is the sum of log sigma and a constant."""
    problem = Problem("a2c", entropy_coefficient=0.3, value_coefficient=0.0)
    batch = problem.samples()
    batch["advantage"] = torch.zeros_like(batch["advantage"])
    gradient, metrics = grad(a2c.loss, has_aux=True)(problem.state["params"], problem.nets, batch, problem.hyper)
    torch.testing.assert_close(gradient["actor"]["log_std"], torch.full((A,), -0.3, dtype=torch.float64))
    assert not any(leaf.any() for leaf in tree_leaves((gradient["actor"]["mean"], gradient["critic"])))
    standard = torch.distributions.Normal(0.0, 1.0).entropy()
    assert float(metrics["entropy"]) == pytest.approx(A * float(standard), abs=1e-6)


def test_the_entropy_is_in_the_update_but_not_in_advantages_and_returns():
    plain, with_bonus = (
        Problem("a2c", num_envs=N, rollout_steps=16, eval_every=48, entropy_coefficient=beta) for beta in (0.0, 0.5)
    )
    learned = []
    for problem in (plain, with_bonus):
        state, samples = problem.learner.prepare(problem.state, problem.hyper, rollout(16, 0))
        learned.append((samples, problem.learner.update(state, problem.hyper, samples, {})[0]["params"]))
    (samples, params), (same, others) = learned
    assert all(torch.equal(samples[name], same[name]) for name in samples)
    assert (others["actor"]["log_std"] > params["actor"]["log_std"]).all()


def test_an_update_uses_all_steps_of_all_environments():
    config = A2CConfig(rollout_steps=7, num_envs=4, eval_every=400)
    assert (config.rollout, config.batch_size, config.epochs, config.updates_per_rollout) == (28, 28, 1, 1)
    assert [config.updates_due(steps) for steps in (27, 28, 56)] == [0, 1, 2]
    assert config.steps_of_update(3) == 84
    assert "rollout" not in A2CConfig.model_fields


@pytest.mark.parametrize(
    ("options", "words"),
    [({"batch_size": 64}, "Extra inputs"), ({"epochs": 2}, "Extra inputs"), ({"rollout_steps": 1}, "at least 2 trans")],
)
def test_options_that_a2c_does_not_have_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        A2CConfig.model_validate(options)


def test_statistics_and_parameters_have_the_shapes_of_the_state_without_memory():
    problem = Problem("a2c")
    shapes = problem.learner.shape_of_state(problem.hyper)
    assert tree_map(lambda leaf: leaf.shape, shapes) == tree_map(lambda leaf: leaf.shape, problem.state)
