"""Heads of critics by answers a reader can check by hand, and against transcriptions of their papers in NumPy."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy.optimize import minimize

from sac_bench.algorithms.critics import q_values
from sac_bench.algorithms.heads import (
    Head,
    Returns,
    categorical_loss,
    expectation,
    pooled_returns,
    projected,
    quantile_loss,
    support,
    truncated,
)
from sac_bench.options.sac import SACConfig
from tests.algorithms.problem import B, D, Problem

HYPER = {"v_min": torch.tensor(-2.0).double(), "v_max": torch.tensor(2.0).double(), "pessimism": torch.tensor(0.5)}


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


def distribution(values, probabilities) -> Returns:
    """One state's returns."""
    return Returns(tensor(*values)[:, None], tensor(*probabilities)[:, None])


def test_truncation_leaves_out_the_largest_of_all_critics():
    outputs = torch.stack([tensor(1, 5, 9), tensor(2, 8, 3)])[:, None]  # 2 critics, 1 state, 3 quantiles
    kept = truncated(outputs, tensor(1).squeeze())
    assert float(kept.mean) == pytest.approx((1 + 2 + 3 + 5) / 4)
    assert float(truncated(outputs, tensor(0).squeeze()).mean) == pytest.approx(28 / 6)


def test_the_lowest_critic_is_chosen_by_its_expectation_in_each_state():
    outputs = torch.stack([torch.stack([tensor(0, 4), tensor(9, 9)]), torch.stack([tensor(1, 2), tensor(9, 11)])])
    pool = pooled_returns(Head("quantile", 2, "lowest"), outputs, HYPER)
    assert pool.values.T.tolist() == [[1, 2], [9, 9]]
    assert pool.mean.tolist() == [1.5, 9]


def test_a_categorical_head_has_its_expectation():
    head = Head("categorical", 5, "lowest")
    assert support(head, HYPER).tolist() == [-2, -1, 0, 1, 2]
    logits = tensor(0.1, 0.2, 0.3, 0.2, 0.2).log().expand(1, 1, 5)
    assert float(expectation(head, logits + 7, HYPER)) == pytest.approx(0.2)


def projection_in_numpy(values, probabilities, atoms):
    """Algorithm 1 of arXiv 1707.06887, for one state."""
    low, high, distance = atoms[0], atoms[-1], atoms[1] - atoms[0]
    m = np.zeros(len(atoms))
    for value, p in zip(values, probabilities, strict=True):
        b = (np.clip(value, low, high) - low) / distance
        lower, upper = int(np.floor(b)), int(np.ceil(b))
        if lower == upper:
            m[lower] += p
        else:
            m[lower] += p * (upper - b)
            m[upper] += p * (b - lower)
    return m


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(0.01, 1)), min_size=1, max_size=6), st.integers(2, 7))
def test_projection_equals_the_papers_algorithm(atoms_of_target, n):
    values, weights = np.array(atoms_of_target).T
    probabilities = weights / weights.sum()
    atoms = np.linspace(-3, 4, n)
    ours = projected(distribution(values, probabilities), torch.tensor(atoms))
    np.testing.assert_allclose(ours[0].numpy(), projection_in_numpy(values, probabilities, atoms), atol=1e-12)
    assert float(ours.sum()) == pytest.approx(1)
    within = np.clip(values, -3, 4)
    assert float((ours[0] * torch.tensor(atoms)).sum()) == pytest.approx((within * probabilities).sum(), abs=1e-9)


def test_the_categorical_loss_is_least_at_the_projected_target():
    atoms, target = tensor(-1, 0, 1), distribution([0.25, -3.0], [0.6, 0.4])
    best = projected(target, atoms)[0]

    def loss(logits):
        return float(categorical_loss(torch.tensor(logits)[None, None], target, atoms))

    found = minimize(loss, np.zeros(3)).x
    np.testing.assert_allclose(torch.tensor(found).softmax(0).numpy(), best.numpy(), atol=1e-4)
    assert best.tolist() == pytest.approx([0.4, 0.45, 0.15])


@pytest.mark.parametrize("kappa", [0.1, 1.0, 3.0])
def test_the_quantile_loss_equals_the_papers_equation(kappa):
    rng = np.random.default_rng(0)
    theta, y, p = rng.normal(size=4), rng.normal(size=6), rng.dirichlet(np.ones(6))
    expected = 0.0
    for i, q in enumerate(theta):
        for value, weight in zip(y, p, strict=True):
            u = value - q
            huber = 0.5 * u**2 if abs(u) <= kappa else kappa * (abs(u) - 0.5 * kappa)
            expected += weight * abs((i + 0.5) / 4 - (u < 0)) * huber / kappa / 4
    ours = quantile_loss(torch.tensor(theta)[None, None], distribution(y, p), torch.tensor(kappa, dtype=torch.float64))
    assert float(ours) == pytest.approx(expected, abs=1e-12)


