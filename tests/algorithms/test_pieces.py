"""Rewards by the spread of returns, held noise, resets and orders of updates, by answers a reader can check by hand."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import rewards
from sac_bench.algorithms.exploration import MOST_STEPS, held_steps, no_noise
from sac_bench.algorithms.sac import act
from sac_bench.spec.run import RunSpec
from sac_bench.training.trainer import Trainer
from tests.algorithms.problem import A, D, Problem, vector
from tests.conftest import tiny


def tensor(*values):
    return torch.tensor(values, dtype=torch.float64)


# -- rewards ----------------------------------------------------------------------------------------------------


def test_returns_are_discounted_sums_that_end_with_the_episode():
    hyper = {"gamma": tensor(0.5).squeeze(), "return_bound": tensor(4.0).squeeze()}
    returns = rewards.no_returns(tensor(0.0).squeeze(), 2)
    seen = []
    for reward, done in (((1.0, 2.0), (0, 0)), ((1.0, -8.0), (1, 0)), ((3.0, 0.0), (0, 0))):
        returns = rewards.collect(returns, hyper, tensor(*reward), tensor(*done))
        seen.append(returns["running"].tolist())
    assert seen == [[1.0, 2.0], [0.0, -7.0], [3.0, -3.5]]
    every = tensor(1.0, 2.0, 1.5, -7.0, 3.0, -3.5)  # the second is 0.5 + 1, before the episode ends
    assert float(returns["statistics"]["mean"]) == pytest.approx(float(every.mean()))
    assert float(rewards.spread(returns, hyper)) == pytest.approx(float(every.std(correction=0)), rel=1e-6)
    assert float(returns["largest"]) == 7.0
    narrow = hyper | {"return_bound": tensor(1.0).squeeze()}
    assert float(rewards.spread(returns, narrow)) == 7.0
    none = hyper | {"return_bound": tensor(0.0).squeeze()}
    assert float(rewards.spread(returns, none)) == pytest.approx(float(every.std(correction=0)), rel=1e-6)


def test_normalised_rewards_train_like_rewards_divided_by_the_spread():
    problem, scaled = Problem(normalize_rewards=True), Problem()
    hyper = problem.hyper
    returns = rewards.collect(problem.state["returns"], hyper, tensor(6.0), tensor(0.0))
    returns = rewards.collect(returns, hyper, tensor(-6.0), tensor(1.0))
    problem.state = problem.state | {"returns": returns}
    divisor = rewards.spread(returns, hyper)
    for number in range(3):
        batch, noise = problem.batch(), problem.noise()
        problem.state, _ = problem.update(number, batch, noise)
        scaled.state, _ = scaled.update(number, batch | {"reward": batch["reward"] / divisor}, noise)
    torch.testing.assert_close(vector(problem.state["params"]), vector(scaled.state["params"]), rtol=0, atol=1e-12)
    assert problem.learner.q_bound is None


# -- noise ------------------------------------------------------------------------------------------------------


def test_noise_is_held_for_n_steps_with_probability_n_to_the_minus_2():
    drawn = held_steps(torch.randn(200_000, generator=torch.Generator().manual_seed(0), dtype=torch.float64))
    expected = torch.arange(1, MOST_STEPS + 1, dtype=torch.float64) ** -2
    shares = torch.stack([(drawn == n).double().mean() for n in range(1, MOST_STEPS + 1)])
    torch.testing.assert_close(shares, expected / expected.sum(), rtol=0, atol=0.005)
    extremes = held_steps(tensor(-9.0, 9.0))
    assert extremes.tolist() == [1.0, MOST_STEPS]


def test_held_noise_changes_only_when_its_steps_are_over():
    problem = Problem(held_noise=True)
    assert problem.learner.noise_dim == A + 1
    policy, held = problem.learner.policy(problem.state), no_noise(tensor(0.0).squeeze(), 3, A)
    used, lengths = [], []
    for _ in range(40):
        noise = problem.normal(3, A + 1)
        before = held["left"]
        action, held = problem.learner.explore(policy, problem.hyper, torch.zeros(3, D).double(), noise, held, None)
        used.append(held["noise"])
        lengths.append(before <= 0)
        expected = act(problem.nets, A, policy, problem.hyper, torch.zeros(3, D).double(), held["noise"])[0]
        torch.testing.assert_close(action, expected, rtol=0, atol=0)
    changed = torch.stack([(a != b).all(-1) for a, b in zip(used[1:], used[:-1], strict=True)])
    assert torch.equal(changed, torch.stack(lengths[1:]))
    assert 0 < changed.double().mean() < 1


# -- resets and orders ------------------------------------------------------------------------------------------


RENORMALISED = {"body": "batch-norm-after", "renorm_after": 2, "norm_momentum": 0.2, "actor_delay": 3}


@pytest.mark.parametrize("options", [{}, RENORMALISED], ids=["plain", "renormalised"])
def test_a_reset_returns_to_the_start_and_keeps_the_number_of_updates(options):
    start = {"learning_starts": 100, "random_steps": 0, "min_replay": 1} | options
    problem, fresh = Problem(reset_steps=[104], **start), Problem(**start)
    initial = vector(problem.state["params"])
    for number in range(4):
        problem.state, _ = problem.update(number, problem.batch(), problem.noise())
    assert not torch.equal(vector(problem.state["params"]), initial)
    for number, of_fresh in ((4, 0), (5, 1)):  # the first updates after 104 steps
        batch, noise = problem.batch(), problem.noise()
        problem.state, _ = problem.update(number, batch, noise)
        fresh.state, _ = fresh.learner.update_of(number + 1)(fresh.state, fresh.hyper, batch, noise)
        assert int(fresh.state["updates"]) == of_fresh + 1
    for name in ("params", "target", "adam"):
        for ours, expected in zip(tree_leaves(problem.state[name]), tree_leaves(fresh.state[name]), strict=True):
            assert torch.equal(ours, expected), name
    assert int(problem.state["updates"]) == 6


def test_orders_of_updates_differ_in_the_critics_and_alpha_that_they_use():
    """Without a policy's step all orders are one; in the first update they differ as their names say."""
    problems = {order: Problem(update_order=order) for order in ("critics-first", "policy-first", "together")}
    batch, noise = problems["together"].batch(), problems["together"].noise()
    states = {order: of.update(0, batch, noise)[0]["params"] for order, of in problems.items()}
    actors = {order: vector(params["actor"]) for order, params in states.items()}
    critics = {order: vector(params["critic"]) for order, params in states.items()}
    assert torch.equal(actors["policy-first"], actors["together"])  # both by the critics before their step
    assert not torch.equal(actors["policy-first"], actors["critics-first"])
    assert torch.equal(critics["critics-first"], critics["together"])  # both by the policy before its step
    assert not torch.equal(critics["policy-first"], critics["together"])


