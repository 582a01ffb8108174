"""Environments get the action of their run's policy on their observation, with the run's own noise.

SAC learns from any actions, so its scores would hide a policy that is not used for acting.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_map

from sac_bench.algorithms import sac
from sac_bench.algorithms.hyperparameters import dtype_of
from sac_bench.spec.run import RunSpec
from sac_bench.training import evaluate, trainer
from sac_bench.training.random import Draws
from tests.conftest import tiny

SEEDS, N = (3, 8), 2


def made(precision="float32", **overrides):
    config = tiny(num_envs=N, precision=precision, **overrides)
    return trainer.Trainer([RunSpec("sac", config, "Hopper-v5", seed) for seed in SEEDS], 200, compiled=False)


def actions_of(trained, params, member, observation, noise):
    """Sampled and mean actions of one member's policy, by its own mathematics."""
    nets = trained.cohort.learner.update.args[0]
    hyper = {name: values[member] for name, values in trained.cohort.hyper.items()}
    x = torch.as_tensor(observation).to(trained.cohort.dtype)
    actor = tree_map(lambda leaf: leaf[member], params["actor"])
    action, _, mean, *_ = sac.policy(nets, actor, x, noise, hyper)
    return action.numpy(), mean.numpy()


def draw(trained, seed, purpose, shape, step):
    return Draws({purpose: shape}, trained.cohort.dtype).at(torch.tensor([seed]), step)


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("precision", "overrides"),
    [("float32", {}), ("float64", {}), ("float32", {"random_steps": 0}), ("float32", {"random_steps": 160})],
    ids=["float32", "float64", "never random", "random while it learns"],
)
def test_training_sends_the_actions_of_its_policies(recorded, precision, overrides):
    trained, policies = made(precision, **overrides), []
    assert trained.cohort.state["params"]["actor"][0].weight.dtype == dtype_of(trained.config)
    actions = trained._actions
    trained._actions = lambda: policies.append(tree_map(torch.clone, trained.cohort.state["params"])) or actions()
    while trained.steps < 200:
        trained.train()
    trained.close()
    (pool,), _ = recorded
    assert len(policies) == len(pool.sent) == 200 / N
    for row, (params, shown, sent) in enumerate(zip(policies, pool.shown, pool.sent, strict=False)):
        for m, seed in enumerate(SEEDS):
            own = slice(m * N, (m + 1) * N)
            if row * N < overrides.get("random_steps", trained.config.learning_starts):
                expected = 2 * draw(trained, seed, "warmup", (N, 3), row).uniform("warmup")[0].numpy() - 1
            else:
                noise = draw(trained, seed, "explore", (N, 3), row).normal("explore")[0]
                expected, _ = actions_of(trained, params, m, shown[own], noise)
            np.testing.assert_allclose(sent[own], expected, rtol=0, atol=1e-6)


@pytest.mark.thorough
def test_training_draws_exploration_noise_per_member_environment_and_step(recorded):
    trained = made()
    while trained.steps < 200:
        trained.train()
    trained.close()
    sent = np.stack(recorded[0][0].sent)
    assert len({tuple(action) for row in sent for action in row}) == sent.shape[0] * sent.shape[1]


def test_evaluation_sends_the_actions_of_its_policies(recorded):
    trained, steps, episodes = made(), 400, 3
    evaluate.evaluate(trained.cohort, trained.env, list(SEEDS), steps, episodes, threads=1)
    _, (pool,) = recorded
    params, purpose = trained.cohort.state["params"], f"evaluation/{steps}"
    assert len(pool.sent) > 20
    noises = set()
    for t, (shown, sent) in enumerate(zip(pool.shown, pool.sent, strict=False)):
        for m, seed in enumerate(SEEDS):
            halves = np.split(shown[m * 2 * episodes : (m + 1) * 2 * episodes], 2)
            by_mean, by_sample = np.split(sent[m * 2 * episodes : (m + 1) * 2 * episodes], 2)
            noise = draw(trained, seed, purpose, (episodes, 3), t).normal(purpose)[0]
            noises |= {tuple(row) for row in noise.tolist()}
            np.testing.assert_allclose(by_mean, actions_of(trained, params, m, halves[0], noise)[1], rtol=0, atol=1e-6)
            np.testing.assert_allclose(
                by_sample, actions_of(trained, params, m, halves[1], noise)[0], rtol=0, atol=1e-6
            )
    assert len(noises) == len(pool.sent) * len(SEEDS) * episodes


@pytest.mark.thorough
def test_correlated_noise_restarts_with_every_episode(recorded, monkeypatch):
    """Hopper falls within tens of steps, and a pool is recreated every 25 vector steps."""
    config = tiny("td3", num_envs=N, noise_correlation=0.9, exploration_noise=0.2)
    trained = trainer.Trainer([RunSpec("td3", config, "Hopper-v5", seed) for seed in SEEDS], 400, compiled=False)
    trained._pool_rows = 25
    ended, actions = [], trained._actions
    started = [np.ones(len(SEEDS) * N)]
    monkeypatch.setattr(
        trained.replay,
        "add",
        lambda action, step, add=trained.replay.add: (
            ended.append(step.terminated | step.truncated),
            add(action, step),
        ),
    )
    means = []
    trained._actions = lambda: means.append(mean_actions(trained)) or actions()
    while trained.steps < 400:
        trained.train()
    trained.close()
    sent = [row for pool in recorded[0] for row in pool.sent]
    started += ended[:-1]
    assert sum(row.sum() for row in started[1:]) > len(SEEDS) * N * 7  # some fell, all were cut
    noise = np.zeros((len(SEEDS), N, 3))
    for t, (mean, row, begins) in enumerate(zip(means, sent, started, strict=True)):
        fresh = np.stack([draw(trained, seed, "explore", (N, 3), t).normal("explore")[0].numpy() for seed in SEEDS])
        noise = 0.9 * np.where(begins.reshape(len(SEEDS), N, 1), 0.0, noise) + 0.2 * fresh
        if t * N >= config.learning_starts:
            np.testing.assert_allclose(row.reshape(noise.shape), (mean + noise).clip(-1, 1), rtol=0, atol=1e-5)


def mean_actions(trained):
    """Of every member and environment, [M, N, A]."""
    newest = trained.replay.newest
    return trained.cohort.act(newest, torch.zeros(*newest.shape[:2], 3))[1].numpy()
