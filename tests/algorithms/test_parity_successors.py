"""Parity of every recipe that no installed peer has: updates against the transcriptions in successors.py, to 1e-9.

The options are the recipes' own, in small networks. Rates are larger, and fall during the test if the recipe's do.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.spec.presets import presets
from tests.algorithms.problem import A, B, Problem
from tests.algorithms.successors import Successor, Trained
from tests.algorithms.test_bodies import EPSILON

SMALL = {
    "critic_layers": (4, 4),
    "actor_layers": (4, 4),
    "batch_size": B,
    "actor_lr": 0.01,
    "critic_lr": 0.02,
    "temperature_lr": 0.05,
    "norm_epsilon": EPSILON,
    "norm_momentum": 0.3,
    "learning_starts": 100,
}
FALLING = {"anneal_steps": 112}
RECIPES = {
    "redq": {"critics": 3, "actor_delay": 2, "utd": 2.0, "initialisation": "torch"},
    "simba": {},
    "bro": {"atoms": 5, "utd": 2.0, "reset_steps": [102], "critic_weight_decay": 0.5},
    "xqc": FALLING | {"atoms": 7, "actor_delay": 2},
    "simbav2": FALLING | {"atoms": 7},
    "flashsac": FALLING | {"atoms": 7},
}
UPDATES = 6


def each_critic(problem: Problem, tree) -> list[list[np.ndarray]]:
    return [[leaf[i].numpy() for leaf in tree_leaves(tree)] for i in range(problem.config.critics)]


def transcription(problem: Problem) -> Successor:
    params, statistics = problem.state["params"], problem.state.get("statistics", {})
    critics = zip(
        each_critic(problem, params["critic"]), each_critic(problem, statistics.get("critic", ())), strict=True
    )
    actor = Trained(*([leaf.numpy() for leaf in tree_leaves(of.get("actor", ()))] for of in (params, statistics)))
    config = problem.config
    settings = config.model_dump() | {"resets": config.reset_updates, "updates_start": config.updates_start}
    return Successor(settings, actor, [Trained(*one) for one in critics], A)


def seen_rewards(problem: Problem, theirs: Successor) -> None:
    """Give both an episode's rewards."""
    rewards = problem.normal(9)
    if problem.learner.collect is None:
        return
    returns = problem.state["returns"]
    for i, reward in enumerate(rewards):
        returns = problem.learner.collect(returns, problem.hyper, reward[None], torch.tensor([float(i == 8)]).double())
    problem.state = problem.state | {"returns": returns}
    theirs.collect(rewards.tolist(), problem.config.gamma)


@pytest.mark.thorough
@pytest.mark.parametrize("name", RECIPES)
def test_parity_with_the_methods(name):
    options = {key: value for key, value in presets()[name].options.items() if key != "algorithm"}
    problem = Problem(**{key: value for key, value in (options | SMALL | RECIPES[name]).items() if key != "layers"})
    theirs = transcription(problem)
    moved = []
    for number in range(UPDATES):
        seen_rewards(problem, theirs)
        batch, noise = problem.batch(), problem.noise()
        expected = theirs.update({k: v.numpy() for k, v in batch.items()}, {k: v.numpy() for k, v in noise.items()})
        problem.observe(batch["observation"])
        problem.state, metrics = problem.update(number, batch, noise)
        for metric, value in expected.items():
            assert float(metrics[metric]) == pytest.approx(value, rel=0, abs=1e-9), metric
        moved.append("actor_loss" in expected)
    assert moved == [(number + 1) % problem.config.actor_delay == 0 for number in range(UPDATES)]

    params, statistics = problem.state["params"], problem.state.get("statistics", {})
    pairs = [
        (each_critic(problem, params["critic"]), [q.leaves for q in theirs.critics]),
        (each_critic(problem, problem.state["target"]), theirs.targets),
        (each_critic(problem, statistics.get("critic", ())), [q.running for q in theirs.critics]),
        ([[leaf.numpy() for leaf in tree_leaves(params["actor"])]], [theirs.actor.leaves]),
        ([[leaf.numpy() for leaf in tree_leaves(statistics.get("actor", ()))]], [theirs.actor.running]),
        ([[params["temperature"].numpy()]], [[theirs.log_alpha.leaves[0][0]]]),
    ]
    for ours, expected in pairs:
        for one, other in zip(ours, expected, strict=True):
            for leaf, same in zip(one, other, strict=True):
                np.testing.assert_allclose(leaf, same, rtol=0, atol=1e-9)
