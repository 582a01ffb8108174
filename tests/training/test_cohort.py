"""A cohort is its runs: members never mix, and width changes neither numbers nor the count of operations."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from sac_bench.algorithms.sac import learner
from sac_bench.training.cohort import Cohort
from tests.conftest import tiny

D, A, B = 3, 2, 4


def cohort(overrides, seeds, compiled=False, **shared):
    configs = [tiny(**shared, **o) for o in overrides]
    return Cohort(learner(configs[0], D, A), [c.numbers() for c in configs], seeds, configs[0].dtype, "cpu", compiled)


def data(seed, update, dtype):
    generator = torch.Generator().manual_seed(1000 * seed + update)
    normal = lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)
    return {
        "observation": normal(B, D),
        "action": normal(B, A).tanh(),
        "reward": normal(B, 1),
        "length": torch.ones(B, dtype=dtype),
        "terminated": (normal(B) > 1).to(dtype),
        "next_observation": normal(B, D),
    }


def train(trained, seeds, updates, poison=None):
    for update in range(updates):
        batches = [data(seed, update, trained.dtype) for seed in seeds]
        if poison is not None:
            batches[poison]["reward"][:] = float("nan")
        stacked = {name: torch.stack([b[name] for b in batches]) for name in batches[0]}
        trained.update(lambda moment, stacked=stacked: stacked)
    return trained


OVERRIDES = [
    {},
    {"tau": 0.1, "critic_lr": 3e-3},
    {"learn_temperature": False, "temperature": 0.0, "reward_scale": 20.0},
    {"pessimism": 0.3, "gamma": 0.5, "entropy_in_backup": False, "actor_objective": "first"},
    {"target_period": 7, "tau": 1.0, "target_entropy_scale": 0.5},
]


@pytest.mark.parametrize("value_network", [False, True])
def test_cohort_members_are_single_runs(value_network):
    seeds = [0, 1, 2, 2, 7]
    shared = {"precision": "float64", "value_network": value_network}
    together = train(cohort(OVERRIDES, seeds, **shared), seeds, 100)
    for m, (overrides, seed) in enumerate(zip(OVERRIDES, seeds, strict=True)):
        alone = train(cohort([overrides], [seed], **shared), [seed], 100)
        for name, value in alone.state["params"].items():
            torch.testing.assert_close(together.state["params"][name][m], value[0], rtol=0, atol=1e-9)


def test_cohort_members_differ_by_their_numbers_and_seeds():
    seeds = [0, 0, 1]
    trained = train(cohort([{}, {"tau": 0.5}, {}], seeds), seeds, 5)
    critic = trained.state["params"]["critic"]
    assert not torch.equal(critic[0], critic[1])
    assert not torch.equal(critic[0], critic[2])


def test_cohort_member_that_turns_nan_leaves_the_others_untouched():
    seeds = [0, 1, 2]
    poisoned = train(cohort([{}] * 3, seeds), seeds, 20, poison=1)
    clean = train(cohort([{}] * 3, seeds), seeds, 20)
    assert poisoned.finite().tolist() == [True, False, True]
    for m in (0, 2):
        assert torch.equal(poisoned.state["params"]["critic"][m], clean.state["params"]["critic"][m])


def test_cohort_same_seed_shares_initial_weights_across_variants():
    one, other = cohort([{}], [3]), cohort([{}], [3], value_network=True, critics=1)
    assert torch.equal(one.state["params"]["actor"], other.state["params"]["actor"])
    assert torch.equal(one.state["params"]["critic"][:, :1], other.state["params"]["critic"])


def operations(members):
    seeds = list(range(members))
    profiled = cohort([{}] * members, seeds)
    train(profiled, seeds, 1)
    batches = [data(seed, 1, profiled.dtype) for seed in seeds]
    stacked = {name: torch.stack([b[name] for b in batches]) for name in batches[0]}
    with profile(activities=[ProfilerActivity.CPU]) as record:
        profiled.update(lambda moment: stacked)
    return sum(event.count for event in record.key_averages() if event.key.startswith("aten::"))


def test_cohort_operations_per_update_do_not_depend_on_its_width():
    # M = 1 may skip a copy or two where a stride is trivial; from there on the count is flat.
    assert operations(2) == operations(8) == operations(32)
    assert abs(operations(1) - operations(2)) < 0.05 * operations(2)


@pytest.mark.parametrize("value_network", [False, True])
def test_cohort_compiled_is_eager(value_network):
    seeds = [0, 1]
    overrides = OVERRIDES[:2]
    compiled = train(cohort(overrides, seeds, compiled=True, value_network=value_network), seeds, 10)
    eager = train(cohort(overrides, seeds, value_network=value_network), seeds, 10)
    for name, value in eager.state["params"].items():
        torch.testing.assert_close(compiled.state["params"][name], value, rtol=1e-4, atol=1e-5)
    observation, noise = torch.randn(2, 5, D), torch.randn(2, 5, A)
    for ours, reference in zip(compiled.act(observation, noise), eager.act(observation, noise), strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-4, atol=1e-4)
