"""Variances of gradients: against closed forms, and draw by draw."""

from dataclasses import replace
from itertools import combinations

import pytest
import torch
from torch.func import grad
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms import sac
from sac_bench.algorithms.critics import expected_pool
from sac_bench.algorithms.gradients import gradient_spread
from sac_bench.algorithms.networks import gaussian_log_prob
from tests.conftest import tiny
from tests.training.members import A, D, batch, cohort, train


def test_variances_of_both_estimators_for_a_quadratic_cost_equal_known_values():
    """f(u) = c u^2 / 2 for u = mu + sigma z, whose gradients are polynomials of z."""
    c, mu, sigma = 2.0, 0.7, 0.5
    parameters = {"mu": torch.tensor([mu]).double(), "log_std": torch.tensor([sigma]).double().log()}
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(0), dtype=torch.float64)

    def u(p, z):
        return p["mu"] + p["log_std"].exp() * z

    def cost(u):
        return (c * u**2 / 2).sum()

    def by_path(z):
        return grad(lambda p: cost(u(p, z)))(parameters)

    found, squared_norm = gradient_spread(by_path, noise, 1000)
    # c (mu + sigma z) by mu; by log sigma that times sigma z.
    expected = c**2 * sigma**2 + c**2 * (mu**2 * sigma**2 + 2 * sigma**4)
    assert float(found) == pytest.approx(expected, rel=0.02)
    assert float(squared_norm) == pytest.approx((c * mu) ** 2 + (c * sigma**2) ** 2, rel=0.02)

    def by_score(z):
        at = u(parameters, z)

        def score(p):
            return gaussian_log_prob(p["mu"], p["log_std"], at)

        return tree_map(lambda g: cost(at) * g, grad(score)(parameters))["mu"]  # f z / sigma

    second = c**2 / (4 * sigma**2) * (mu**4 + 18 * mu**2 * sigma**2 + 15 * sigma**4)
    found, _ = gradient_spread(by_score, noise, 1000)
    assert float(found) == pytest.approx(second - (c * mu) ** 2, rel=0.03)


STRUCTURES = [
    {"reward_scale": 3.0, "temperature": 0.4},
    {"mixture": 2, "normalize_observations": True, "actor_objective": "mean", "pessimism": 0.2},
    {"gradient_estimator": "score-function", "state_dependent_std": False, "learn_temperature": False},
    {"value_network": True},
    {"score_samples": 4, "normalize_observations": True},
]


@pytest.mark.parametrize("structure", STRUCTURES)
def test_sac_measures_the_variance_of_its_actors_gradient(structure):
    config = tiny(precision="float64", **structure)
    trained = train(cohort([config], [5]), config, 3)
    data, learner = batch(config, (D, A), 5, 99), trained.learner
    nets, state, hyper = (
        learner.update.args[0],
        *(tree_map(lambda leaf: leaf[0], tree) for tree in (trained.state, trained.hyper)),
    )
    generator = torch.Generator().manual_seed(1)
    noise = {n: torch.randn(*s, generator=generator).double() for n, s in learner.diagnosis.noise.items()}
    assert all(len(drawn) == 32 for drawn in noise.values())
    found = learner.diagnosis.of(state, hyper, data, noise)
    observation = data["observation"]
    if "normalizer" in state:
        observation = sac.standardized(observation, state["normalizer"])
    alpha = state["params"]["temperature"].exp() if config.learn_temperature else torch.tensor(1.0)
    value = sac.v_values(nets, state["params"]["value"], observation) if config.value_network else None
    for name, by_score in (("reparameterised", False), ("likelihood_ratio", True)):
        gradients, own = [], replace(nets, score_function=by_score)
        for i in range(32):
            actor = tree_map(lambda leaf: leaf.clone().requires_grad_(), state["params"]["actor"])
            z = noise["gradient"][i]
            if (by_score or config.mixture > 1) and not config.value_network:
                z = torch.cat([z, noise["others"][i]])  # as training by this estimator
            loss, _ = sac.actor_loss(
                actor, own, state["params"]["critic"], observation, z, alpha, hyper, value=value if by_score else None
            )
            gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, tree_leaves(actor))]))
        mean = sum(gradients) / 32
        variance = sum(((g - mean) ** 2).sum() for g in gradients) / 31
        torch.testing.assert_close(found[f"gradient_variance_{name}"], variance, rtol=1e-9, atol=0)
        if not by_score:
            torch.testing.assert_close(found["gradient_squared_norm"], (mean**2).sum(), rtol=1e-9, atol=0)
    assert set(found) == set(learner.diagnosis.names)


def test_mean_actions_have_no_variance_and_large_batches_use_fewer_gradients():
    config = tiny(stochastic_updates=False, learn_temperature=False, temperature=0.0)
    trained = cohort([config], [0])
    found = trained.diagnose({n: x[None] for n, x in batch(config, (D, A), 0, 0).items()}, 1000)
    assert all(value.isnan().all() for value in found.values())
    assert sac.learner(tiny(batch_size=65536, replay_capacity=65536), D, A).diagnosis.noise["gradient"] == (4, 65536, A)


def test_the_expected_pool_of_random_critics_is_the_mean_of_all_draws():
    q, pessimism = torch.randn(5, 7, dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64)
    for drawn in (1, 2, 5):
        each = [sac.pooled(q[list(few)], pessimism) for few in combinations(range(5), drawn)]
        torch.testing.assert_close(expected_pool(q, drawn, pessimism), torch.stack(each).mean(0))
