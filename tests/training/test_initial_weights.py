"""Learners that start with another's weights: what they take over, and what they do not."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.pytree import named_tensors
from sac_bench.algorithms.running_stats import merged
from sac_bench.errors import InputError
from tests.conftest import tiny
from tests.training.members import cohort, train

ROLLOUTS = {
    "ppo": {"layers": [8], "rollout": 8, "batch_size": 4},
    "a2c": {"layers": [8]},
    "trpo": {"layers": [8], "rollout": 8, "batch_size": 4},
}


def trained(config, seeds=(0, 1), updates=6):
    """Return a cohort with distinct weights: after some updates or, for those that require rollouts, perturbed."""
    made = cohort([config] * len(seeds), seeds)
    if config.algorithm not in ROLLOUTS:
        return train(made, config, updates)
    for leaf in tree_leaves([made.state["params"], made.state["normalizer"]["running_return"]]):
        leaf += 0.1
    seen = merged(made._of_member(0)["normalizer"]["observation"], torch.randn(9, 3))
    for name, leaf in made.state["normalizer"]["observation"].items():
        leaf[0] = seen[name]
    return made


def config_of(algorithm, **options):
    if algorithm not in ROLLOUTS:
        return tiny(algorithm, **options)
    return ALGORITHMS[algorithm].config.model_validate(ROLLOUTS[algorithm] | options)


FORMS = [
    ("sac", {}, {"target": "critic"}),
    ("sac", {"value_network": True}, {"target": "value"}),
    (
        "sac",
        {"target_policy": True, "layer_norm": "all", "normalize_observations": True},
        {"target": "critic", "target_policy": "actor"},
    ),
    ("td3", {}, {"target": ""}),
    ("sql", {"kernel_particles": 4, "value_particles": 4}, {"target": "critic"}),
    *((name, {}, {}) for name in ROLLOUTS),
]


@pytest.mark.parametrize(("algorithm", "options", "targets"), FORMS)
def test_a_warm_start_takes_only_the_weights_of_another_learner(algorithm, options, targets):
    config = config_of(algorithm, **options)
    parent, child, fresh = trained(config), cohort([config] * 2, [5, 6]), cohort([config] * 2, [5, 6])
    child.start(1, parent.weights(0))
    ours, theirs, before = (named_tensors(made.state) for made in (child, parent, fresh))
    handed_on = parent.weights(0)
    assert {name for name in ours if name.startswith("params/")} <= handed_on.keys()
    assert ("normalizer/mean" in handed_on) == options.get("normalize_observations", False)
    for name, leaf in ours.items():
        assert torch.equal(leaf[0], before[name][0]), name  # the other member is as it was
        target = next((part for part in targets if name.startswith(f"{part}/")), None)
        if target:
            of = "/".join(part for part in ("params", targets[target], name.removeprefix(f"{target}/")) if part)
            assert torch.equal(leaf[1], theirs[of][0]), name
        elif name in handed_on:
            assert torch.equal(leaf[1], theirs[name][0]), name
        else:  # optimizer, counters, exploration
            assert torch.equal(leaf[1], before[name][1]), name
    moved = [name for name in handed_on if not torch.equal(theirs[name][0], before[name][1])]
    assert len(moved) >= 4
    train(child, config, 2) if algorithm not in ROLLOUTS else None  # training continues
    assert child.finite().all()


@pytest.mark.parametrize(("learned", "given"), [(True, None), (True, 0.7), (False, None)])
def test_a_learned_temperature_starts_at_the_parents_or_at_the_given_value(learned, given):
    def config(learned, first):
        return tiny(learn_temperature=learned, temperature=first, temperature_lr=0.1)

    parent, child = trained(config(True, 0.3)), cohort([config(learned, 0.5)], [5])
    child.start(0, parent.weights(1), given)
    of_parent = parent.state["params"]["temperature"][1]
    expected = torch.tensor(given or 0.5).log() if given or not learned else of_parent
    assert torch.equal(child.state["params"]["temperature"][0], expected)
    assert of_parent != torch.tensor(0.3).log()


def test_a_warm_start_copies_the_parameters_into_separate_targets():
    config = tiny()
    child = cohort([config], [5])
    child.start(0, trained(config).weights(0))
    child.state["target"][0].weight.zero_()
    assert child.state["params"]["critic"][0].weight.abs().sum() > 0


def test_weights_of_another_shape_are_refused():
    with pytest.raises(InputError, match="params/actor/0/weight is missing or has another shape"):
        cohort([tiny(layers=[9])], [5]).start(0, trained(tiny()).weights(0))