# -- in training ------------------------------------------------------------------------------------------------


@pytest.mark.thorough
def test_a_training_with_all_pieces_learns_nothing_else_after_a_restart():
    """Returns, statistics of batches and held noise continue to the bit."""
    options = {
        "body": "batch-norm-before",
        "critic_head": "categorical",
        "critic_pool": "lowest",
        "joint_pass": True,
        "project": "weights",
        "normalize_rewards": True,
        "held_noise": True,
        "reset_steps": [260],
        "eval_every": 200,
    }
    specs = [RunSpec("sac", tiny(**options), "HalfCheetah-v5", seed) for seed in (1, 2)]
    whole = Trainer(specs, 400, compiled=False)
    whole.train()
    whole.train()
    tensors, rows, progress = whole.checkpoint()
    whole.train()
    resumed = Trainer(specs, 400, compiled=False)
    resumed.restore(tensors, [(0, lambda: rows)], progress)
    resumed.train()
    assert resumed.steps == whole.steps == 400
    for ours, expected in zip(tree_leaves(resumed.cohort.state), tree_leaves(whole.cohort.state), strict=True):
        assert torch.equal(ours, expected)
    returns = whole.cohort.state["returns"]
    assert returns["statistics"]["count"].tolist() == [400.0, 400.0]
    assert (returns["largest"] > 0).all()