def test_the_quantile_loss_is_least_at_the_quantiles():
    """With a small kappa, at the midpoints of a uniform distribution's cells."""
    y = np.linspace(0, 1, 2001)
    target = distribution(y, np.full(len(y), 1 / len(y)))
    theta = torch.tensor([0.3, 0.4, 0.5, 0.6], dtype=torch.float64).requires_grad_()
    for _ in range(400):
        loss = quantile_loss(theta[None, None], target, torch.tensor(1e-3)).sum()
        theta = (theta - torch.autograd.grad(loss, theta)[0]).detach().requires_grad_()
    np.testing.assert_allclose(theta.detach().numpy(), [0.125, 0.375, 0.625, 0.875], atol=2e-3)


HEADS = [
    {"critic_head": "quantile"},
    {"critic_head": "quantile", "critic_pool": "truncated", "atoms": 5},
    {"critic_head": "quantile", "critic_pool": "lowest"},
    {"critic_head": "categorical", "critic_pool": "lowest", "v_min": -20.0, "v_max": 20.0},
    {"critic_pool": "lowest"},
    {"critic_pool": "truncated", "critics": 3, "dropped_atoms": 0},
]


@pytest.mark.thorough
@pytest.mark.parametrize("options", HEADS)
def test_every_head_learns_the_return_of_one_step(options):
    """Without discount, Q must become the reward of the batch's pairs."""
    problem = Problem(gamma=0.0, critic_lr=0.02, layers=[32], **options)
    batch = problem.batch()
    for number in range(250):
        problem.state, metrics = problem.update(number, batch, problem.noise())
    reward = float(batch["reward"].mean())
    assert float(metrics["q"]) == pytest.approx(reward, abs=0.1)
    assert float(metrics["q_target"]) == pytest.approx(reward, abs=1e-6)


@pytest.mark.thorough
@pytest.mark.parametrize("options", HEADS)
def test_every_head_learns_the_return_of_two_steps(options):
    """From state 0, state 1 follows, whose reward of 1 ends the episode: Q(0) = gamma and Q(1) = 1."""
    entropy = {"learn_temperature": False, "temperature": 0.0}
    problem = Problem(gamma=0.5, tau=0.2, critic_lr=0.02, layers=[16], **entropy, **options)
    state = torch.arange(B, dtype=torch.float64).remainder(2)[:, None].expand(B, D)
    last = state[:, 0]
    chain = {"observation": state, "next_observation": torch.ones_like(state), "reward": last[:, None]}
    chain |= {"terminated": last, "truncated": torch.zeros_like(last)}
    for number in range(200):
        problem.state, _ = problem.update(number, problem.batch() | chain, problem.noise())
    action = problem.batch()["action"]
    q = q_values(problem.nets, problem.state["params"]["critic"], state, action, (), problem.hyper).mean(0)
    np.testing.assert_allclose(q[:2].numpy(), [0.5, 1.0], atol=0.1)


def test_the_lowest_of_scalars_is_their_minimum():
    """critic_pool = lowest and the default, pessimism = 1, are the same for a scalar head."""
    ours, default = Problem(critic_pool="lowest"), Problem()
    for number in range(5):
        batch, noise = ours.batch(), ours.noise()
        ours.state, first = ours.update(number, batch, noise)
        default.state, second = default.update(number, batch, noise)
    for name, value in first.items():
        assert float(value) == pytest.approx(float(second[name]), abs=1e-12), name


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"atoms": 5}, "atoms requires critic_head = quantile or categorical"),
        ({"v_min": 5.0, "v_max": 5.0}, "v_min = 5 must be below v_max = 5"),
        ({"critic_head": "categorical"}, "critic_head = categorical requires critic_pool = lowest"),
        ({"critic_pool": "truncated"}, "dropped_atoms = 2 must be below atoms = 1"),
        ({"critic_head": "quantile", "huber_delta": 1.0}, "huber_delta requires critic_head = scalar"),
        ({"critic_head": "quantile", "value_network": True}, "value_network = true requires body = plain"),
        ({"critic_head": "quantile", "target_critics": 1}, "target_critics requires joint_pass = false"),
    ],
)
def test_heads_that_contradict_other_options_are_refused(options, words):
    with pytest.raises(ValidationError, match=words):
        SACConfig.model_validate(options)
