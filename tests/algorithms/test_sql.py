"""SQL's pieces and whole updates against NumPy loops, finite differences and closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch.func import grad
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms import sql
from sac_bench.algorithms.critics import q_values
from sac_bench.options.sql import SQLConfig
from tests.algorithms.problem import A, B, D, Problem, network, vector
from tests.conftest import TINY
from tests.training.members import cohort, train
from tests.training.test_cohort import OPTIMIZER, SWITCHED


def tiny(**overrides):
    small = {"value_particles": 3, "kernel_particles": 5, "target_period": 3}
    return SQLConfig.model_validate(TINY | small | overrides)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def number(value):
    return torch.tensor(value, dtype=torch.float64)


# -- the soft value -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_networks_treat_particles_like_rows(activation):
    problem = Problem("sql", critics=3, activation=activation, layers=[7, 8, 9])
    observation, action = normal(B, D), normal(B, 5, A, seed=1)
    critic = problem.state["params"]["critic"]
    found = sql.q_particles(problem.nets, critic, observation, action)
    shared = sql.q_particles(problem.nets, critic, observation, action[:1])
    assert found.shape == shared.shape == (3, B, 5)
    for k in range(5):
        torch.testing.assert_close(found[..., k], q_values(problem.nets, critic, observation, action[:, k]))
        same = action[0, k].expand(B, A)
        torch.testing.assert_close(shared[..., k], q_values(problem.nets, critic, observation, same))


def test_uniform_actions_are_uniform():
    actions = sql.uniform_actions(normal(200_000))
    np.testing.assert_allclose(np.quantile(actions, [0, 0.1, 0.5, 0.8, 1]), [-1, -0.8, 0, 0.6, 1], atol=0.01)


def test_soft_value_is_the_log_integral_of_exp_q():
    def q(a):
        return -((a - 0.2) ** 2 / (2 * 0.4**2)).sum(-1)

    value = sql.soft_value(q(sql.uniform_actions(normal(2, 200_000, 2))), 2)
    one = 0.4 * math.sqrt(math.pi / 2) * (math.erf(0.8 / 0.4 / math.sqrt(2)) + math.erf(1.2 / 0.4 / math.sqrt(2)))
    np.testing.assert_allclose(value, 2 * math.log(one), atol=0.01)


def test_soft_value_of_a_constant_q():
    problem = Problem("sql")
    problem.state["target"] = tree_map(torch.zeros_like, problem.state["target"])
    problem.state["target"][-1].bias[:] = 1.5
    _, metrics = problem.learner.update(problem.state, problem.hyper, problem.batch(), problem.noise())
    assert float(metrics["soft_value"]) == pytest.approx(1.5 + A * math.log(2), abs=1e-12)


# -- the direction of the sampler -----------------------------------------------------------------------------


def slow_direction(x, score, y, bandwidth_min):
    """Eq. 13, one pair of particles at a time: x, score [Kx, A], y [Ky, A] -> [Ky, A], h."""
    distances = sorted(float(((xi - yj) ** 2).sum()) for xi in x for yj in y)
    h = max(distances[(len(distances) - 1) // 2] / math.log(len(x)), bandwidth_min)
    direction = np.zeros_like(y)
    for j, yj in enumerate(y):
        for xi, si in zip(x, score, strict=True):
            kappa = math.exp(-((xi - yj) ** 2).sum() / h)
            direction[j] += (kappa * si - 2 * (xi - yj) / h * kappa) / len(x)
    return direction, h


@pytest.mark.parametrize(("fixed", "updated"), [(4, 4), (5, 3), (2, 6)])
@pytest.mark.parametrize("bandwidth_min", [1e-3, 5.0])
def test_the_direction_equals_the_double_sum(fixed, updated, bandwidth_min):
    x, score, y = normal(B, fixed, A), normal(B, fixed, A, seed=1), normal(B, updated, A, seed=2)
    direction, h = sql.svgd_direction(x, score, y, number(bandwidth_min))
    for b in range(B):
        expected, width = slow_direction(x[b].numpy(), score[b].numpy(), y[b].numpy(), bandwidth_min)
        np.testing.assert_allclose(direction[b], expected, rtol=0, atol=1e-12)
        assert float(h[b]) == pytest.approx(width, rel=1e-12)
    assert bool((h == 5.0).any()) == (bandwidth_min == 5.0)


def test_the_kernels_gradient_is_with_respect_to_its_first_argument():
    x, y, step = normal(1, 3, A), normal(1, 4, A, seed=1), 1e-5
    _, gradient, h = sql.kernel(x, y, number(1e-3))
    for i in range(3):
        for k in range(A):
            moved = torch.zeros_like(x)
            moved[0, i, k] = step
            at = [torch.exp(-((x + sign * moved)[:, :, None] - y[:, None]).square().sum(-1) / h) for sign in (1, -1)]
            np.testing.assert_allclose(gradient[0, i, :, k], ((at[0] - at[1]) / (2 * step))[0, i], atol=1e-8)


@pytest.mark.parametrize("presquash", [False, True])
def test_the_score_is_the_gradient_of_the_log_density(presquash):
    u = normal(6, A)

    def q(a):
        return torch.sin(3 * a).sum() + (a[..., 0] * a[..., 1]).sum()

    action = torch.tanh(u)
    if presquash:
        expected = grad(lambda u: q(torch.tanh(u)) + torch.log(1 - torch.tanh(u) ** 2).sum())(u)
    else:
        expected = grad(lambda a: q(a) + torch.log(1 - a**2 + 1e-6).sum())(action)
    found = sql.score(grad(q)(action), action, number(float(presquash)))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("space", ["actions", "presquash"])
def test_the_samplers_update_is_the_direction_propagated_through_it(space):
    """Adam's first moment after one update, against finite differences with NumPy's direction held fixed."""
    problem = Problem("sql", activation="tanh", kernel_particles=7, particles_in=space, critics=2, reward_scale=5.0)
    batch, noise, actor = problem.batch(), problem.noise(), problem.state["params"]["actor"]
    new, metrics = problem.learner.update(problem.state, problem.hyper, batch, noise)
    fixed, observation = problem.config.fixed_particles, batch["observation"]
    assert (fixed, problem.config.updated_particles) == (4, 3)

    def particles(parameters):
        rows = torch.cat([observation[:, None].expand(B, 7, D), noise["particles"]], -1).flatten(0, 1)
        return problem.nets.forward(network(parameters, actor), rows).unflatten(0, (B, 7))

    u = particles(vector(actor))
    action = torch.tanh(u)[:, :fixed]

    def q(a):
        return torch.stack(
            [q_values(problem.nets, new["params"]["critic"], observation, a[:, k]).amin(0) for k in range(fixed)]
        ).sum()

    score = sql.score(grad(q)(action), action, problem.hyper["particles_in"]).numpy()
    into = torch.tanh if space == "actions" else lambda u: u
    pairs = [slow_direction(x[:fixed], s, x[fixed:], 1e-3) for x, s in zip(into(u).numpy(), score, strict=True)]
    direction = torch.from_numpy(np.stack([d for d, _ in pairs]))
    assert float(metrics["bandwidth"]) == pytest.approx(np.mean([h for _, h in pairs]), rel=1e-9)
    gradient = vector(new["adam"]["actor"]["m"]) / 0.1

    def loss(parameters):
        return -(direction * into(particles(parameters))[:, fixed:]).sum()

    assert float(metrics["actor_loss"]) == pytest.approx(float(loss(vector(actor))) / (B * 3), rel=1e-9)
    for seed in range(10):
        along = normal(len(gradient), seed=seed) / len(gradient) ** 0.5
        slope = (loss(vector(actor) + 1e-5 * along) - loss(vector(actor) - 1e-5 * along)) / 2e-5
        assert float(gradient @ along) == pytest.approx(float(slope), rel=1e-6, abs=1e-7)


# -- Q --------------------------------------------------------------------------------------------------------


class SlowCritic:
    """One ReLU critic of two hidden layers, its target and Adam, in NumPy."""

    def __init__(self, critic):
        self.params = [leaf[0].numpy().copy() for leaf in tree_leaves(critic)]
        self.target = [p.copy() for p in self.params]
        self.m, self.v = ([np.zeros_like(p) for p in self.params] for _ in range(2))
        self.updates = 0

    @staticmethod
    def layers(params, x):
        w0, b0, w1, b1, w2, b2 = params
        h0 = np.maximum(x @ w0 + b0, 0)
        h1 = np.maximum(h0 @ w1 + b1, 0)
        return h0, h1, (h1 @ w2 + b2)[:, 0]

    def update(self, batch, actions, config):
        total, gamma = np.zeros(B), np.ones(B)
        for b in range(B):
            for j in range(int(batch["length"][b])):
                total[b] += gamma[b] * config.reward_scale * batch["reward"][b, j]
                gamma[b] *= config.gamma
        values = np.zeros(B)
        for b in range(B):
            rows = np.array([np.concatenate([batch["next_observation"][b], a]) for a in actions])
            values[b] = np.log(np.mean(np.exp(self.layers(self.target, rows)[2]))) + A * np.log(2)
        target = total + gamma * (1 - batch["terminated"]) * values
        x = np.concatenate([batch["observation"], batch["action"]], 1)
        h0, h1, q = self.layers(self.params, x)
        _, _, w1, _, w2, _ = self.params
        dq = (q - target)[:, None] / B
        d1 = (dq @ w2.T) * (h1 > 0)
        d0 = (d1 @ w1.T) * (h0 > 0)
        gradient = [x.T @ d0, d0.sum(0), h0.T @ d1, d1.sum(0), h1.T @ dq, dq.sum(0)]
        self.updates += 1
        for i, g in enumerate(gradient):
            self.m[i] = 0.9 * self.m[i] + 0.1 * g
            self.v[i] = 0.999 * self.v[i] + 0.001 * g**2
            m, v = self.m[i] / (1 - 0.9**self.updates), self.v[i] / (1 - 0.999**self.updates)
            self.params[i] = self.params[i] - config.critic_lr * m / (np.sqrt(v) + 1e-8)
        if self.updates % config.target_period == 0:
            self.target = [(1 - config.tau) * t + config.tau * p for t, p in zip(self.target, self.params, strict=True)]


@pytest.mark.parametrize(("tau", "n_step"), [(1.0, 1), (0.7, 3)])
def test_updates_of_the_critic_equal_numpys(tau, n_step):
    problem = Problem("sql", tau=tau, n_step=n_step, target_period=2, critic_lr=1e-2, gamma=0.9, reward_scale=3.0)
    slow = SlowCritic(problem.state["params"]["critic"])
    for _ in range(6):
        batch, noise = problem.batch(), problem.noise()
        problem.state, _ = problem.learner.update(problem.state, problem.hyper, batch, noise)
        # A uniform draw is the normal's CDF, spread over [-1, 1].
        actions = [[math.erfc(-z / math.sqrt(2)) - 1 for z in row] for row in noise["value"].tolist()]
        slow.update({name: part.numpy() for name, part in batch.items()}, np.array(actions), problem.config)
        for name, expected in (("target", slow.target), ("params", slow.params)):
            found = problem.state["target"] if name == "target" else problem.state["params"]["critic"]
            for leaf, value in zip(tree_leaves(found), expected, strict=True):
                np.testing.assert_allclose(leaf[0].numpy(), value, rtol=0, atol=1e-9)


def test_the_target_is_copied_every_period():
    problem = Problem("sql", target_period=3)
    first = vector(problem.state["target"])
    for update in range(1, 7):
        problem.state, _ = problem.learner.update(problem.state, problem.hyper, problem.batch(), problem.noise())
        same = torch.equal(vector(problem.state["target"]), vector(problem.state["params"]["critic"]))
        assert same == (update % 3 == 0)
        assert update > 2 or torch.equal(vector(problem.state["target"]), first)


# -- the learner ----------------------------------------------------------------------------------------------


def test_acting_uses_noise_and_evaluation_does_not():
    problem = Problem("sql")
    observation, noise = normal(5, D), normal(5, A, seed=1)
    policy = problem.learner.policy(problem.state)
    sampled, at_zero = problem.learner.act(policy, problem.hyper, observation, noise)
    actor = problem.state["params"]["actor"]

    def rows(xi):
        return torch.tanh(problem.nets.forward(actor, torch.cat([observation, xi], -1)))

    torch.testing.assert_close(sampled, rows(noise))
    torch.testing.assert_close(at_zero, rows(torch.zeros_like(noise)))


def test_metrics_are_those_that_the_learner_declares():
    problem = Problem("sql")
    _, metrics = problem.learner.update(problem.state, problem.hyper, problem.batch(), problem.noise())
    assert set(metrics) == set(problem.learner.metrics)
    assert all(metric.shape == () for metric in metrics.values())


@pytest.mark.parametrize("wrong", [{"kernel_update_ratio": 0.01}, {"kernel_particles": 3, "kernel_update_ratio": 0.9}])
def test_both_kinds_of_particles_are_required(wrong):
    with pytest.raises(ValidationError, match=r"updated and \d+ fixed"):
        SQLConfig.model_validate(wrong)


# Another value than the default of every number that may differ inside a cohort.
CHANGED = {
    "actor_lr": 1e-2,
    "critic_lr": 1e-2,
    "gamma": 0.5,
    "tau": 0.5,
    "target_period": 2,
    "reward_scale": 7.0,
    "pessimism": 0.0,
    "bandwidth_min": 2.0,
    "particles_in": "presquash",
    "bootstrap_truncated": False,
    **OPTIMIZER,
}


@pytest.mark.thorough
@pytest.mark.parametrize("structure", [{}, {"n_step": 3, "activation": "tanh"}])
def test_a_cohorts_member_with_any_changed_number_equals_its_single_run(structure):
    assert set(CHANGED) == set(SQLConfig.per_member_fields())
    shared = {"precision": "float64", "critics": 2} | SWITCHED | structure
    mixed = {"actor_lr": 3e-3, "target_period": 4, "particles_in": "presquash", "reward_scale": 10.0}
    configs = [tiny(**shared), *(tiny(**shared | {name: value}) for name, value in CHANGED.items())]
    configs.append(tiny(**shared, **mixed))
    together = train(cohort(configs, [3] * len(configs)), configs[0], 20)
    for m, config in enumerate(configs):
        alone = train(cohort([config], [3]), config, 20)
        for ours, single in zip(tree_leaves(together.state), tree_leaves(alone.state), strict=True):
            torch.testing.assert_close(ours[m], single[0], rtol=0, atol=1e-9)
        learned = tree_leaves((together.state["params"]["actor"], together.state["target"]))
        assert all(torch.equal(leaf[m], leaf[0]) for leaf in learned) == (m == 0)
