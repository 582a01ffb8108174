"""SQL where the answer is known: an energy whose moments are integrals, and the paper's four equally good goals."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sac_bench.algorithms import sql
from sac_bench.algorithms.adam import adam, adam_init
from sac_bench.algorithms.hyperparameters import hyperparameters_of
from sac_bench.envs.multigoal import GOALS
from sac_bench.options.sql import SQLConfig
from sac_bench.spec.run import RunSpec
from sac_bench.training.random import uniform
from sac_bench.training.trainer import Trainer

CENTRES = torch.tensor([[0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5], [0.5, -0.5]])
WEIGHTS, WIDTH = torch.tensor([0.4, 0.3, 0.2, 0.1]), 0.25


def energy(action):
    """Q [...] of actions [..., 2]: the log of a mixture of four Gaussians."""
    distance = ((action[..., None, :] - CENTRES) ** 2).sum(-1)
    return torch.logsumexp(WEIGHTS.log() - distance / (2 * WIDTH**2), -1)


def trained_sampler(space, updates=3000):
    """200000 actions of a sampler trained by itself on the energy: 4 equal states, 128 particles each."""
    config = SQLConfig.model_validate(
        {"layers": [64, 64], "batch_size": 4, "kernel_particles": 128, "particles_in": space}
    )
    learner, hyper = sql.learner(config, 1, 2), hyperparameters_of(config)
    nets = learner.update.args[0]
    actor = learner.init(lambda name, shape: uniform(0, name, shape, torch.float32), hyper)["params"]["actor"]
    state, generator, observation = adam_init(actor), torch.Generator().manual_seed(0), torch.zeros(4, 1)
    for i in range(updates):
        noise = torch.randn(4, 128, 2, generator=generator)
        gradient, _ = sql.sampler_gradient(nets, actor, energy, observation, noise, config.fixed_particles, hyper)
        actor, state = adam(actor, gradient, state, torch.tensor(1e-3 * min(1.0, 2 * (1 - i / updates))))
    noise = torch.randn(1, 200_000, 2, generator=generator)
    return torch.tanh(sql.sample(nets, actor, observation[:1], noise))[0].numpy()


def figures(action, weight):
    """Of weighted points: first moments, second moments, and the share of each centre's quadrant."""
    shares = [weight[(np.sign(action) == np.sign(centre)).all(-1)].sum() for centre in CENTRES.numpy()]
    return weight @ action, weight @ action**2, np.array(shares)


@pytest.mark.thorough
@pytest.mark.parametrize("space", ["presquash", pytest.param("actions", marks=pytest.mark.soak)])
def test_known_sampler_has_the_moments_and_modes_of_the_energy(space):
    """exp(Q) where particles move before the squashing; where they are actions exp(Q) prod(1 - a^2), whose second
    moments are a quarter smaller."""
    axis = (np.arange(800) + 0.5) / 400 - 1
    grid = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = np.exp(energy(torch.from_numpy(grid)).numpy())
    if space == "actions":
        density *= np.prod(1 - grid**2, -1)
    expected = figures(grid, density / density.sum())
    action = trained_sampler(space)
    first, second, shares = figures(action, np.full(len(action), 1 / len(action)))
    np.testing.assert_allclose(first, expected[0], rtol=0, atol=0.05)
    np.testing.assert_allclose(second, expected[1], rtol=0.05)  # fewer particles stay shorter of it
    np.testing.assert_allclose(shares, expected[2], rtol=0, atol=0.03)


@pytest.mark.soak
def test_known_every_goal_is_reached():
    updates, settings = (
        2000,
        {
            "layers": [64, 64],
            "batch_size": 64,
            "num_envs": 16,
            "utd": 0.25,
            "learning_starts": 1600,
            "eval_episodes": 1,
            "eval_every": 1600,
            "reward_scale": 0.1,
            "gamma": 0.9,
            "actor_lr": 1e-3,
            "critic_lr": 1e-3,
            "target_period": 50,
        },
    )
    steps = settings["learning_starts"] + 4 * updates
    spec = RunSpec("sql", SQLConfig.model_validate(settings), "gymnasium:MultiGoal-v0", seed=0)
    trainer = Trainer([spec], steps, compiled=False)
    while trainer.steps < steps:
        trainer.train()
    trainer.close()
    generator = torch.Generator().manual_seed(0)
    at, goal = 0.1 * torch.randn(1, 200, 2, generator=generator), np.full(200, -1)
    for _ in range(30):
        action, _ = trainer.cohort.act(at, torch.randn(1, 200, 2, generator=generator))
        at = (at + action).clamp(-7, 7)
        distance = np.linalg.norm(at[0].numpy()[:, None] - GOALS, axis=-1)
        goal = np.where((goal < 0) & (distance.min(1) < 1), distance.argmin(1), goal)
    reached = np.bincount(goal[goal >= 0], minlength=4)
    assert reached.sum() >= 180
    assert reached.min() >= 20
