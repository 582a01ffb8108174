"""A cohort is its runs: members never mix, and width changes neither numbers nor the count of operations."""

import math

import pytest
import torch
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import ALGORITHMS, sac
from sac_bench.algorithms.critics import dropout
from tests.conftest import tiny
from tests.training.members import A, D, batch, cohort, train

SAC_OVERRIDES = [
    {},
    {"tau": 0.1, "actor_lr": 1e-3, "critic_lr": 3e-3, "value_lr": 1e-2, "temperature_lr": 0.03},
    {"learn_temperature": False, "temperature": 0.0, "reward_scale": 20.0},
    {"pessimism": 0.3, "gamma": 0.5, "entropy_in_backup": False, "actor_objective": "first"},
    {"target_period": 7, "tau": 1.0, "target_entropy_scale": 0.5, "log_std_max": 0.1, "temperature": 0.1},
    {"temperature_objective": "alpha", "temperature": 0.3},
    {"actor_objective": "mean", "dropout_rate": 0.4},
    {"actor_weight_decay": 0.1, "critic_weight_decay": 0.3, "adam_epsilon": 0.01},
]
TD3_OVERRIDES = [
    {},
    {"tau": 0.1, "actor_lr": 1e-3, "critic_lr": 3e-3},
    {"target_noise": 1.0, "target_noise_clip": 0.1, "reward_scale": 20.0},
    {"pessimism": 0.3, "gamma": 0.5, "critic_weight_decay": 0.1},
    {"exploration_noise": 0.7, "noise_correlation": 0.85},
]
OVERRIDES = {"sac": SAC_OVERRIDES, "td3": TD3_OVERRIDES, "ddpg": TD3_OVERRIDES}
SEEDS = [0, 1, 2, 2, 7, 7, 3, 4]


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("structure", "updates"),
    [
        ({}, 100),
        ({"value_network": True}, 20),
        ({"critics": 3, "n_step": 3}, 20),
        ({"mixture": 3, "target_policy": True, "normalize_observations": True, "actor_delay": 2}, 20),
        ({"gradient_estimator": "score-function", "log_std_form": "tanh", "log_std_min": -2.0}, 20),
        ({"critics": 3, "target_critics": 2, "dropout": True, "layer_norm": "all", "state_dependent_std": False}, 20),
        ({"algorithm": "td3"}, 20),
        ({"algorithm": "ddpg", "layers": [8, 4]}, 20),
    ],
)
def test_cohort_members_equal_single_runs(structure, updates):
    own = OVERRIDES[structure.get("algorithm", "sac")]
    configs = [tiny(precision="float64", **structure, **overrides) for overrides in own]
    seeds = SEEDS[: len(configs)]
    together = train(cohort(configs, seeds), configs[0], updates)
    for m, (config, seed) in enumerate(zip(configs, seeds, strict=True)):
        alone = train(cohort([config], [seed]), config, updates)
        for ours, single in zip(tree_leaves(together.state), tree_leaves(alone.state), strict=True):
            torch.testing.assert_close(ours[m], single[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(together.record[0][m], alone.record[0][0], rtol=1e-9, atol=1e-9)


SWITCHED = {"huber_delta": 5.0, "max_grad_norm": 50.0, "anneal_steps": 1000}
"""Numbers that are 0 by default, which is another program."""
OPTIMIZER = {
    "actor_weight_decay": 0.5,
    "critic_weight_decay": 0.5,
    "adam_epsilon": 0.1,
    "huber_delta": 0.1,
    "max_grad_norm": 1e-3,
    "anneal_steps": 110,
    "anneal_to": 0.5,
}
# Another value than the default of every number that may differ inside a cohort.
CHANGED: dict[str, dict[str, object]] = {}
CHANGED["sac"] = OPTIMIZER | {
    "actor_lr": 1e-2,
    "critic_lr": 1e-2,
    "value_lr": 1e-2,
    "temperature_lr": 1e-2,
    "gamma": 0.5,
    "tau": 0.5,
    "target_period": 3,
    "reward_scale": 7.0,
    "learn_temperature": False,
    "temperature": 0.1,
    "target_entropy_scale": 0.3,
    "target_entropy": -0.3,
    "scale_temperature": True,
    "entropy_in_backup": False,
    "pessimism": 0.0,
    "actor_objective": "first",
    "log_std_min": -0.1,
    "log_std_max": 0.1,
    "bootstrap_truncated": False,
    "stochastic_updates": False,
    "dropout_rate": 0.3,
    "temperature_objective": "alpha",
    "norm_momentum": 0.5,
    "renorm_after": 2,
    "v_min": -3.0,
    "v_max": 4.0,
    "kappa": 0.1,
    "dropped_atoms": 1,
    "return_bound": 1.0,
}
CHANGED["td3"] = OPTIMIZER | {
    "actor_lr": 1e-2,
    "critic_lr": 1e-2,
    "gamma": 0.5,
    "tau": 0.5,
    "reward_scale": 7.0,
    "pessimism": 0.0,
    "target_noise": 1.0,
    "target_noise_clip": 0.01,
    "exploration_noise": 0.3,
    "noise_correlation": 0.85,
    "bootstrap_truncated": False,
}
NEEDED = {
    "stochastic_updates": {"learn_temperature": False, "temperature": 0.0},
    "scale_temperature": {"reward_scale": 7.0},
}
WITHOUT_EFFECT = {
    "sac": {
        "value_lr": "value_network",
        "dropout_rate": "dropout",
        "norm_momentum": "body",
        "renorm_after": "body",
        "v_min": "body",
        "v_max": "body",
        "kappa": "atoms",
        "dropped_atoms": "atoms",
        "return_bound": "",
    },
    "td3": {"exploration_noise": "", "noise_correlation": ""},
}
"""On what is learned from given data, without the structure that is named."""


@pytest.mark.thorough
@pytest.mark.parametrize(
    "structure",
    [
        {},
        {"value_network": True, "dropout": True},
        {
            "body": "batch-norm-before",
            "renorm_after": 1000,
            "critic_head": "categorical",
            "critic_pool": "lowest",
            "joint_pass": True,
            "project": "weights",
        },
        {"critic_head": "quantile", "critic_pool": "truncated", "atoms": 5},
        {"algorithm": "td3"},
    ],
)
def test_cohort_member_with_any_changed_number_equals_its_single_run(structure):
    algorithm = structure.get("algorithm", "sac")
    assert set(CHANGED[algorithm]) == set(ALGORITHMS[algorithm].config.per_member_fields())
    refused = {"huber_delta"} if "critic_head" in structure else set()
    changed, switched = ({k: v for k, v in of.items() if k not in refused} for of in (CHANGED[algorithm], SWITCHED))
    shared = {"precision": "float64", **switched, **structure}
    configs = [tiny(**shared)]
    configs += [tiny(**shared | {name: value} | NEEDED.get(name, {})) for name, value in changed.items()]
    together = train(cohort(configs, [3] * len(configs)), configs[0], 5)
    for m, config in enumerate(configs):
        alone = train(cohort([config], [3]), config, 5)
        for ours, single in zip(tree_leaves(together.state), tree_leaves(alone.state), strict=True):
            torch.testing.assert_close(ours[m], single[0], rtol=0, atol=1e-9)
        without_effect = {name for name, needed in WITHOUT_EFFECT[algorithm].items() if needed not in structure}
        learned = tree_leaves((together.state["params"]["actor"], together.state["target"]))
        same = all(torch.equal(leaf[m], leaf[0]) for leaf in learned)
        assert same == (m == 0 or list(changed)[m - 1] in without_effect)


@pytest.mark.thorough
@pytest.mark.parametrize("structure", [{}, {"value_network": True}, {"critics": 1}])
def test_cohort_results_are_bit_identical_at_every_width(structure):
    config, dims, states = tiny(layers=[64, 64], batch_size=64, **structure), (17, 6), {}
    for width in (1, 2, 4, 8):
        seeds = [100 + m for m in range(width - 1)] + [5]
        trained = train(cohort([config] * width, seeds, dims=dims), config, 20, dims=dims)
        states[width] = [leaf[-1] for leaf in tree_leaves(trained.state)]
    for width in (2, 4, 8):
        assert all(torch.equal(leaf, other) for leaf, other in zip(states[width], states[1], strict=True))


def test_cohort_members_differ_by_their_numbers_and_seeds():
    configs = [tiny(), tiny(tau=0.5), tiny()]
    critic = train(cohort(configs, [0, 0, 1]), configs[0], 5).state["params"]["critic"][0].weight
    assert not torch.equal(critic[0], critic[1])
    assert not torch.equal(critic[0], critic[2])


def test_cohort_metrics_are_means_since_the_last_request():
    config = tiny()
    one, other = (cohort([config] * 2, [0, 1]) for _ in range(2))
    assert one.pop_metrics()[1].tolist() == [0, 0]
    each = []
    for update in range(3):
        stacked = [batch(config, (D, A), seed, update) for seed in (0, 1)]
        data = {name: torch.stack([b[name] for b in stacked]) for name in stacked[0]}
        for made in (one, other):
            made.update(data, update)
        each.append(other.pop_metrics()[0])
    means, counts = one.pop_metrics()
    assert counts.tolist() == [3, 3]
    assert set(means) == set(one.learner.metrics)
    for name, value in means.items():
        torch.testing.assert_close(value, torch.stack([metrics[name] for metrics in each]).mean(0))
    means, counts = one.pop_metrics()
    assert counts.tolist() == [0, 0]
    assert all(value.isnan().all() for value in means.values())


def test_cohort_detects_a_nonfinite_temperature():
    made = cohort([tiny()] * 2, [0, 1])
    made.state["params"]["temperature"][1] = float("nan")
    assert made.finite().tolist() == [True, False]


def test_cohort_draws_a_dropout_mask_per_update_pass_critic_layer_and_member():
    configs = [tiny(layers=[64, 32], batch_size=32, dropout=True, dropout_rate=rate) for rate in (0.3, 0.01)]
    made = cohort(configs, [0, 1])
    seen = []
    for update in (0, 1):
        moment = made._update_draws.at(made.seeds, update)
        drawn = {name: moment.uniform(f"update/{name}") for name in made.learner.update_uniforms}
        for name in ("target", "critic", "actor"):
            for m, rate in enumerate(made.hyper["dropout_rate"]):
                masks = dropout({key: values[m] for key, values in drawn.items()}, name, rate)
                assert [tuple(mask.shape) for mask in masks] == [(2, 32, 64), (2, 32, 32)]
                kept = torch.cat([mask.flatten() for mask in masks]) > 0
                deviation = math.sqrt(float(rate * (1 - rate)) / len(kept))
                assert float(1 - kept.double().mean()) == pytest.approx(float(rate), abs=4 * deviation)
                assert all(float(mask.max()) == pytest.approx(1 / (1 - float(rate))) for mask in masks)
                seen += [tuple((mask[i, :, :32] > 0).flatten().tolist()) for mask in masks for i in range(2)]
    assert len(seen) == len(set(seen)) == 2 * 3 * 2 * 2 * 2


def test_cohort_draws_target_critics_per_update_and_member():
    made, picked = cohort([tiny(critics=10, target_critics=2)] * 2, [0, 1]), []
    nets, numbered = made.learner.update.args[0], torch.arange(10)
    for update in range(200):
        drawn = made._update_draws.at(made.seeds, update).uniform("update/target_critics")
        picked += [sac.drawn_critics(nets, numbered, {"target_critics": one}).tolist() for one in drawn]
    assert all(first != second for first, second in picked)
    counts = torch.bincount(torch.tensor(picked).flatten(), minlength=10)
    assert ((counts - 80).abs() < 4 * math.sqrt(400 * 0.2 * 0.8)).all()  # each is in a fifth of the 400 draws
    assert picked[::2] != picked[1::2]


def test_cohort_draws_separate_noise_per_update_and_member():
    # Same data, weights and numbers for both members and both updates: what differs is each one's noise.
    config = tiny(actor_lr=1e-12, critic_lr=1e-12, temperature_lr=1e-12)
    trained, same = cohort([config] * 2, [0, 0]), batch(config, (D, A), 0, 0)
    trained.seeds[1] = 1
    stacked = {name: torch.stack([part, part]) for name, part in same.items()}
    entropies = []
    for update in range(2):
        trained.update(stacked, update)
        entropies += trained.pop_metrics()[0]["entropy"].tolist()
    assert len(set(entropies)) == 4


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_cohort_applies_separate_dropout_masks_per_update_and_member(rate):
    # The critics' values of given actions: masks alone can tell one member and update from another.
    config = tiny(actor_lr=1e-12, critic_lr=1e-12, dropout=True, dropout_rate=rate, precision="float64")
    trained, same, values = cohort([config] * 2, [0, 0]), batch(config, (D, A), 0, 0), []
    trained.seeds[1] = 1
    for update in range(2):
        trained.update({name: torch.stack([part, part]) for name, part in same.items()}, update)
        values += [round(q, 7) for q in trained.pop_metrics()[0]["q"].tolist()]
    assert len(set(values)) == (4 if rate else 1)


def test_cohort_draws_separate_noise_for_the_policy_and_the_target():
    made = cohort([tiny()], [0])
    moment = made._update_draws.at(made.seeds, 0)
    assert not torch.equal(moment.normal("update/policy"), moment.normal("update/next_policy"))


def test_cohort_member_that_turns_nan_does_not_affect_the_others():
    config, seeds = tiny(), [0, 1, 2]
    poisoned = train(cohort([config] * 3, seeds), config, 20, poison=1)
    clean = train(cohort([config] * 3, seeds), config, 20)
    assert poisoned.finite().tolist() == [True, False, True]
    for ours, expected in zip(tree_leaves(poisoned.state), tree_leaves(clean.state), strict=True):
        assert torch.equal(ours[[0, 2]], expected[[0, 2]])


def test_cohort_initialisation_uses_the_fan_in_of_the_layer_in_every_slice():
    config, seeds = tiny(layers=[50, 40], critics=3, value_network=True), [0, 1, 2, 3]
    made = cohort([config] * 4, seeds)
    nets, params = made.learner.update.args[0], made.state["params"]
    slices = []
    for name, sizes, many in (("actor", nets.actor, None), ("critic", nets.critic, 3), ("value", nets.value, None)):
        for (weight, bias), fan_in in zip(params[name], sizes, strict=False):
            assert weight.shape == (4, *([many] if many else []), fan_in, bias.shape[-1])
            bound = 1 / math.sqrt(fan_in)
            for one, offset in zip(
                weight.reshape(-1, *weight.shape[-2:]), bias.reshape(-1, bias.shape[-1]), strict=True
            ):
                # Uniform on [-bound, bound]: standard deviation bound / sqrt(3), and something near both ends.
                assert float(one.std()) == pytest.approx(bound / math.sqrt(3), rel=0.15)
                assert 0.9 * bound < one.abs().max() <= bound
                assert offset.abs().max() <= bound
                slices.append(tuple(one.flatten().tolist()[:8]))
    assert len(set(slices)) == len(slices) == 3 * 4 * (1 + 3 + 1)


def test_cohort_variants_with_the_same_seed_share_initial_weights():
    one, other = cohort([tiny()], [3]), cohort([tiny(value_network=True, critics=1)], [3])
    for layer, same in zip(one.state["params"]["actor"], other.state["params"]["actor"], strict=True):
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(layer, same, strict=True))
    ours, theirs = one.state["params"]["critic"], other.state["params"]["critic"]
    for (weight, bias), (same_weight, same_bias) in zip(ours, theirs, strict=True):
        assert torch.equal(weight[:, :1], same_weight)
        assert torch.equal(bias[:, :1], same_bias)


def operations(members):
    config, seeds = tiny(), list(range(members))
    profiled = train(cohort([config] * members, seeds), config, 1)
    batches = [batch(config, (D, A), seed, 1) for seed in seeds]
    stacked = {name: torch.stack([b[name] for b in batches]) for name in batches[0]}
    with profile(activities=[ProfilerActivity.CPU]) as record:
        profiled.update(stacked, 1)
    return sum(event.count for event in record.key_averages() if event.key.startswith("aten::"))


def test_cohort_operations_per_update_do_not_depend_on_its_width():
    # M = 1 may skip a copy or two where a stride is trivial; from there on the count is flat.
    assert operations(2) == operations(8) == operations(32)
    assert abs(operations(1) - operations(2)) < 0.05 * operations(2)


def test_cohort_metrics_cover_only_updates_before_a_member_diverged():
    config, seeds = tiny(), [0, 1]
    made = cohort([config] * 2, seeds)
    healthy = train(cohort([config] * 2, seeds), config, 5).pop_metrics()[0]
    train(made, config, 5)
    train(made, config, 3, poison=1)
    means, counts = made.pop_metrics()
    assert counts.tolist() == [8, 5]
    assert all(torch.equal(means[name][1], value[1]) for name, value in healthy.items())
    train(made, config, 2)  # later updates do not matter
    means, counts = made.pop_metrics()
    assert counts.tolist() == [2, 0]
    assert made.finite().tolist() == [True, False]


def test_cohort_infinite_loss_is_divergence_even_if_parameters_are_finite():
    config = tiny(critic_lr=1e-8)
    made = cohort([config] * 2, [0, 1])
    rows = [batch(config, (D, A), seed, 0) for seed in (0, 1)]
    rows[1]["reward"][:] = 1e25  # its square is more than float32 holds
    made.update({name: torch.stack([b[name] for b in rows]) for name in rows[0]}, 0)
    assert all(p.isfinite().all() for p in tree_leaves(made.state["params"]))
    assert made.finite().tolist() == [True, False]
