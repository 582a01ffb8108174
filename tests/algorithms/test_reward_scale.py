"""With a fixed temperature alpha, a reward scale s is a temperature of alpha / s: exactly so in networks.

It holds if the critics' last layers have s times the initial weights and s times the learning rate, because Adam's steps
do not depend on the size of a gradient if its epsilon is negligible. The learner has one learning rate per network, so
the test adds the rest of the last layers' steps itself, after updates in which the policy uses the critics before their
step.
"""

import pytest
import torch
from torch.utils._pytree import tree_leaves, tree_map

from tests.algorithms.problem import Problem

SCALE, ALPHA, UPDATES = 5.0, 0.3, 10
SETTINGS = {"learn_temperature": False, "adam_epsilon": 1e-30, "update_order": "together"}


def scaled_last_layer(network, factor):
    """Return a network whose last layer is multiplied."""
    return (*network[:-1], tree_map(lambda leaf: factor * leaf, network[-1]))


def with_critics(state, critic, target):
    return state | {"params": state["params"] | {"critic": critic}, "target": target}


@pytest.mark.parametrize("critics", [1, 2])
def test_a_reward_scale_is_the_inverse_of_a_fixed_temperature(critics):
    scaled = Problem(critics=critics, reward_scale=SCALE, temperature=ALPHA, **SETTINGS)
    cooler = Problem(critics=critics, reward_scale=1.0, temperature=ALPHA / SCALE, **SETTINGS)
    scaled.state = with_critics(
        scaled.state,
        scaled_last_layer(scaled.state["params"]["critic"], SCALE),
        scaled_last_layer(scaled.state["target"], SCALE),
    )
    for number in range(UPDATES):
        batch, noise = cooler.batch(), cooler.noise()
        before = scaled.state["params"]["critic"][-1]
        scaled.state, _ = scaled.update(number, batch, noise)
        cooler.state, _ = cooler.update(number, batch, noise)
        critic, target = scaled.state["params"]["critic"], scaled.state["target"]
        rest = tree_map(lambda new, old: (SCALE - 1) * (new - old), critic[-1], before)
        scaled.state = with_critics(
            scaled.state,
            (*critic[:-1], tree_map(torch.add, critic[-1], rest)),
            (*target[:-1], tree_map(lambda leaf, more: leaf + scaled.config.tau * more, target[-1], rest)),
        )
    for a, b in zip(
        tree_leaves(scaled.state["params"]["actor"]), tree_leaves(cooler.state["params"]["actor"]), strict=True
    ):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-9)
    for get in (lambda state: state["params"]["critic"], lambda state: state["target"]):
        expected = scaled_last_layer(get(cooler.state), SCALE)
        for a, b in zip(tree_leaves(get(scaled.state)), tree_leaves(expected), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9)


def test_without_the_last_layers_part_they_differ():
    scaled = Problem(reward_scale=SCALE, temperature=ALPHA, **SETTINGS)
    cooler = Problem(reward_scale=1.0, temperature=ALPHA / SCALE, **SETTINGS)
    for number in range(UPDATES):
        batch, noise = cooler.batch(), cooler.noise()
        scaled.state, _ = scaled.update(number, batch, noise)
        cooler.state, _ = cooler.update(number, batch, noise)
    pairs = zip(tree_leaves(scaled.state["params"]["actor"]), tree_leaves(cooler.state["params"]["actor"]), strict=True)
    assert max(float((a - b).abs().max()) for a, b in pairs) > 1e-3
