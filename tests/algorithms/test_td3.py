"""TD3's pieces by answers a reader can check by hand; whole updates are checked in test_parity_td3.py."""

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import td3
from sac_bench.options.td3 import DDPGConfig, TD3Config
from tests.algorithms.problem import A, D, Problem, vector


def test_target_actions_are_smoothed_by_clipped_noise_and_stay_in_bounds():
    hyper = {"target_noise": torch.tensor(0.5), "target_noise_clip": torch.tensor(0.3)}
    action, noise = torch.tensor([[0.0, 0.0, 0.9, -0.9]]), torch.tensor([[0.2, -4.0, 1.0, -1.0]])
    assert td3.smoothed(action, noise, hyper)[0].tolist() == pytest.approx([0.1, -0.3, 1.0, -1.0])


def test_exploration_noise_follows_ornstein_uhlenbeck_and_starts_from_zero():
    hyper = {"noise_correlation": torch.tensor(0.85), "exploration_noise": torch.tensor(0.2)}
    before, noise = torch.tensor([[1.0, -1.0], [5.0, 5.0]]), torch.tensor([[1.0, 2.0], [3.0, -1.0]])
    after = td3.exploration(noise, before, torch.tensor([0.0, 1.0]), hyper)
    assert after[0].tolist() == pytest.approx([0.85 + 0.2, -0.85 + 0.4])
    assert after[1].tolist() == pytest.approx([0.6, -0.2])


@pytest.mark.parametrize(("correlation", "spread"), [(0.0, 0.3), (0.85, 0.3 / (1 - 0.85**2) ** 0.5)])
def test_exploration_adds_noise_of_the_stationary_spread_within_bounds(correlation, spread):
    problem = Problem(
        "td3",
        exploration_noise=0.3,
        noise_correlation=correlation,
        num_envs=4000,
        eval_every=4000,
        learning_starts=4000,
    )
    own, observation = problem.learner, torch.zeros(4000, D, dtype=torch.float64)
    policy, carried = own.policy(problem.state), problem.state["exploration"]
    started, noises = torch.zeros(4000, dtype=torch.float64), []
    for _ in range(40):
        action, carried = own.explore(policy, problem.hyper, observation, problem.normal(4000, A), carried, started)
        noises.append(carried)
    sampled, mean = own.act(policy, problem.hyper, observation, problem.normal(4000, A))
    assert torch.equal(action, (mean + carried).clamp(-1, 1))
    assert float(carried.std()) == pytest.approx(spread, rel=0.05)
    assert float((sampled - mean).clamp(-0.5, 0.5).std()) == pytest.approx(
        float(carried.clamp(-0.5, 0.5).std()), rel=0.05
    )
    assert max(action.abs().max(), sampled.abs().max()) <= 1
    measured = np.corrcoef(noises[-1].flatten(), noises[-2].flatten())[0, 1]
    assert measured == pytest.approx(correlation, abs=0.05)


@pytest.mark.parametrize("delay", [1, 2, 3])
def test_policy_and_targets_move_at_every_nth_update_and_critics_at_each(delay):
    problem = Problem("td3", policy_delay=delay)
    for number in range(6):
        before = problem.state
        problem.state, metrics = problem.update(number, problem.batch(), problem.noise())
        moved = {
            "policy": not torch.equal(vector(before["params"]["actor"]), vector(problem.state["params"]["actor"])),
            "targets": not any(
                torch.equal(*pair)
                for pair in zip(*(tree_leaves(s["target"]) for s in (before, problem.state)), strict=True)
            ),
            "critics": not torch.equal(vector(before["params"]["critic"]), vector(problem.state["params"]["critic"])),
        }
        due = (number + 1) % delay == 0
        assert moved == {"policy": due, "targets": due, "critics": True}
        assert set(metrics) == set(problem.learner.metrics)
        assert (float(metrics["actor_loss"]) != 0) == (number + 1 >= delay)


def test_the_policy_maximises_only_the_first_critic():
    problem = Problem("td3")
    params = problem.state["params"]
    changed = tuple(type(layer)(*(torch.cat([leaf[:1], 2 * leaf[1:]]) for leaf in layer)) for layer in params["critic"])
    observation = problem.normal(5, D)
    losses = [
        td3.actor_loss(params["actor"], problem.nets, critic, observation)[0] for critic in (params["critic"], changed)
    ]
    assert torch.equal(*losses)


def test_ddpg_is_td3_with_one_critic_and_no_smoothing_or_delay():
    config = Problem("ddpg").config
    assert (config.critics, config.target_noise, config.policy_delay) == (1, 0.0, 1)
    same = {"critics", "target_noise", "policy_delay"}
    defaults = TD3Config().model_dump(exclude=same)
    assert DDPGConfig().model_dump(exclude=same) == defaults
